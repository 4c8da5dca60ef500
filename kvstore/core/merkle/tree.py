"""Hash trees whose leaves are XORs, so that one record's change is two XORs in one leaf, in any order (Merkle 1987; Riak's tictac
trees).

A tree covers the records of one namespace in one partition. A record's item is one 64-bit hash of its store key and its bytes; a
leaf is the XOR of the items of the keys whose hashes end in the leaf's number, and an inner node the XOR of its two children. So:

- A leaf knows nothing of the order of updates, and a rebuild may run beside them: what a scan of a snapshot adds and what changed
  since XOR to the same leaf in any order. The snapshot must hold exactly the updates made before the rebuild began.
- Folding halves gives the tree of one level less: trees of different depths compare at the lesser one. Inner nodes and the root are
  folded when they are asked for; an update costs nothing for them.
- Leaves are 8 bytes. At 4 to 32 keys a leaf that is 0.25 to 2 bytes a key, and about 300 bytes for a tree with few keys: 256
partitions
  of a namespace of a million keys take 0.4 to 2.1 MB, 256 nearly empty ones 80 kB; one with no key at all takes nothing.

Persistence: leaves are not written with each record. They change when the commit that changed the record completes, so they tell
what is durable. A clean stop stores `dump`s, under the marker of that stop; an unclean one stores nothing, and the trees are
rebuilt in the background (forest.py). Pure; two different sets of records have equal roots by a chance of 2^-64.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from struct import Struct, pack, unpack

import google_crc32c
from xxhash import xxh3_64_intdigest

DEPTH_MIN = 4
DEPTH_MAX = 20
KEYS_PER_LEAF = 4
KEYS_PER_LEAF_MAX = 32
LEAF_BYTES = 8

_DUMP = Struct(">BBQ")  # format, depth, keys
_FORMAT = 1


class DamagedTree(Exception):
    """The bytes are no tree that this version stored: rebuild it."""


def key_hash(store_key: bytes) -> int:
    """What places a key in its tree: the low bits number its leaf."""
    return xxh3_64_intdigest(store_key)


def item_of(key: int, record: bytes) -> int:
    """What a record whose key hashes to `key` adds to its leaf."""
    return xxh3_64_intdigest(record, key)


def items_of(store_keys: Sequence[bytes], records: Sequence[bytes | None]) -> list[int]:
    """The item of each record, 0 where there is none."""
    hashed = xxh3_64_intdigest
    return [
        0 if record is None else hashed(record, hashed(store_key)) for store_key, record in zip(store_keys, records, strict=True)
    ]


def depth_for(keys: int) -> int:
    """The depth at which so many keys are `KEYS_PER_LEAF` a leaf, or up to twice as many."""
    return min(DEPTH_MAX, max(DEPTH_MIN, (keys // KEYS_PER_LEAF).bit_length() - 1))


class HashTree:
    """The tree of one namespace in one partition. `keys` counts the records, tombstones included."""

    __slots__ = ("depth", "keys", "leaves", "mask")

    def __init__(self, depth: int = DEPTH_MIN) -> None:
        assert 0 <= depth <= DEPTH_MAX
        self.depth = depth
        self.mask = (1 << depth) - 1
        self.leaves = array("Q", bytes(LEAF_BYTES << depth))
        self.keys = 0

    def update(self, store_key: bytes, old: bytes | None, new: bytes | None) -> None:
        """The key's record was `old`, and is `new`; None: there is none. `forest.Forest.apply` is this for a batch."""
        key = xxh3_64_intdigest(store_key)
        change = 0
        if old is not None:
            change = xxh3_64_intdigest(old, key)
            self.keys -= 1
        if new is not None:
            change ^= xxh3_64_intdigest(new, key)
            self.keys += 1
        self.leaves[key & self.mask] ^= change

    @property
    def root(self) -> int:
        """Equal for equal sets of records, whatever the depths."""
        return self.nodes(0)[0]

    def nodes(self, depth: int) -> array[int]:
        """All nodes at `depth`, which is at most the tree's, by number; those below node i are i, i + 2^depth, i + 2 * 2^depth,
        …"""
        assert 0 <= depth <= self.depth
        # One integer of all leaves: XORing its halves folds a level without leaving C.
        folded = int.from_bytes(self.leaves.tobytes(), "little")
        for level in range(self.depth - 1, depth - 1, -1):
            bits = 8 * LEAF_BYTES << level
            folded = (folded >> bits) ^ (folded & ((1 << bits) - 1))
        nodes = array("Q")
        nodes.frombytes(folded.to_bytes(LEAF_BYTES << depth, "little"))
        return nodes

    @property
    def is_crowded(self) -> bool:
        """Whether it has so many keys a leaf that a difference costs too many rows: rebuild it at `depth_for(keys)`."""
        return self.keys > KEYS_PER_LEAF_MAX << self.depth and self.depth < DEPTH_MAX

    @property
    def is_roomy(self) -> bool:
        """Whether it has fewer keys than leaves: fold it to `depth_for(keys)`."""
        return self.keys < 1 << self.depth and self.depth > DEPTH_MIN

    def fold_to(self, depth: int) -> None:
        """Makes it a tree of `depth`, which is at most its own."""
        self.leaves = self.nodes(depth)
        self.depth = depth
        self.mask = (1 << depth) - 1

    def copy(self) -> HashTree:
        """The tree as it is now; the exchange compares with this one while updates go on."""
        twin = HashTree(self.depth)
        twin.leaves = self.leaves[:]
        twin.keys = self.keys
        return twin

    def dump(self) -> bytes:
        """format u8 | depth u8 | keys u64 | leaves u64 each | crc32c, for a clean stop."""
        body = _DUMP.pack(_FORMAT, self.depth, self.keys) + pack_nodes(self.leaves)
        return body + int(google_crc32c.value(body)).to_bytes(4, "big")

    @classmethod
    def load(cls, data: bytes) -> HashTree:
        """The tree of a `dump`. Raises `DamagedTree`."""
        body = data[:-4]
        if len(body) < _DUMP.size or google_crc32c.value(body) != int.from_bytes(data[-4:], "big"):
            raise DamagedTree(f"{len(data)} bytes fail their checksum")
        form, depth, keys = _DUMP.unpack_from(body)
        if form != _FORMAT or depth > DEPTH_MAX or len(body) != _DUMP.size + (LEAF_BYTES << depth):
            raise DamagedTree(f"format {form}, depth {depth}, {len(data)} bytes")
        tree = cls(depth)
        tree.keys = keys
        tree.leaves = unpack_nodes(body[_DUMP.size :])
        return tree

    def check(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Asserts that the tree is that of `records`, built anew; for tests and simulation."""
        fresh = HashTree(self.depth)
        for store_key, record in records:
            fresh.update(store_key, None, record)
        assert (self.keys, self.leaves) == (fresh.keys, fresh.leaves), "the tree has drifted from the records"


def pack_nodes(nodes: Sequence[int]) -> bytes:
    """Nodes as they travel: 8 bytes each, big-endian."""
    return pack(f">{len(nodes)}Q", *nodes)


def unpack_nodes(data: bytes) -> array[int]:
    """What `pack_nodes` packed. Raises `DamagedTree`."""
    if len(data) % LEAF_BYTES:
        raise DamagedTree(f"{len(data)} bytes are no nodes")
    return array("Q", unpack(f">{len(data) // LEAF_BYTES}Q", data))
