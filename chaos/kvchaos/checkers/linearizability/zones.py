"""Registers of reads and unique writes, decided by zones in n log n (Gibbons and Korach, SIAM J. Computing 26, 1997). Pure.

A write and the reads that found its value are a cluster, and stand together in every legal order. With f its earliest end and s its
latest beginning, cluster A must come before B if f(A) < s(B): something of A was over before something of B began. The history is
linearizable exactly if no two clusters must each come before the other, and no read ended before its write began. What the register
held at first was written before everything.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kvchaos.checkers.linearizability.operations import Kind, Op, Value


@dataclass(slots=True)
class Cluster:
    """A value's write (None: what was there at first) and its reads: the first of them to end and the last to begin. `f` and `s`
    are their times."""

    value: Value
    write: Op | None
    first: Op | None
    last: Op | None

    @property
    def f(self) -> float:
        """The earliest end."""
        return float("-inf") if self.write is None else float("inf") if self.first is None else self.first.ended

    @property
    def s(self) -> float:
        """The latest beginning."""
        return float("-inf") if self.last is None else self.last.began


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Why there is no order: `ops` in the order of their beginnings, and a sentence on them."""

    text: str
    ops: tuple[Op, ...]


def is_for_zones(ops: Sequence[Op], initial: Value = None) -> bool:
    """Whether there are only reads and writes, each of a value of its own."""
    written = [op.new for op in ops if op.kind is Kind.WRITE]
    return all(op.kind in (Kind.READ, Kind.WRITE) for op in ops) and len({*written, initial}) == len(written) + 1


def find_contradiction(ops: Sequence[Op], initial: Value = None) -> Contradiction | None:
    """None for operations in an order of which each read finds the last write. They are as `is_for_zones` says."""
    clusters = {op.new: Cluster(op.new, op, op, op) for op in ops if op.kind is Kind.WRITE}
    clusters[initial] = Cluster(initial, None, None, None)
    for op in ops:
        if op.kind is not Kind.READ:
            continue
        cluster = clusters.get(op.old)
        if cluster is None:
            return Contradiction(f"{shown(op.old)} was read, and nobody wrote it", (op,))
        if cluster.write is not None and op.ended < cluster.write.began:
            return Contradiction(f"{shown(op.old)} was read before it was written", (op, cluster.write))
        if cluster.first is None or op.ended < cluster.first.ended:
            cluster.first = op
        if cluster.last is None or op.began > cluster.last.began:
            cluster.last = op
    return _conflict([cluster for cluster in clusters.values() if cluster.last is not None])


def _conflict(clusters: list[Cluster]) -> Contradiction | None:
    """Two clusters each of which must come before the other."""
    forward = sorted((cluster for cluster in clusters if cluster.f < cluster.s), key=lambda cluster: cluster.f)
    for earlier, later in pairwise(forward):
        # Those before `earlier` end before it begins, or we would not be here.
        if later.f < earlier.s:
            return _contradiction(earlier, later)
    begins = [cluster.f for cluster in forward]
    for cluster in clusters:
        at = bisect_left(begins, cluster.s) - 1
        if cluster.f >= cluster.s and at >= 0 and cluster.f < forward[at].s:
            return _contradiction(forward[at], cluster)
    return None


def _contradiction(one: Cluster, other: Cluster) -> Contradiction:
    text = (
        f"{shown(one.value)} was there before {shown(other.value)} ({_over_before(one, other)}), "
        f"and {shown(other.value)} before {shown(one.value)} ({_over_before(other, one)})"
    )
    parts = (one.write, one.first, one.last, other.write, other.first, other.last)
    ops = dict.fromkeys(part for part in parts if part is not None)
    return Contradiction(text, tuple(sorted(ops, key=lambda op: op.began)))


def _over_before(one: Cluster, other: Cluster) -> str:
    assert other.last is not None
    if one.write is None:
        return "at first"
    assert one.first is not None
    return f"{told(one.first)} was over before {told(other.last)} began"


def shown(value: Value) -> str:
    """A register's value in a sentence."""
    return "nothing" if value is None else str(value)


def told(op: Op) -> str:
    """An operation in a sentence."""
    what = {
        Kind.READ: f"a read of {shown(op.old)}",
        Kind.DIFFER: f"a condition that did not hold ({shown(op.old)})",
        Kind.WRITE: "a delete" if op.new is None else f"the write of {shown(op.new)}",
        Kind.CAS: f"the change of {shown(op.old)} to {shown(op.new)}",
        Kind.ADD: f"an increment by {op.by}" + ("" if op.old is None else f" to {shown(op.old)}"),
    }[op.kind]
    return f"{what} by process {op.call.invoke.process}"
