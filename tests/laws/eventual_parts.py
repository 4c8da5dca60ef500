"""The parts of the eventual model: replicas that lose what they did not sync, and the oracle of causal histories."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from kvstore.core.record import decode, encode_context
from kvstore.core.versions import NOTHING, make_dot

LEASE = 10
PLANTS = {
    "bareevent": "the new event is sent, not the whole record (safety rule 1)",
    "sameepoch": "a crashed replica goes on under its old epoch (rule 2)",
    "ackearly": "a replica acknowledges before it has synced (rule 3)",
    "vectorcontext": "a read hands out the vector of one replica with the siblings of another",
    "newest": "a merge keeps the sibling with the highest dot",
    "forgetid": "ids of superseded siblings are not remembered (rule 8)",
    "twodots": "a write that was executed twice is read twice",
    "byid": "an execution is superseded with any other of its id",
    "puttakesall": "the context of a put is the whole vector, also where siblings are left",
    "unseendots": "the dots of a context are taken for vector rows",
    "nohorizon": "a coordinator forgets that it took a context on trust",
    "nofloor": "an id that may have been forgotten is executed",
    "firsttrusted": "an id that may have been forgotten is executed if the message says that it is the first attempt",
}


class Broken(AssertionError):
    """A promise the model saw broken; the argument says where."""


@dataclass(slots=True, frozen=True)
class Copy:
    """A record and what the oracle knows of it: executions it has held, and those that it covers (more, after blind contexts)."""

    record: bytes | None = None
    seen: frozenset[int] = frozenset()
    past: frozenset[int] = frozenset()


@dataclass(slots=True)
class Request:
    """One write as its client sends it, however often."""

    write: int
    request_id: bytes
    token: bytes
    value: bytes | None
    past: frozenset[int]
    client: Client


@dataclass(slots=True)
class Client:
    """What a client was told last, how slow its clock is, and what it still waits for."""

    behind_ms: int
    token: bytes = encode_context(NOTHING)
    past: frozenset[int] = frozenset()
    waiting: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class Settings:
    """What the model varies: which rule is left out, and how much of request ids is remembered."""

    plant: str = ""
    retries_max: int = 64
    window_ms: int = 10_000
    ahead_ms: int = 0  # how fast one client's clock is


def value_of(write: int) -> bytes | None:
    """What a write writes; every fifth is a delete."""
    return str(write).encode() if write % 5 else None


class Replica:
    """A home replica: what it has merged, what of that is durable, and its leased dots."""

    def __init__(self, number: int, rng: random.Random, plant: str, merged: Callable[[Copy, Copy], Copy]) -> None:
        self.number, self.rng, self.plant, self.merged = number, rng, plant, merged
        self.durable, self.unsynced = Copy(), list[Callable[[], None]]()
        self.actor, self.counter, self.lease = b"", 0, 0
        self.start(fresh=True)

    def start(self, *, fresh: bool = False) -> None:
        """Starts, at first or after a crash: what was not synced is gone."""
        self.latest, self.unsynced = self.durable, []
        if fresh or self.plant != "sameepoch":
            self.actor = bytes((0, 0, 0, self.number)) + self.rng.randbytes(8)
            self.counter = self.lease = 0
        else:
            self.counter = self.lease = self.lease + LEASE

    def next_dot(self) -> bytes:
        """A dot under the lease, which is made longer ahead of use."""
        self.counter += 1
        self.lease = max(self.lease, self.counter + LEASE if self.counter > self.lease else 0)
        return make_dot(self.actor, self.counter)

    def merge(self, copy: Copy, done: Callable[[], None]) -> None:
        """Takes in a whole record from elsewhere; `done` is called once it is durable."""
        self.latest = self.merged(self.latest, copy)
        self.unsynced.append(done)
        if self.plant == "ackearly":
            done()

    def sync(self) -> None:
        """Makes everything durable, then acknowledges it."""
        waiting, self.durable, self.unsynced = self.unsynced, self.latest, []
        for done in waiting:
            done()


class Oracle:
    """What every execution was of and had seen, and what follows from it for any copy."""

    def __init__(self) -> None:
        self.write_of: list[int] = []
        self.dot_of: list[bytes] = []
        self.knows: list[frozenset[int]] = []

    def note(self, write: int, dot: bytes, told: frozenset[int], base: Copy) -> int:
        """A new execution, whose author was told of `told`. What it has seen is fixed now: every live execution of a told write."""
        live = self.maximal(base)
        writes = {self.write_of[execution] for execution in live & told}
        self.write_of.append(write)
        self.dot_of.append(dot)
        self.knows.append(told | {execution for execution in live if self.write_of[execution] in writes})
        return len(self.write_of) - 1

    def has_seen(self, copy: Copy, write: int) -> bool:
        """Whether an execution of `write` is in the copy's history."""
        return any(self.write_of[execution] == write for execution in copy.past)

    def maximal(self, copy: Copy) -> frozenset[int]:
        """The executions `copy` has held that nothing in its history has seen."""
        return copy.seen.difference(*(self.knows[execution] for execution in copy.past))

    def is_alone(self, copy: Copy, execution: int) -> bool:
        """Whether the write of `execution`, live, is all that is left."""
        live = self.maximal(copy)
        return execution in live and {self.write_of[other] for other in live} == {self.write_of[execution]}

    def check(self, copy: Copy, where: str, read: Callable[[bytes], list[bytes]]) -> Copy:
        """`copy`, whose siblings, and values `read`, are what its history says. Raises `Broken`."""
        if copy.record is None:
            return copy
        record, truth = decode(copy.record), self.maximal(copy)
        record.check()
        if {sibling.dot for sibling in record.siblings} != {self.dot_of[execution] for execution in truth}:
            raise Broken(where)
        writes = sorted({self.write_of[execution] for execution in truth})
        if read(copy.record) != [value for write in writes if (value := value_of(write)) is not None]:
            raise Broken(f"{where}: read")
        return copy
