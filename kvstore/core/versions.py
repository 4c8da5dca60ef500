"""Dotted version vector sets: what a key's record means, and how two records of one key become one.

A record is one version vector plus siblings, each tagged with the dot (actor, counter) of the write that made it (Preguiça et al.,
"Dotted Version Vectors", 2012; Riak's `riak_object`). A value is dropped in a merge iff the other side's vector covers its dot and
the other side does not hold it. Nothing is ever pruned. On top of that a record remembers request ids, so that a retry through
another coordinator is the same write (safety rule 8): an id that is remembered is answered, not executed. Where the second
coordinator could not know and executed it again, each execution is judged by its own dot, and those that are live together read as
one sibling. Merging by id would lose data: two overwrites retried in the other order would each be superseded by the other.

This file is the plain meaning, one function per idea. `record.py` has the bytes and the fast paths, and a law that they agree.
Pure; called by record.py, and through it by the store and the coordinator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kvstore.core.hlc import physical_ms

FOREVER_MS = 1 << 48
"""Later than every time of expiry there is."""
TOUCHES_MAX = 0xFFFF

ACTOR_BYTES = 12
DOT_BYTES = 20
REQUEST_ID_BYTES = 16
NO_REQUEST = bytes(REQUEST_ID_BYTES)

HORIZON = b"\xff" * ACTOR_BYTES
"""No actor, but a row of the vector that joins like one: its counter is a time (Unix milliseconds). A record whose context covered
writes that it had never held does not know their request ids; those were issued up to this time."""

Vector = dict[bytes, int]
"""Actor (12 bytes: node tag, random epoch) to the highest counter seen; covers every dot of that actor up to it."""


def make_dot(actor: bytes, counter: int) -> bytes:
    """20 bytes: the actor and the counter, which order by actor and then by counter."""
    return actor + counter.to_bytes(8, "big")


def covers(vector: Mapping[bytes, int], dot: bytes) -> bool:
    """Whether `vector` has seen the event `dot`."""
    return vector.get(dot[:ACTOR_BYTES], 0) >= int.from_bytes(dot[ACTOR_BYTES:], "big")


def join(left: Mapping[bytes, int], right: Mapping[bytes, int]) -> Vector:
    """The least vector that covers both."""
    joined = dict(left)
    for actor, counter in right.items():
        if counter > joined.get(actor, 0):
            joined[actor] = counter
    return joined


def descends(left: Mapping[bytes, int], right: Mapping[bytes, int]) -> bool:
    """Whether `left` covers every event that `right` does."""
    return all(left.get(actor, 0) >= counter for actor, counter in right.items() if actor != HORIZON)


def issued_ms(request_id: bytes) -> int:
    """When a request id was made, by its first six bytes (Unix milliseconds)."""
    return int.from_bytes(request_id[:6], "big")


@dataclass(slots=True, frozen=True)
class Sibling:
    """One live execution of a write: its value or tombstone, and everything said about it. What may change under its dot is when it
    expires (`touches` counts how often that was changed) and that it has expired: see `latest_of`."""

    dot: bytes
    request_id: bytes = NO_REQUEST
    hlc: int = 0
    expires_ms: int = 0
    tombstone: bool = False
    value: bytes = b""
    touches: int = 0

    def has_expired(self, now_ms: int) -> bool:
        """Whether it reads as absent by now, of itself."""
        return 0 < self.expires_ms <= now_ms


@dataclass(slots=True, frozen=True)
class Context:
    """What a writer says it has seen: a vector, and single dots beyond it. `overwrite`: plus whatever the coordinator holds."""

    vector: Mapping[bytes, int] = field(default_factory=dict)
    dots: frozenset[bytes] = frozenset()
    overwrite: bool = False

    def sees(self, dot: bytes) -> bool:
        """Whether a write in this context supersedes `dot`."""
        return dot in self.dots or covers(self.vector, dot)


OVERWRITE = Context(overwrite=True)
NOTHING = Context()


@dataclass(slots=True, frozen=True)
class Record:
    """A key's whole state. `siblings` are sorted by dot; `retries` maps request ids to the dots of their superseded executions; ids
    issued at or before `floor_ms` may have been forgotten."""

    vector: Vector = field(default_factory=dict)
    siblings: tuple[Sibling, ...] = ()
    retries: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    floor_ms: int = 0

    def known(self, request_id: bytes) -> bytes | None:
        """The dot under which `request_id` was executed, a live one if there is one; None if this record does not remember it."""
        if request_id == NO_REQUEST:
            return None
        for sibling in self.siblings:
            if sibling.request_id == request_id:
                return sibling.dot
        dots = self.retries.get(request_id)
        return min(dots) if dots else None

    def check(self) -> None:
        """Asserts every invariant that one record alone can show."""
        live = [sibling.dot for sibling in self.siblings]
        assert live == sorted(set(live)), "sorted by dot, and a dot names one execution"
        assert all(covers(self.vector, dot) for dot in live)
        for request_id, dots in self.retries.items():
            assert dots and request_id != NO_REQUEST and all(covers(self.vector, dot) for dot in dots)
            assert dots.isdisjoint(live), "superseded or live"
            assert issued_ms(request_id) > self.floor_ms


EMPTY = Record()


def merge(left: Record, right: Record) -> Record:
    """The least record that reflects every event of both: commutative, associative and idempotent.

    A sibling is superseded iff one side has seen its dot and does not hold it; its id is then remembered.
    """
    floor_ms = max(left.floor_ms, right.floor_ms)
    retries = dict(left.retries)
    for request_id, dots in right.retries.items():
        retries[request_id] = retries.get(request_id, frozenset()) | dots
    kept: dict[bytes, Sibling] = {}
    for side, other in ((left, right), (right, left)):
        held = {sibling.dot for sibling in other.siblings}
        for sibling in side.siblings:
            if sibling.dot in held or not covers(other.vector, sibling.dot):
                before = kept.get(sibling.dot)
                kept[sibling.dot] = sibling if before is None else latest_of(before, sibling)
            else:
                remember(retries, sibling)
    return Record(
        vector=join(left.vector, right.vector),
        siblings=tuple(kept[dot] for dot in sorted(kept)),
        retries={request_id: dots for request_id, dots in retries.items() if issued_ms(request_id) > floor_ms},
        floor_ms=floor_ms,
    )


def latest_of(one: Sibling, other: Sibling) -> Sibling:
    """Of two states of one execution the later one: touched more often, else the one that lives longer, else the one that has
    expired. A total order, so merges stay commutative and associative. What one replica took for expired comes back only if another
    was told before to keep it longer."""
    return max(one, other, key=_lateness)


def _lateness(sibling: Sibling) -> tuple[int, int, bool]:
    return sibling.touches, sibling.expires_ms or FOREVER_MS, sibling.tombstone


def expire(record: Record, now_ms: int) -> Record:
    """`record` with what has expired by `now_ms` as tombstones (safety rule 10): the same vector, the same dots, no values. Nothing
    is minted, so every replica that does this makes the same record of the same one, whenever it does."""
    if not any(sibling.has_expired(now_ms) and not sibling.tombstone for sibling in record.siblings):
        return record
    siblings = tuple(
        replace(sibling, tombstone=True, value=b"") if sibling.has_expired(now_ms) and not sibling.tombstone else sibling
        for sibling in record.siblings
    )
    return replace(record, siblings=siblings)


def touch(record: Record, now_ms: int, expires_ms: int) -> Record:
    """`record` with every live value expiring at `expires_ms` (0: never), under the dots that they have. A write that supersedes
    one, a delete above all, supersedes it touched or not: a touch brings nothing back."""
    alive = {sibling.dot for sibling in live(record, now_ms)}
    ids = {sibling.request_id for sibling in record.siblings if sibling.dot in alive} - {NO_REQUEST}
    siblings = tuple(
        replace(sibling, expires_ms=expires_ms, touches=min(sibling.touches + 1, TOUCHES_MAX))
        if not sibling.tombstone and not sibling.has_expired(now_ms) and (sibling.dot in alive or sibling.request_id in ids)
        else sibling
        for sibling in record.siblings
    )
    return replace(record, siblings=siblings)


def live(record: Record, now_ms: int) -> list[Sibling]:
    """What the record reads as: values that have not expired, each write once."""
    return [sibling for sibling in distinct(record.siblings) if not sibling.tombstone and not sibling.has_expired(now_ms)]


def remember(retries: dict[bytes, frozenset[bytes]], superseded: Sibling) -> None:
    """Adds the id of a superseded execution to `retries`."""
    if superseded.request_id != NO_REQUEST:
        retries[superseded.request_id] = retries.get(superseded.request_id, frozenset()) | {superseded.dot}


def distinct(siblings: Iterable[Sibling]) -> list[Sibling]:
    """`siblings` with each write once, under its smallest dot, whatever number of coordinators executed it."""
    seen: set[bytes] = set()
    first: list[Sibling] = []
    for sibling in siblings:
        if sibling.request_id == NO_REQUEST or sibling.request_id not in seen:
            seen.add(sibling.request_id)
            first.append(sibling)
    return first


def put(base: Record, write: Sibling, context: Context, *, cutoff_ms: int = 0, retries_max: int = 64) -> Record:
    """`base` with the new event `write` (its dot fresh) made in `context`.

    If the context covers writes that `base` never held, their ids stay unknown here and the horizon rises: a retry issued up to it
    is not executed, because executed anew it could overwrite a write whose author had read it.

    Superseded ids issued before `cutoff_ms`, and the oldest beyond `retries_max`, are forgotten: the floor rises to the newest of
    them. The caller has asked `base.known(write.request_id)` first.
    """
    assert not covers(base.vector, write.dot), "a dot is minted once"
    vector = join(base.vector, context.vector)
    if not descends(base.vector, context.vector):
        now_ms = max(issued_ms(write.request_id), physical_ms(write.hlc))
        vector[HORIZON] = max(vector.get(HORIZON, 0), now_ms)
    actor = write.dot[:ACTOR_BYTES]
    vector[actor] = max(vector.get(actor, 0), int.from_bytes(write.dot[ACTOR_BYTES:], "big"))
    kept: list[Sibling] = [write]
    retries = dict(base.retries)
    seen_ids = {sibling.request_id for sibling in base.siblings if context.sees(sibling.dot)} - {NO_REQUEST}
    for sibling in base.siblings:
        # Who has seen one execution of a write has seen the write, also where it was executed again.
        if context.overwrite or context.sees(sibling.dot) or sibling.request_id in seen_ids:
            remember(retries, sibling)
        else:
            kept.append(sibling)
    retries, floor_ms = forget(retries, base.floor_ms, cutoff_ms, retries_max)
    return Record(vector, tuple(sorted(kept, key=lambda sibling: sibling.dot)), retries, floor_ms)


def forget(
    retries: dict[bytes, frozenset[bytes]], floor_ms: int, cutoff_ms: int, retries_max: int
) -> tuple[dict[bytes, frozenset[bytes]], int]:
    """Drops the ids issued before `cutoff_ms` and the oldest beyond the cap; the floor rises to the newest that went."""
    ids = sorted(retries)
    gone = max(0, len(ids) - retries_max)
    while gone < len(ids) and issued_ms(ids[gone]) < cutoff_ms:
        gone += 1
    if gone:
        floor_ms = max(floor_ms, issued_ms(ids[gone - 1]))
    return {request_id: retries[request_id] for request_id in ids if issued_ms(request_id) > floor_ms}, floor_ms


def context_of(record: Record, dot: bytes, given: Context) -> Context:
    """What the writer of `dot` may say it has seen once `record` holds its write: everything, if its write is all that is left.

    Else the vector it gave and its own dot. The dots it gave need no repeating: whoever has seen `dot` has seen them superseded.
    """
    writes = distinct(record.siblings)
    if len(writes) == 1 and any(sibling.dot == dot for sibling in record.siblings):
        return Context(record.vector)
    return Context(given.vector, frozenset((dot,)))


def unseen_dots(base: Record, context: Context) -> Iterable[bytes]:
    """Dots of `context` that `base` has not seen: it cannot supersede them without knowing what else their actors did."""
    return sorted(dot for dot in context.dots if not covers(base.vector, dot))
