"""Which differences stand while writes go on, as far as hash trees tell it without anybody reading a record. Pure.

Under load two replicas differ at every moment by the writes that one of them has and the other is about to have. To list what
differs then is to read every record, over and over, and to find nothing. But what differs for longer differs at *every* look: a
tree whose roots are equal at any look holds no such difference, and neither does a leaf that is equal at any look. Only where the
two sides differ each time is it worth to list keys (exchange.py). repair/looking.py does the looking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvstore.core.merkle.exchange import ROOT_BYTES, UNKNOWN, Exchange, summarise
from kvstore.core.merkle.forest import Forest

Row = tuple[bytes, bytes]
"""What both sides say of one tree, ours first: depth and root, `ROOT_BYTES` each."""
Roots = Mapping[bytes, Row]


@dataclass(slots=True, frozen=True)
class Differing:
    """The leaves of a tree that differ, numbered at `depth`, in order."""

    depth: int
    leaves: Sequence[int]


def pair_roots(forest: Forest, prefixes: Sequence[bytes], theirs: bytes) -> Roots:
    """Ours beside `theirs`, a `summarise` of the same prefixes. Raises `ValueError` if it is none."""
    if len(theirs) != ROOT_BYTES * len(prefixes):
        raise ValueError(f"{len(theirs)} bytes are no summary of {len(prefixes)} trees")
    mine = summarise(forest, prefixes)
    rows = [slice(at, at + ROOT_BYTES) for at in range(0, len(mine), ROOT_BYTES)]
    return {prefix: (mine[row], theirs[row]) for prefix, row in zip(prefixes, rows, strict=True)}


def is_known(row: Row) -> bool:
    """Whether both sides know their tree."""
    return row[0][0] != UNKNOWN and row[1][0] != UNKNOWN


def differs(row: Row) -> bool:
    """Whether the roots differ; of trees that are known."""
    return row[0][1:] != row[1][1:]


def sort_roots(first: Roots, again: Roots) -> tuple[set[bytes], set[bytes]]:
    """Of prefixes that differed at first: those that are `equal` now, and those that are `moving`, as both sides changed meanwhile.
    What is in neither differs while one side stands still, or is no longer known."""
    equal: set[bytes] = set()
    moving: set[bytes] = set()
    for prefix, row in again.items():
        if not is_known(row):
            continue
        if not differs(row):
            equal.add(prefix)
        elif row[0][1:] != first[prefix][0][1:] and row[1][1:] != first[prefix][1][1:]:
            moving.add(prefix)
    return equal, moving


def at_both(earlier: Differing, now: Differing) -> Differing:
    """The leaves that differ at both looks, numbered at the lesser depth: a tree may have been folded between them."""
    depth = min(earlier.depth, now.depth)
    return Differing(depth, sorted(_folded(earlier.leaves, depth) & _folded(now.leaves, depth)))


def begin_look(forest: Forest, prefix: bytes, at: int | Differing) -> Exchange | None:
    """The exchange about the tree of `prefix` as it is now; None: it is unknown here. `at`: the depth of the other side's tree, or
    the leaves that are asked about once more."""
    tree = forest.tree(prefix)
    if tree is None:
        return None
    return Exchange(tree, at) if isinstance(at, int) else Exchange(tree, at.depth, at.leaves)


def _folded(leaves: Iterable[int], depth: int) -> set[int]:
    return {leaf & ((1 << depth) - 1) for leaf in leaves}
