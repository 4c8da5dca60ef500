"""Store keys: where a key lies in the one ordered map of a node (docs/architecture.md, "Record and version format").

    partition (2 bytes, big-endian) · namespace id (4 bytes, big-endian) · key

Bytewise order then keeps a partition one contiguous range, and a namespace within it another: both are streamed, hashed and
dropped as ranges. Namespace id 0xFFFFFFFF is reserved in every partition, so that six 0xFF bytes start no record's key: behind them
lies what the node keeps for itself (system keys) and what it set aside (quarantined records), after all of partition 65,535.

Pure: bytes in, bytes out. `store`, `epochs`, anti-entropy and handoff build and split keys here and nowhere else.
"""

from __future__ import annotations

from struct import Struct

PREFIX_BYTES = 6
PARTITION_MAX = 0xFFFF
NAMESPACE_ID_MAX = 0xFFFFFFFE  # 0xFFFFFFFF is reserved: see above

SYSTEM_PREFIX = b"\xff" * PREFIX_BYTES
# The byte after the prefix tells the two apart, and is below 0xFF, so that SYSTEM_PREFIX + 0xFF is past every key of a node.
_NAMED = SYSTEM_PREFIX + b"n"
_QUARANTINED = SYSTEM_PREFIX + b"q"

_PREFIX = Struct(">HI")

NAMESPACE_AT = slice(2, PREFIX_BYTES)
"""Where a store key has the id of its namespace."""

Range = tuple[bytes, bytes]
"""start <= key < end."""


def store_key_prefix(partition: int, namespace_id: int) -> bytes:
    """What every store key of a namespace in a partition starts with; the rest of the store key is the key itself."""
    assert 0 <= partition <= PARTITION_MAX, partition
    assert 0 <= namespace_id <= NAMESPACE_ID_MAX, namespace_id
    return _PREFIX.pack(partition, namespace_id)


def split_store_key(store_key: bytes) -> tuple[int, int, bytes]:
    """(partition, namespace id, key) of a record's store key. A system key or anything shorter is a caller's mistake (asserted)."""
    assert len(store_key) >= PREFIX_BYTES, store_key
    assert not store_key.startswith(SYSTEM_PREFIX), store_key
    partition, namespace_id = _PREFIX.unpack_from(store_key)
    return partition, namespace_id, store_key[PREFIX_BYTES:]


def prefix_successor(prefix: bytes) -> bytes | None:
    """The smallest bytes greater than everything that starts with `prefix`; None if there are none (empty, or 0xFF only)."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def partition_range(partition: int) -> Range:
    """Every record of a partition, and no system key."""
    assert 0 <= partition <= PARTITION_MAX, partition
    return _PREFIX.pack(partition, 0), _PREFIX.pack(partition, NAMESPACE_ID_MAX + 1)


def namespace_range(partition: int, namespace_id: int) -> Range:
    """Every record of a namespace in a partition."""
    return prefix_range(partition, namespace_id, b"")


def prefix_range(partition: int, namespace_id: int, key_prefix: bytes) -> Range:
    """The records of a namespace in a partition whose key starts with `key_prefix`."""
    start = store_key_prefix(partition, namespace_id) + key_prefix
    end = prefix_successor(start)
    assert end is not None  # the namespace id is not 0xFFFFFFFF
    return start, end


def system_key(name: bytes) -> bytes:
    """Where the node keeps something of its own, such as its actor's lease. `name` may be any bytes."""
    return _NAMED + name


def system_name_range(prefix: bytes) -> Range:
    """What the node keeps of its own under names that start with `prefix`, which is not empty and does not end in 0xFF."""
    start = system_key(prefix)
    end = prefix_successor(start)
    assert prefix and end is not None
    return start, end


def quarantine_key(store_key: bytes) -> bytes:
    """Where the bytes of a damaged record are set aside, out of reach of every partition's range (safety rule 5)."""
    return _QUARANTINED + store_key


def split_quarantine_key(quarantined: bytes) -> bytes:
    """The store key a quarantined record was found under: the inverse of `quarantine_key`."""
    assert quarantined.startswith(_QUARANTINED), quarantined
    return quarantined[len(_QUARANTINED) :]


def quarantine_range() -> Range:
    """All quarantined records, in the order of their store keys."""
    end = prefix_successor(_QUARANTINED)
    assert end is not None
    return _QUARANTINED, end


def system_range() -> Range:
    """Everything behind the system prefix, quarantined records included."""
    return SYSTEM_PREFIX, SYSTEM_PREFIX + b"\xff"
