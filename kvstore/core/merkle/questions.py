"""What one node asks another about its records (exchange.py says in which order): values, whatever they travel in.

`Roots`      → 9 bytes a tree (`summarise`)
`Nodes`      → an `Answer`; None if the tree is unknown there
`Leaves`     → 16 bytes a key of these leaves (`Listing.packed`)
`Records`    → a `Held`: the records behind key hashes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.core.merkle.exchange import Answer, Ask

ROOTS_MAX = 8192
LEAVES_MAX = 2048
"""Leaves of one question: at most about 64,000 keys of 16 bytes."""
HASHES_MAX = 4096
RECORDS_BYTES_MAX = 1 << 20


@dataclass(slots=True, frozen=True)
class Roots:
    """Of the trees of these prefixes."""

    prefixes: Sequence[bytes]


@dataclass(slots=True, frozen=True)
class Nodes:
    """Of the tree of `prefix`."""

    prefix: bytes
    ask: Ask


@dataclass(slots=True, frozen=True)
class Leaves:
    """The keys of these leaves at `depth`."""

    prefix: bytes
    depth: int
    leaves: Sequence[int]


@dataclass(slots=True, frozen=True)
class Records:
    """Those whose store keys hash to `hashes`, from the store key `start` on (empty: from the first of the prefix)."""

    prefix: bytes
    hashes: Sequence[int]
    start: bytes = b""


@dataclass(slots=True, frozen=True)
class Held:
    """Records by store key, in order; `more_from`: where the rest begins, empty: there is none."""

    store_keys: Sequence[bytes]
    records: Sequence[bytes]
    more_from: bytes = b""


@dataclass(slots=True, frozen=True)
class Summary:
    """The answer to `Roots`: what `exchange.summarise` makes of them, and the positions of those prefixes of which whoever answers
    may have lost records itself: what it does not hold there says nothing."""

    roots: bytes
    unsure: Sequence[int] = ()


Question = Roots | Nodes | Leaves | Records
Reply = Summary | bytes | Answer | Held | None
