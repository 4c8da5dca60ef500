"""Hash to partition: the one function that clients and nodes must agree on for ever.

The top bits of xxh3_64 pick one of 2^k equal partitions (Dynamo, SOSP'07, section 6.2, strategy 3). Changing the algorithm is a
format change: it moves every key.
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

PARTITIONS_MAX = 1 << 16


def partition_shift(partitions: int) -> int:
    """How far to shift a 64-bit hash to the right to get its partition; `partitions` must be a power of two, 1 to 65,536."""
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ValueError(f"partitions must be a power of two between 1 and {PARTITIONS_MAX}, not {partitions}")
    return 64 - (partitions.bit_length() - 1)


def partition_of(key: bytes, shift: int) -> int:
    """The partition of `key`, 0 to partitions - 1."""
    return xxh3_64_intdigest(key) >> shift
