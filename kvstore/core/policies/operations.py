"""The shapes of conflict policies: operations in, records and readings out.

An operation is what a client asks of one key. An event is what the coordinator adds before it knows what comes of it: a fresh dot,
the request id, stamps. A reading is what a get answers. Pure values; the coordinator will make events, the codec operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from kvstore.core.versions import ACTOR_BYTES, NO_REQUEST, OVERWRITE, Context, Record


@dataclass(slots=True, frozen=True)
class Put:
    """The whole value of a key (siblings, lww, merge)."""

    value: bytes


@dataclass(slots=True, frozen=True)
class Delete:
    """Everything that the context has seen of a key goes; what is concurrent stays."""


@dataclass(slots=True, frozen=True)
class Increment:
    """A counter, or the counter `field` of a map, grows by `amount`, which may be negative."""

    amount: int
    field: bytes = b""


@dataclass(slots=True, frozen=True)
class Add:
    """`element` comes into a set, or into the set `field` of a map."""

    element: bytes
    field: bytes = b""


@dataclass(slots=True, frozen=True)
class Remove:
    """Every add of `element` that the context has seen goes."""

    element: bytes
    field: bytes = b""


@dataclass(slots=True, frozen=True)
class Assign:
    """The register `field` of a map becomes `value`."""

    field: bytes
    value: bytes


@dataclass(slots=True, frozen=True)
class Discard:
    """Everything that the context has seen of a map's `field` goes, whatever it is."""

    field: bytes


Operation = Put | Delete | Increment | Add | Remove | Assign | Discard


@dataclass(slots=True, frozen=True)
class Event:
    """What a coordinator gives one write. `dot` is fresh, of its own actor; superseded ids from before `cutoff_ms`, and the oldest
    beyond `retries_max`, are forgotten (versions.put)."""

    dot: bytes
    request_id: bytes = NO_REQUEST
    hlc: int = 0
    expires_ms: int = 0
    cutoff_ms: int = 0
    retries_max: int = 64

    @property
    def actor(self) -> bytes:
        """Who mints."""
        return self.dot[:ACTOR_BYTES]

    @property
    def counter(self) -> int:
        """The how manieth event of its actor."""
        return int.from_bytes(self.dot[ACTOR_BYTES:], "big")


class Kind(IntEnum):
    """What an item of a record is. The numbers are of the format (items.py)."""

    REGISTER = 1
    COUNTER = 2
    ELEMENT = 3
    REMOVED = 4


@dataclass(slots=True, frozen=True)
class Cell:
    """One value of a reading: a register's, a counter's as decimal digits, or a set's element."""

    value: bytes
    dot: bytes
    expires_ms: int = 0
    kind: Kind = Kind.REGISTER
    field: bytes = b""


@dataclass(slots=True, frozen=True)
class Reading:
    """What a get answers: no cells for a key that is not there, several where siblings are shown, or for sets and maps.
    `failure`: why a registered merge function could not be applied, so that siblings are shown instead."""

    cells: tuple[Cell, ...] = ()
    failure: str = ""


class Policy(Protocol):
    """How concurrent writes of one namespace become one record, and what is read from it."""

    @property
    def name(self) -> str:
        """As in the configuration."""
        ...

    def apply(self, base: Record, operation: Operation, event: Event, context: Context = OVERWRITE) -> Record:
        """`base`, which the coordinator holds, with `operation` made as `event` by a client that has seen `context`.

        The coordinator has asked `base.known(event.request_id)`, and has caught up with what the context names. Raises
        `BadRequest` for an operation that the policy has not, `TooLarge` for one that does not fit.
        """
        ...

    def join(self, left: Record, right: Record) -> Record:
        """The least record that reflects every event of both: commutative, associative, idempotent. Mints nothing."""
        ...

    def read(self, record: Record, now_ms: int) -> Reading:
        """What a client is told at `now_ms`."""
        ...
