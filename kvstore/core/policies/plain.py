"""The policies of plain values: siblings, and lww.

`lww` may lose concurrent updates: that is what its name says, and it is never a default. A record keeps one value, the latest of
all that it ever met, by stamp and then by dot. What decides is the stamp alone and not what a vector covers: decided by both, two
replicas could each drop the other's value. A write's stamp is later than that of every value its coordinator holds, so that a
client that reads and writes on is not buried under a fast clock's write. `record.overwrite` may mint for it only where the stamp
is later than the base's: another node's clock may be ahead, and ours may have been set back.
"""

from __future__ import annotations

from kvproto.errors import BadRequest
from kvstore.core.policies.operations import Cell, Delete, Event, Operation, Put, Reading
from kvstore.core.policies.stamps import latest, stamped
from kvstore.core.versions import (
    OVERWRITE,
    Context,
    Record,
    Sibling,
    covers,
    distinct,
    forget,
    issued_ms,
    join,
    latest_of,
    merge,
    put,
    remember,
)


class Siblings:
    """Every concurrent value is kept and shown."""

    __slots__ = ()
    name = "siblings"

    def apply(self, base: Record, operation: Operation, event: Event, context: Context = OVERWRITE) -> Record:
        """A put or delete of the whole key (versions.put)."""
        write = plain_write(operation, event, self.name)
        return put(base, write, context, cutoff_ms=event.cutoff_ms, retries_max=event.retries_max)

    def join(self, left: Record, right: Record) -> Record:
        """The merge of versions.py."""
        return merge(left, right)

    def read(self, record: Record, now_ms: int) -> Reading:
        """Each live write once."""
        return Reading(tuple(_cell(sibling) for sibling in live(record, now_ms)))


class LastWriterWins:
    """The latest value is kept."""

    __slots__ = ()
    name = "lww"

    def apply(self, base: Record, operation: Operation, event: Event, context: Context = OVERWRITE) -> Record:
        """A put or delete of the whole key, later than what is held. A context makes no difference."""
        assert not covers(base.vector, event.dot), "a dot is minted once"
        write = plain_write(operation, stamped(event, base.siblings), self.name)
        retries = dict(base.retries)
        for sibling in base.siblings:
            remember(retries, sibling)
        retries, floor_ms = forget(retries, base.floor_ms, event.cutoff_ms, event.retries_max)
        return Record(join(base.vector, {event.actor: event.counter}), (write,), retries, floor_ms)

    def join(self, left: Record, right: Record) -> Record:
        """The latest value of both; the other's id is remembered."""
        if not left.siblings or not right.siblings:
            return merge(left, right)
        states: dict[bytes, Sibling] = {}
        for sibling in (*left.siblings, *right.siblings):
            known_state = states.get(sibling.dot)
            states[sibling.dot] = sibling if known_state is None else latest_of(known_state, sibling)
        winner = latest(tuple(states.values()))
        floor_ms = max(left.floor_ms, right.floor_ms)
        retries = dict(left.retries)
        for request_id, dots in right.retries.items():
            retries[request_id] = retries.get(request_id, frozenset()) | dots
        for sibling in (*left.siblings, *right.siblings):
            remember(retries, sibling)
        gone = {request_id: dots - {winner.dot} for request_id, dots in retries.items() if issued_ms(request_id) > floor_ms}
        known = {request_id: dots for request_id, dots in gone.items() if dots}
        return Record(join(left.vector, right.vector), (winner,), known, floor_ms)

    def read(self, record: Record, now_ms: int) -> Reading:
        """The one value, if it is there."""
        return Reading(tuple(_cell(sibling) for sibling in live(record, now_ms)))


SIBLINGS = Siblings()
LWW = LastWriterWins()


def plain_write(operation: Operation, event: Event, policy: str) -> Sibling:
    """The sibling of a put or delete. Raises `BadRequest` for anything else."""
    if not isinstance(operation, Put | Delete):
        raise BadRequest(
            f"a key of policy {policy} has no {type(operation).__name__.lower()}; it has: delete, put", subject="policy"
        )
    value = operation.value if isinstance(operation, Put) else b""
    return Sibling(event.dot, event.request_id, event.hlc, event.expires_ms, isinstance(operation, Delete), value)


def live(record: Record, now_ms: int) -> list[Sibling]:
    """Neither tombstones nor expired, each write once."""
    return [sibling for sibling in distinct(record.siblings) if not sibling.tombstone and not 0 < sibling.expires_ms <= now_ms]


def _cell(sibling: Sibling) -> Cell:
    return Cell(sibling.value, sibling.dot, sibling.expires_ms)
