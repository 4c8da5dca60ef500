"""Calls of a history as operations on a register. Pure.

A register holds a value or None, and a value is what JSON says, lists as tuples. What each call of the history becomes:

    read            READ of what it found; one that failed or was never answered says nothing
    write, delete   WRITE of the value, or of None
    cas [old, new]  CAS; one that was refused because the value was another (facts `mismatch`, or `found` with it) is a READ of what
                    was found, or DIFFER where only that is known: the value was not `old`
    put_if_absent   CAS of None
    increment       ADD; the fact `result` says what it came to, where that was told

Any other refusal is certainly not applied and is no operation. What is of unknown outcome may happen at any time after it began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from kvchaos.history import Call

KINDS = frozenset({"read", "write", "delete", "cas", "put_if_absent", "increment"})

Value = Hashable


class Kind(Enum):
    """What an operation does to the register."""

    READ = "read"
    DIFFER = "differ"
    WRITE = "write"
    CAS = "cas"
    ADD = "add"


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation, from `began` to `ended` (infinity: perhaps never). `old`: what must be there, of READ, DIFFER (must not) and
    CAS; `new`: what is then, of WRITE and CAS; of an ADD `by` is added, and `old` is what it came to, None if that was not told."""

    kind: Kind
    old: Value
    new: Value
    began: int
    ended: float
    call: Call
    by: int = 0

    @property
    def is_pure(self) -> bool:
        """Whether it changes nothing."""
        return self.kind is Kind.READ or self.kind is Kind.DIFFER

    @property
    def is_unknown(self) -> bool:
        """Whether it may never have happened."""
        return self.ended == float("inf")


def operations_of(calls: Iterable[Call]) -> dict[str, list[Op]]:
    """Key to the operations on it, in the order of their beginnings; calls of other kinds are left out. Raises `ValueError` for a
    call that is not as the module's text says."""
    found: defaultdict[str, list[Op]] = defaultdict(list)
    for call in calls:
        if call.f in KINDS and (op := _op_of(call)) is not None:
            found[call.key].append(op)
    return {key: sorted(ops, key=lambda op: op.began) for key, ops in sorted(found.items())}


def _op_of(call: Call) -> Op | None:
    ended = call.ended_ns if call.is_ok or call.is_refused else float("inf")
    told: Any = call.invoke.value

    def op(kind: Kind, old: Any = None, new: Any = None, by: int = 0) -> Op:
        return Op(kind, _frozen(old), _frozen(new), call.began_ns, ended, call, by)

    if call.f == "read":
        return op(Kind.READ, call.end.value) if call.is_ok and call.end is not None else None
    if call.f in ("cas", "put_if_absent"):
        old, new = told if call.f == "cas" else (None, told)
        if not call.is_refused:
            return op(Kind.CAS, old, new)
        if call.end is not None and "found" in call.end.facts:
            return op(Kind.READ, call.fact("found"))
        return op(Kind.DIFFER, old) if call.fact("mismatch") else None
    if call.is_refused:
        return None
    if call.f == "increment":
        if not isinstance(told, int):
            raise ValueError(f"event {call.invoke.index}: an increment of a register says by how much, not {told!r}")
        return op(Kind.ADD, call.fact("result"), by=told)
    return op(Kind.WRITE, new=None if call.f == "delete" else told)


def without_unseen(ops: Sequence[Op]) -> list[Op]:
    """`ops` without those of unknown outcome that nobody can have seen: whether they happened makes no difference.

    Whatever stands right behind one of them in some order would have to see its value, unless it is a blind write. So it may be
    left out if nothing that ended after it began saw that value, or would take any (an increment, or a condition that did not
    hold)."""
    kept = list(ops)
    while True:
        seen_until, any_until = _seen_until(kept)
        fewer = [op for op in kept if not op.is_unknown or op.kind is Kind.ADD or op.began <= max(any_until, seen_until(op))]
        if len(fewer) == len(kept):
            return kept
        kept = fewer  # what only they saw is unseen now


def _seen_until(ops: Sequence[Op]) -> tuple[Callable[[Op], float], float]:
    """Until when another operation may have seen what one writes, and until when one ran that would take any value."""
    last: dict[Value, float] = {}
    any_until = -1.0
    for op in ops:
        if op.kind is Kind.READ or (op.kind is Kind.CAS and op.old != op.new):
            last[op.old] = max(last.get(op.old, -1.0), op.ended)
        elif op.kind is not Kind.WRITE:  # also a compare-and-set of a value by itself, which must not be its own witness
            any_until = max(any_until, op.ended)
    return lambda op: last.get(op.new, -1.0), any_until


def _frozen(value: Any) -> Value:
    if isinstance(value, list | tuple):
        return tuple(_frozen(part) for part in value)
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(part)) for name, part in value.items()))
    # 1 and True are equal, and so are 1 and 1.0; on the wire they are not.
    return (
        (type(value).__name__, value) if isinstance(value, bool | float) else (value if isinstance(value, Hashable) else str(value))
    )
