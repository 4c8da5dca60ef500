"""All hash trees of one node: by the prefix of store keys (partition and namespace), which every record's key begins with.

`change` is on the way of every write: the store calls it once a batch, when the commit that changed the records has completed, with
the items of what was held before. So the trees tell what is durable, and a failed commit changes none. The rest is background work.

A tree is *known* (absent: there are no records), or *unknown* (after an unclean stop, or when a record was lost): no root is told
until it is rebuilt. A rebuild adds up a snapshot while updates go to the tree and to the rebuild, in any order, for leaves are
XORs. What must be exact is the cut: the snapshot holds what was committed before `begin_rebuild` and nothing else. A snapshot that
is taken as a job of the commit thread, with `begin_rebuild` called where that job's completion is told among those of the commits,
is cut so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from xxhash import xxh3_64_intdigest

from kvstore.core.merkle.tree import DEPTH_MIN, LEAF_BYTES, HashTree, depth_for, items_of

PREFIX_BYTES = 6
REBUILD_DEPTH = 12
"""Leaves of a rebuild whose number of keys nobody knows, 32 kB; folded when it is done, rebuilt again if they are too few."""
START_DEPTH = 8
"""Leaves of a tree that begins, 2 kB: enough for 8,000 keys, two millions in a namespace. With the fewest that there are, all trees
of a store that is being filled were crowded at the same time, and a quarter of the load went into reading again what had just been
written. One that stops growing is folded to what its keys need."""
START_TREES_MAX = 2048
"""While there are fewer trees than this; 4 MB."""


class Forest:
    """The trees of one node, all known and without records at first. Belongs to one event loop; every method returns at once."""

    __slots__ = ("_rebuilds", "_roomy", "_trees", "_unknown", "_void")

    def __init__(self) -> None:
        self._trees: dict[bytes, HashTree] = {}
        self._rebuilds: dict[bytes, HashTree] = {}
        self._unknown: set[bytes] = set()
        self._roomy: dict[bytes, int] = {}  # how many keys the trees with too many leaves had at the last look
        self._void = HashTree()  # takes the changes of trees that are unknown

    def apply(self, store_keys: Sequence[bytes], olds: Sequence[bytes | None], news: Sequence[bytes | None]) -> None:
        """The records of `store_keys` were `olds` and are `news`, row by row; None: no record. A key may come twice, in order."""
        self.change(store_keys, items_of(store_keys, olds), news)

    def change(self, store_keys: Sequence[bytes], before: Sequence[int], news: Sequence[bytes | None]) -> None:
        """As `apply`, where `before` are the items of what was held (`items_of`): who stages a record has its base in memory, and
        need not keep it there until the commit completes."""
        trees, hashed = self._trees, xxh3_64_intdigest
        for store_key, old, new in zip(store_keys, before, news, strict=True):
            tree = trees.get(store_key[:PREFIX_BYTES]) or self._missing(store_key[:PREFIX_BYTES])
            key = hashed(store_key)
            if not old:
                tree.keys += 1
            if new is None:
                tree.keys -= 1
                tree.leaves[key & tree.mask] ^= old
            else:
                tree.leaves[key & tree.mask] ^= old ^ hashed(new, key)
        if self._rebuilds:
            self._change_rebuilds(store_keys, before, news)

    def _missing(self, prefix: bytes) -> HashTree:
        """The first record of a tree; of an unknown one, nothing is worth keeping."""
        if prefix in self._unknown:
            return self._void
        tree = self._trees[prefix] = HashTree(START_DEPTH if len(self._trees) < START_TREES_MAX else DEPTH_MIN)
        return tree

    def _change_rebuilds(self, store_keys: Sequence[bytes], before: Sequence[int], news: Sequence[bytes | None]) -> None:
        for store_key, old, new in zip(store_keys, before, news, strict=True):
            rebuild = self._rebuilds.get(store_key[:PREFIX_BYTES])
            if rebuild is not None:
                rebuild.keys += (new is not None) - (old != 0)
                key = xxh3_64_intdigest(store_key)
                rebuild.leaves[key & rebuild.mask] ^= old ^ (0 if new is None else xxh3_64_intdigest(new, key))

    def tree(self, prefix: bytes) -> HashTree | None:
        """The tree of `prefix`, None while it is unknown. For reading; compare with a `copy` of it."""
        if prefix in self._unknown:
            return None
        return self._trees.get(prefix) or HashTree(0)

    def counts(self) -> dict[bytes, int]:
        """How many records each known tree has, tombstones included."""
        return {prefix: tree.keys for prefix, tree in self._trees.items()}

    @property
    def is_empty(self) -> bool:
        """Whether no record is held, as far as is known, and nothing is unknown."""
        return not self._unknown and not any(tree.keys for tree in self._trees.values())

    @property
    def size_bytes(self) -> int:
        """What the leaves take, those of rebuilds under way included."""
        held = [*self._trees.values(), *self._rebuilds.values()]
        return sum(len(tree.leaves) * LEAF_BYTES for tree in held)

    # --- background work

    @property
    def unknown_count(self) -> int:
        """How many trees are unknown."""
        return len(self._unknown)

    @property
    def unknown(self) -> list[bytes]:
        """Trees to be rebuilt before anything can be compared."""
        return sorted(self._unknown)

    def crowded(self) -> list[bytes]:
        """Known trees that would be better rebuilt with more leaves. Those that have too many, and no more keys than at the last
        look, are folded on the way."""
        before, self._roomy = self._roomy, {}
        for prefix, tree in self._trees.items():
            if not tree.is_roomy:
                continue
            if tree.keys > before.get(prefix, -1):
                self._roomy[prefix] = tree.keys
            else:
                tree.fold_to(min(tree.depth, depth_for(tree.keys)))
        return sorted(prefix for prefix, tree in self._trees.items() if tree.is_crowded)

    def mark_unknown(self, prefixes: Iterable[bytes]) -> None:
        """What these trees say may be wrong: nothing is told of them until they are rebuilt, and what was begun begins anew."""
        for prefix in prefixes:
            self._unknown.add(prefix)
            self._trees.pop(prefix, None)
            self._rebuilds.pop(prefix, None)

    def forget_all(self) -> None:
        """There is no record any more."""
        for held in (self._trees, self._rebuilds, self._unknown, self._roomy):
            held.clear()

    def begin_rebuild(self, prefix: bytes) -> None:
        """From now on updates count for the rebuild; what was committed before is added from the snapshot."""
        held = self._trees.get(prefix)
        self._rebuilds[prefix] = HashTree(REBUILD_DEPTH if held is None else max(held.depth, depth_for(held.keys)))

    def add_scanned(self, prefix: bytes, store_keys: Sequence[bytes], records: Sequence[bytes]) -> bool:
        """Adds a part of the snapshot; False if the rebuild was given up meanwhile (`mark_unknown`, `drop`)."""
        rebuild = self._rebuilds.get(prefix)
        if rebuild is None:
            return False
        for store_key, record in zip(store_keys, records, strict=True):
            rebuild.update(store_key, None, record)
        return True

    def end_rebuild(self, prefix: bytes) -> bool:
        """The whole snapshot was added: the tree is known, at the depth that its keys need. False if it was given up."""
        rebuild = self._rebuilds.pop(prefix, None)
        if rebuild is None:
            return False
        rebuild.fold_to(min(rebuild.depth, depth_for(rebuild.keys)))
        self._unknown.discard(prefix)
        self._trees[prefix] = rebuild
        return True

    def drop(self, prefix: bytes) -> None:
        """The records of `prefix` are gone (a namespace dropped, a partition moved away)."""
        self._unknown.discard(prefix)
        self._trees.pop(prefix, None)
        self._rebuilds.pop(prefix, None)

    @property
    def prefixes(self) -> list[bytes]:
        """Of every tree that there is, known or not."""
        return sorted({*self._trees, *self._unknown, *self._rebuilds})

    def dump(self) -> Iterator[tuple[bytes, bytes]]:
        """(prefix, bytes) of every known tree, for a clean stop. An unknown one is not stored, so it is unknown at the next
        start."""
        for prefix, tree in sorted(self._trees.items()):
            if tree.keys:
                yield prefix, tree.dump()

    def load(self, prefix: bytes, data: bytes) -> None:
        """A tree that a clean stop stored. Raises `DamagedTree`: mark it unknown."""
        self._trees[prefix] = HashTree.load(data)

    def check(self, prefix: bytes, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Asserts that a known tree is that of `records`, every durable one of the prefix; for tests and simulation."""
        tree = self.tree(prefix)
        if tree is not None:
            tree.check(records)
