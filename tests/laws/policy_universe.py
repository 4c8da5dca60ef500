"""One key of a policy at four replicas, under a random schedule, beside an oracle that remembers histories and no dots.

Replicas apply operations, merge what others hold or once held, sync, and crash: what was not synced is gone there, perhaps not
elsewhere, and the actor is a new one. The oracle knows of each copy which events it reflects, and of each event which it had seen;
what a copy must read as follows from these sets alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from kvstore.core.policies import counters
from kvstore.core.policies.operations import (
    Add,
    Assign,
    Delete,
    Discard,
    Event,
    Increment,
    Kind,
    Operation,
    Policy,
    Put,
    Remove,
)
from kvstore.core.policies.plain import LWW, SIBLINGS
from kvstore.core.policies.typed import COUNTER, MAP, SET
from kvstore.core.versions import EMPTY, OVERWRITE, Context, Record, descends, make_dot

NOW_MS = 1_700_000_000_000
Step = tuple[str, int, int]
STEPS = [*["apply"] * 6, *["merge"] * 4, "sync", "crash", "late", "read", "seen", "seen"]

FIELDS = (b"f", b"g")


def operation_of(policy: Policy, detail: int, number: int) -> Operation:
    """An operation of the policy, the more frequent ones more often."""
    named = FIELDS[detail % 2]
    elements = (b"x", b"y", b"")
    of_map = (
        Increment(number % 7 - 2, named),
        Add(elements[detail % 3], named),
        Assign(named, b"%d" % number),
        Remove(elements[detail % 3], named),
        Discard(named),
        Increment(1, named),
        Assign(named, b""),
        Delete(),
    )
    if policy is COUNTER:
        return Delete() if detail % 5 == 4 else Increment(number % 9 - 3)
    if policy is SET:
        element = elements[detail % 3]
        return (Add(element), Add(element), Remove(element), Add(element), Delete())[detail % 5]
    if policy is MAP:
        return of_map[detail % 8]
    return Delete() if detail % 5 == 4 else Put((b"", b"%d" % number)[detail % 7 > 0])


@dataclass(slots=True, frozen=True)
class Happened:
    """One event: what was asked, under which dot and stamp, and the events that it may take away."""

    operation: Operation
    dot: bytes
    hlc: int
    seen: frozenset[int]


@dataclass(slots=True, frozen=True)
class Copy:
    """A record, and the numbers of the events that it reflects."""

    record: Record = EMPTY
    history: frozenset[int] = frozenset()


@dataclass(slots=True)
class PolicyUniverse:
    """The replicas, everything that happened, and every copy there ever was."""

    policy: Policy
    latest: list[Copy] = field(default_factory=lambda: [Copy()] * 4)
    durable: list[Copy] = field(default_factory=lambda: [Copy()] * 4)
    epochs: list[int] = field(default_factory=lambda: [0] * 4)
    counts: list[int] = field(default_factory=lambda: [0] * 4)
    events: list[Happened] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    read: Copy = Copy()
    now_ms: int = NOW_MS

    def play(self, step: Step) -> None:
        """One step of the schedule, after which the replica reads as the oracle says."""
        name, at, detail = step
        held = self.latest[at]
        self.now_ms += detail % 3
        if name == "apply":
            self.apply(at, detail, OVERWRITE, self.latest[at].history)
        elif name == "seen":
            if descends(self.latest[at].record.vector, self.read.record.vector):
                self.apply(at, detail, Context(self.read.record.vector), self.read.history)
        elif name == "merge":
            self.take(at, self.latest[detail % 4])
        elif name == "late":
            self.take(at, self.copies[detail % len(self.copies)] if self.copies else Copy())
        elif name == "sync":
            self.durable[at] = self.latest[at]
        elif name == "read":
            self.read = self.latest[at]
        else:
            self.latest[at] = self.durable[at]
            self.epochs[at], self.counts[at] = self.epochs[at] + 1, 0
        if self.latest[at] is not held:
            self.check(self.latest[at])

    def apply(self, at: int, detail: int, context: Context, seen: frozenset[int]) -> None:
        """An operation at a replica whose clock is as wrong as its number is high."""
        base, number = self.latest[at], len(self.events)
        operation = operation_of(self.policy, detail, number)
        self.counts[at] += 1
        dot = make_dot(bytes((0, 0, 0, at)) + self.epochs[at].to_bytes(8, "big"), self.counts[at])
        stamp = self.now_ms - 5 * at
        request_id = stamp.to_bytes(6, "big") + number.to_bytes(10, "big")
        event = Event(dot, request_id, stamp << 16, cutoff_ms=self.now_ms - 40, retries_max=6)
        record = self.policy.apply(base.record, operation, event, context)
        taken = self.taken(operation, base.history, base.history & seen)
        hlc = next(sibling.hlc for sibling in record.siblings if sibling.dot == dot)
        self.events.append(Happened(operation, dot, hlc, taken))
        assert record.known(request_id) == dot
        self.store(at, Copy(record, base.history | {number}))

    def taken(self, operation: Operation, held: frozenset[int], seen: frozenset[int]) -> frozenset[int]:
        """Which of the events that a replica holds an operation takes away, whose client has seen `seen`."""
        if not isinstance(operation, Delete | Discard):
            return seen
        moved_on = {
            other
            for other in held - seen
            for event in seen
            if isinstance(self.events[other].operation, Increment) and self.events[other].dot[:12] == self.events[event].dot[:12]
        }
        actors = {(self.events[other].dot[:12], getattr(self.events[other].operation, "field", b"")) for other in moved_on}
        return frozenset(
            event
            for event in seen
            if not isinstance(increment := self.events[event].operation, Increment)
            or (self.events[event].dot[:12], increment.field) not in actors
        )

    def take(self, at: int, copy: Copy) -> None:
        """Merges what was held somewhere, or once."""
        held = self.latest[at]
        self.store(at, Copy(self.policy.join(held.record, copy.record), held.history | copy.history))

    def store(self, at: int, copy: Copy) -> None:
        """Makes `copy` what the replica holds."""
        self.latest[at] = copy
        self.copies.append(copy)

    # --- the oracle

    def check(self, copy: Copy) -> None:
        """Asserts that `copy` is sound and reads as its history says."""
        copy.record.check()
        assert bool(copy.record.siblings) is bool(copy.history), "a key that was written is never empty"
        if self.policy not in (LWW, SIBLINGS):
            counters.check(copy.record)
        cells = sorted((cell.field, int(cell.kind), cell.value) for cell in self.policy.read(copy.record, 0).cells)
        assert cells == sorted(self.expected(copy.history)), copy

    def expected(self, history: frozenset[int]) -> list[tuple[bytes, int, bytes]]:
        """(field, kind, value) of every cell, from the events alone."""
        if self.policy is LWW:
            return self.latest_of(b"", sorted(history))
        cells: list[tuple[bytes, int, bytes]] = []
        if self.policy is SIBLINGS:
            for number in self.standing(history, (Put, Delete), b"", (Put, Delete)):
                cells += self.latest_of(b"", [number])
            return cells
        for name in FIELDS if self.policy is MAP else (b"",):
            added = [self.events[number].operation for number in self.standing(history, (Increment,), name, (Discard, Delete))]
            if added:
                cells.append((name, Kind.COUNTER, b"%d" % sum(one.amount for one in added if isinstance(one, Increment))))
            for element in (b"x", b"y", b""):
                if self.standing(history, (Add,), name, (Discard, Delete, Remove), element):
                    cells.append((name, Kind.ELEMENT, element))
            cells += self.latest_of(name, self.standing(history, (Assign,), name, (Assign, Discard, Delete)))
        return cells

    def standing(
        self,
        history: frozenset[int],
        kinds: tuple[type[Operation], ...],
        name: bytes,
        takers: tuple[type[Operation], ...],
        element: bytes | None = None,
    ) -> list[int]:
        """Events of `kinds` on the field that no taker in the history has seen."""

        def concerns(number: int, wanted: tuple[type[Operation], ...]) -> bool:
            operation = self.events[number].operation
            return (
                isinstance(operation, wanted)
                and (isinstance(operation, Delete | Put) or getattr(operation, "field", b"") == name)
                and (element is None or getattr(operation, "element", element) == element)
            )

        taken = {seen for number in history if concerns(number, takers) for seen in self.events[number].seen}
        return [number for number in sorted(history) if concerns(number, kinds) and number not in taken]

    def latest_of(self, name: bytes, numbers: list[int]) -> list[tuple[bytes, int, bytes]]:
        """The cell of the latest of some writes, unless that is a delete."""
        if not numbers:
            return []
        winner = max(numbers, key=lambda number: (self.events[number].hlc, self.events[number].dot))
        operation = self.events[winner].operation
        return [] if isinstance(operation, Delete) else [(name, Kind.REGISTER, getattr(operation, "value", b""))]


POLICIES: list[Policy] = [SIBLINGS, LWW, COUNTER, SET, MAP]


def played(policy: Policy, steps: list[Step]) -> PolicyUniverse:
    """The universe after `steps`; an operation goes ahead, so that there is a copy."""
    universe = PolicyUniverse(policy)
    for step in [("apply", 0, 0), *steps]:
        universe.play(step)
    return universe


_steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3), st.integers(0, 63)), max_size=20)


def universes(policy: Policy) -> st.SearchStrategy[PolicyUniverse]:
    """Whatever random schedules make of a key of `policy`."""
    return st.builds(played, st.just(policy), _steps)
