"""Counters: increments add up, whatever is concurrent, and a delete takes exactly the increments that it has seen.

Each actor has one sibling a counter: the total of everything it has ever added (a PN-counter whose entries are dotted; Shapiro et
al., 2011). An increment supersedes the actor's own sibling and no other's, so the merge of versions.py keeps the latest of each
actor, and the value is their sum. Nobody but the actor adds to its total, and an actor that lost memory is a new one (safety rule
2): no increment is counted twice or lost.

A delete cannot just drop siblings: an increment made meanwhile carries the old total and would bring it back. It leaves a tombstone
that says of each actor how much was removed, and up to which event. The value is the totals less what was removed; an actor whose
sibling went goes on from the total that was removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvproto.errors import BadRequest
from kvstore.core.policies.events import happen
from kvstore.core.policies.items import (
    Removed,
    decode_item,
    decode_removed,
    decode_total,
    encode_item,
    encode_total,
)
from kvstore.core.policies.operations import Event, Increment, Kind
from kvstore.core.versions import ACTOR_BYTES, Record, Sibling


@dataclass(slots=True, frozen=True)
class Total:
    """One actor's sibling of one counter."""

    sibling: Sibling
    field: bytes
    total: int

    @property
    def actor(self) -> bytes:
        """Whose total."""
        return self.sibling.dot[:ACTOR_BYTES]

    @property
    def counter(self) -> int:
        """Up to which of its events."""
        return int.from_bytes(self.sibling.dot[ACTOR_BYTES:], "big")


def totals(record: Record) -> list[Total]:
    """Every actor's total of every counter."""
    found = []
    for sibling in record.siblings:
        if not sibling.tombstone:
            item = decode_item(sibling.value)
            if item.kind is Kind.COUNTER:
                found.append(Total(sibling, item.field, decode_total(item.payload)))
    return found


def removals(record: Record) -> list[Sibling]:
    """The tombstones that say what was removed of counters."""
    return [sibling for sibling in record.siblings if sibling.tombstone and sibling.value]


def removed(tombstones: Iterable[Sibling]) -> Removed:
    """What was removed, by all of `tombstones` together: of each actor the furthest."""
    rows: Removed = {}
    for sibling in tombstones:
        for key, row in decode_removed(decode_item(sibling.value).payload).items():
            rows[key] = max(rows.get(key, row), row)
    return rows


def increment(base: Record, operation: Increment, event: Event) -> Record:
    """The actor's total of the counter, grown. Raises `BadRequest` beyond 64 bits, and for an expiry: which increments would it
    take?"""
    if event.expires_ms:
        raise BadRequest("a counter does not expire", subject="ttl")
    own = [row for row in totals(base) if row.field == operation.field and row.actor == event.actor]
    before = own[0].total if own else removed(removals(base)).get((operation.field, event.actor), (0, 0))[1]
    value = encode_item(Kind.COUNTER, operation.field, encode_total(before + operation.amount))
    return happen(base, event, gone={row.sibling.dot for row in own}, value=value)


def values(record: Record) -> dict[bytes, tuple[int, bytes]]:
    """(value, newest dot) of each counter that is there: that has increments which nobody removed."""
    gone = removed(removals(record))
    sums: dict[bytes, tuple[int, bytes]] = {}
    for row in totals(record):
        value, dot = sums.get(row.field, (0, b""))
        sums[row.field] = (value + row.total - gone.get((row.field, row.actor), (0, 0))[1], max(dot, row.sibling.dot))
    return sums


def check(record: Record) -> None:
    """Asserts that each actor has one total a counter, and that what was removed is not held."""
    rows, gone = totals(record), removed(removals(record))
    assert len({(row.field, row.actor) for row in rows}) == len(rows), "an actor supersedes its own total"
    for row in rows:
        assert gone.get((row.field, row.actor), (0, 0))[0] < row.counter, "what was removed is not held"
