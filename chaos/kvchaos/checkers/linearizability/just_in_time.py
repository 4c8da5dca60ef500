"""Registers of any operations: a search for a legal order, just in time (Lowe, Testing for Linearizability, 2017). Pure.

The events are gone through in the order of time. A configuration is what the register may hold, with those of the open operations
that have taken place already; when an operation ends it must have taken place, and everything that may have to come before it is
tried. No configuration left: not linearizable, and the operation is the first that no order can place.

Three things keep configurations few, and each loses nothing:

- What changes nothing takes place as soon as it can.
- A blind write that nobody sees need not be tried where it might be: it fits right before any blind write that took place since
  it began. So a configuration remembers when the last of these was (the later, the more it allows), and a write at its end is
  *hidden*.
- Of equal operations of unknown outcome the one that began first takes place first.

The number of configurations looked at is bounded; beyond that the answer is UNKNOWN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from kvchaos.checkers.linearizability.operations import Kind, Op, Value

STEPS_MAX = 300_000
STEPS_EACH_MAX = 60
"""Configurations looked at for one key, and for each of its operations where it has many; one takes 1 to 5 µs."""


class Outcome(Enum):
    """What is known of a key."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the search came to. Of a violation: the operation that has no place, the values the register may have held just before
    its end, and the open operations; `steps` is what it took."""

    outcome: Outcome
    steps: int
    misfit: Op | None = None
    values: tuple[Value, ...] = ()
    beside: tuple[Op, ...] = ()


class _Open:
    """An operation that has begun and not ended: its bit in the masks, when it began (the number of that event), and the bit of the
    equal one that must take place first."""

    __slots__ = ("at", "bit", "by", "kind", "new", "old", "op", "twin")

    def __init__(self, op: Op, *, bit: int, at: int, twin: int) -> None:
        self.op, self.kind, self.old, self.new, self.by = op, op.kind, op.old, op.new, op.by
        self.bit, self.at, self.twin = bit, at, twin


Configurations = dict[tuple[Value, int], int]
"""(value, mask of open operations that have taken place) to the event of the last blind write; -1 for none so far."""


def search(ops: Sequence[Op], initial: Value = None, *, steps_max: int | None = None) -> Answer:
    """Whether there is a legal order of `ops` that keeps the order of those that do not overlap. `steps_max` None: see
    `STEPS_MAX`."""
    steps_max = max(STEPS_MAX, STEPS_EACH_MAX * len(ops)) if steps_max is None else steps_max
    events = [(float(op.began), False, number) for number, op in enumerate(ops)]
    events += [(op.ended, True, number) for number, op in enumerate(ops) if not op.is_unknown]
    events.sort()  # at one time beginnings come first: intervals are closed
    configurations: Configurations = {(initial, 0): -1}
    window = _Window()
    steps = 0
    for at, (_, ends, number) in enumerate(events):
        if not ends:
            window.begin(ops[number], number, at)
            continue
        target = window.open[number]
        if target.op.is_pure and all(mask & target.bit or _holds(target, value) for value, mask in configurations):
            # The usual case, and the only one in which nothing has to be tried.
            following = _without(target.bit, configurations)
        else:
            following, tried = _place(target, configurations, window, at, steps_max - steps)
            steps += tried
        steps += len(configurations)
        if steps > steps_max:
            return Answer(Outcome.UNKNOWN, steps)
        if not following:
            values = tuple(dict.fromkeys(value for value, _ in configurations))
            beside = tuple(one.op for one in window.open.values() if one is not target)
            return Answer(Outcome.VIOLATION, steps, target.op, values, beside)
        configurations = following
        window.end(number)
    return Answer(Outcome.LINEARIZABLE, steps)


class _Window:
    """The operations that are open, by their number."""

    def __init__(self) -> None:
        self.open: dict[int, _Open] = {}
        self.pure: dict[int, _Open] = {}
        self.changing: dict[int, _Open] = {}
        self.wanted: Counter[Value] = Counter()
        """Values that open operations must find."""
        self.takers = 0
        """Open operations that would take nearly any value."""
        self._free: list[int] = []
        self._used = 0
        self._twins: dict[tuple[Kind, Value, Value, int], int] = {}

    def begin(self, op: Op, number: int, at: int) -> None:
        """One more. Bits are used again, except those of operations that never end."""
        if self._free:
            bit = self._free.pop()
        else:
            bit, self._used = 1 << self._used, self._used + 1
        twin = 0
        if op.is_unknown:
            same = (op.kind, op.old, op.new, op.by)
            twin, self._twins[same] = self._twins.get(same, 0), bit
        one = self.open[number] = _Open(op, bit=bit, at=at, twin=twin)
        (self.pure if op.is_pure else self.changing)[number] = one
        self._want(op, 1)

    def end(self, number: int) -> None:
        """One less."""
        one = self.open.pop(number)
        (self.pure if one.op.is_pure else self.changing).pop(number)
        self._free.append(one.bit)
        self._want(one.op, -1)

    def _want(self, op: Op, by: int) -> None:
        if op.kind in (Kind.READ, Kind.CAS):
            self.wanted[op.old] += by
            if not self.wanted[op.old]:
                del self.wanted[op.old]
        elif op.kind is not Kind.WRITE:
            self.takers += by


def _holds(one: _Open, value: Value) -> bool:
    """Whether an operation that changes nothing may take place."""
    return (one.old == value) is (one.kind is Kind.READ)


def _without(bit: int, configurations: Configurations) -> Configurations:
    """The configurations once the operation of `bit` has ended."""
    following: Configurations = {}
    for (value, mask), last in configurations.items():
        _add(following, value, mask & ~bit, last)
    return following


def _add(configurations: Configurations, value: Value, mask: int, last: int) -> None:
    if configurations.get((value, mask), -2) < last:
        configurations[value, mask] = last


def _place(target: _Open, configurations: Configurations, window: _Window, at: int, steps_max: int) -> tuple[Configurations, int]:
    """What may be once `target` has ended, and how many configurations that took. Nothing is tried behind it: that can wait."""
    following: Configurations = {}
    hidden = target.kind is Kind.WRITE
    pure, changing = list(window.pure.values()), list(window.changing.values())
    seen: dict[tuple[Value, int, bool], int] = {}
    waiting: list[tuple[Value, int, int, bool]] = []
    for (value, mask), last in configurations.items():
        if hidden and not mask & target.bit and target.at < last:
            _add(following, value, mask, last)
        waiting.append((value, mask, last, False))
    steps = 0
    while waiting:
        # `unseen`: what took place last was a blind write that nobody has seen yet; it may still be hidden, so do not try it here.
        value, mask, last, unseen = waiting.pop()
        steps += 1
        if steps > steps_max:
            break
        for one in pure:
            if not mask & one.bit and _holds(one, value):
                mask |= one.bit
                unseen = False
        if mask & target.bit:
            _add(following, value, mask & ~target.bit, last)
            continue
        if seen.get((value, mask, unseen), -2) >= last:
            continue
        seen[value, mask, unseen] = last
        for one in changing:
            if mask & one.bit or (one.twin and not mask & one.twin):
                continue
            if one.kind is Kind.WRITE:
                if not unseen and (one is target or window.takers or one.new in window.wanted):
                    waiting.append((one.new, mask | one.bit, at, one is not target))
            elif one.kind is Kind.CAS:
                if one.old == value:
                    waiting.append((one.new, mask | one.bit, last, False))
            elif (total := _total(one, value)) is not None:
                waiting.append((total, mask | one.bit, last, False))
    return following, steps


def _total(one: _Open, value: Value) -> int | None:
    """What an increment makes of a value; None if it cannot have been there."""
    if value is not None and not isinstance(value, int):
        return None
    total = (value or 0) + one.by
    return total if one.old is None or one.old == total else None


def states_of(values: Iterable[Value]) -> str:
    """Values in a sentence."""
    return " or ".join("nothing" if value is None else str(value) for value in values)
