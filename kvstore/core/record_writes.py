"""What a write or a merge makes of records, as bytes: the fast paths that never leave them, and the general ones beside them.

The usual case is one sibling and one event on top of what is held, nearly always of a key that has had one coordinator, whose
vector has one row; keys that have had several are nearly as fast. The general path decodes to `versions.Record`. tests/laws/ holds
the two against each other. The layout is record.py's.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.core.record import (
    HEADER_BYTES,
    ONE_ROW_ONE_SIBLING,
    OVERWRITE_PLUS,
    RETRY_BYTES,
    SIBLING_ROW,
    TOMBSTONE,
    USUAL,
    DamagedRecord,
    decode,
    encode,
    encode_context,
    seal_with,
)
from kvstore.core.versions import (
    ACTOR_BYTES,
    DOT_BYTES,
    EMPTY,
    HORIZON,
    NO_REQUEST,
    NOTHING,
    Context,
    Sibling,
    context_of,
    descends,
    distinct,
    merge,
    put,
    unseen_dots,
)

_ONE_SIBLING_FEW_RETRIES = b"\x00\x01\x00"
_ZERO6 = bytes(6)


def covers_token(record: bytes, token: bytes) -> bool:
    """A quick, sufficient test that whoever holds `token`, which is not empty, has seen nothing that `record` has not, and that a
    write with it overwrites all of the record: the token of all of it, or one that overwrites and names no single dots. Usually
    both have one row, of a key that has had one coordinator."""
    if record[5:7] != b"\x00\x01":
        rows_end = HEADER_BYTES + DOT_BYTES * int.from_bytes(record[5:7], "big")
        if token[1:] == record[5:7] + record[HEADER_BYTES:rows_end]:
            return True
        is_plain = token[0] == OVERWRITE_PLUS and len(token) == 3 + DOT_BYTES * int.from_bytes(token[1:3], "big")
        return is_plain and _rows_cover(record[HEADER_BYTES:rows_end], token[3:])
    if token[3:] == record[17:37]:
        return token[0] == OVERWRITE_PLUS or token[:3] == b"\x01\x00\x01"
    return len(token) == 23 and token[0] == OVERWRITE_PLUS and token[3:15] == record[17:29] and token[15:] <= record[29:37]


def _rows_cover(rows: bytes, others: bytes) -> bool:
    """Whether vector `rows`, which are in order, cover the `others`, which are as well."""
    at, end = 0, len(rows)
    for other in range(0, len(others), DOT_BYTES):
        actor = others[other : other + ACTOR_BYTES]
        while at < end and rows[at : at + ACTOR_BYTES] < actor:
            at += DOT_BYTES
        # Of the same actor, or a later one: as bytes the counter decides only among rows of one actor.
        if rows[at : at + ACTOR_BYTES] != actor or rows[at : at + DOT_BYTES] < others[other : other + DOT_BYTES]:
            return False
    return True


# --- merging


def replaces(new: bytes, held: bytes) -> bool:
    """Whether `new` can be stored over `held` as it is: a quick, sufficient test that their merge is `new`.

    True only for the usual case: one vector row of the same actor with a higher counter, one sibling each, and the request ids that
    `new` remembers are those of `held` plus the write that it superseded (the oldest perhaps forgotten). Anything else is for
    `merge_records`.
    """
    if new[5:9] != ONE_ROW_ONE_SIBLING or held[5:9] != ONE_ROW_ONE_SIBLING:
        return False
    if new[17:29] != held[17:29] or new[29:37] <= held[29:37] or new[11:17] < held[11:17]:
        return False
    held_end = 37 + RETRY_BYTES * int.from_bytes(held[9:11], "big")
    new_end = 37 + RETRY_BYTES * int.from_bytes(new[9:11], "big")
    superseded = held[held_end + 20 : held_end + 36] + held[held_end : held_end + 20]
    return _remembers(new[37:new_end], held[37:held_end], superseded, new[11:17])


def _remembers(remembered: bytes, rows: bytes, superseded: bytes, floor: bytes) -> bool:
    """Whether the retry rows `remembered` are `rows` and the one of what was `superseded` behind them, but for the oldest: these
    must be at or below `floor`, or a retry of them could be taken for a new write."""
    all_rows = rows + superseded
    if not all_rows.endswith(remembered):
        return False
    gone = len(all_rows) - len(remembered)
    if not remembered and rows[-RETRY_BYTES:-30] > floor:
        return False  # where all went, what was superseded last need not be the newest
    return gone == 0 or all_rows[gone - RETRY_BYTES : gone - 30] <= floor


def supersedes(new: bytes, held: bytes) -> bool:
    """As `replaces`, where a key has had several coordinators: `new` covers all events of `held` and has one write that `held` does
    not know. A little slower. Not for records whose policy has a merge of its own."""
    if new[7:10] != _ONE_SIBLING_FEW_RETRIES or held[7:10] != _ONE_SIBLING_FEW_RETRIES or new[11:17] < held[11:17]:
        return False
    if new[5] or held[5]:
        return False
    new_at, held_at = HEADER_BYTES + DOT_BYTES * new[6], HEADER_BYTES + DOT_BYTES * held[6]
    events, known = new[HEADER_BYTES:new_at], held[HEADER_BYTES:held_at]
    if events[-DOT_BYTES:-8] == HORIZON or known[-DOT_BYTES:-8] == HORIZON or not _rows_cover(events, known):
        return False
    new_end, held_end = new_at + RETRY_BYTES * new[10], held_at + RETRY_BYTES * held[10]
    superseded = held[held_end + DOT_BYTES : held_end + RETRY_BYTES]
    if superseded == NO_REQUEST or _rows_cover(known, new[new_end : new_end + DOT_BYTES]):
        return False
    row = superseded + held[held_end : held_end + DOT_BYTES]
    return _remembers(new[new_at:new_end], held[held_at:held_end], row, new[11:17])


def merge_records(held: bytes, new: bytes) -> bytes:
    """The merge of two verified records, as bytes; `held` itself (the same object) when `new` adds nothing.

    The fast paths compute no checksum; the general one does, and raises `DamagedRecord`.
    """
    if held == new:
        return held
    if replaces(new, held):
        return new
    if replaces(held, new):
        return held
    if supersedes(new, held):
        return new
    if supersedes(held, new):
        return held
    merged = encode(merge(decode(held), decode(new)))
    return held if merged == held else merged


def merge_successors(held: Sequence[bytes | None], new: Sequence[bytes]) -> list[bytes] | None:
    """The merges of verified records, pair by pair, where nearly all of `new` were minted on the very record that is held here (or
    on none); None as soon as one adds nothing, is of another format or turns out to be damaged: for the caller to go through one by
    one.

    A record of one vector row (a, c) is the one minted as (a, c), for every other under that actor has another counter, and what it
    was merged with it covers. So a record of one row whose last superseded write is (a, c) was minted on it, and replaces it. With
    more rows `_follows` looks at all of them.
    """
    merged: list[bytes] = []
    add = merged.append
    for mine, record in zip(held, new, strict=True):
        if record[:1] != b"\x01":
            return None
        if mine is not None and not (
            record[5:10] == USUAL
            and mine[5:9] == ONE_ROW_ONE_SIBLING
            and record[17 + RETRY_BYTES * record[10] : 37 + RETRY_BYTES * record[10]] == mine[17:37]
            and record[10]
            and record[17:37] > mine[17:37]
            and record[17:29] == mine[17:29]
        ):
            if _follows(record, mine):
                add(record)
                continue
            try:
                result = merge_records(mine, record)
            except DamagedRecord:
                return None
            if result is mine:
                return None
            add(result)
        else:
            add(record)
    return merged


def _follows(new: bytes, held: bytes) -> bool:
    """Whether `new`, of a key that has had several coordinators, was minted on `held`: it superseded the only write there, and
    knows of the same events but for the one that it adds. A quick, sufficient test that it replaces `held`."""
    if new[5:10] != held[5:10] or new[7:10] != _ONE_SIBLING_FEW_RETRIES or new[5] or not new[10]:
        return False
    events_end = HEADER_BYTES + DOT_BYTES * new[6]
    end, held_end = events_end + RETRY_BYTES * new[10], events_end + RETRY_BYTES * held[10]
    if new[end - DOT_BYTES : end] != held[held_end : held_end + DOT_BYTES] or new[11:17] < held[11:17]:
        return False
    if new[events_end - DOT_BYTES : events_end - 8] == HORIZON:
        return False  # events without their ids: of two that know of the same ones, one may know more ids
    dot = new[end : end + DOT_BYTES]
    at = new.find(dot, HEADER_BYTES, events_end)
    behind = at + DOT_BYTES
    return (
        at >= 0
        and (at - HEADER_BYTES) % DOT_BYTES == 0
        and held[at : at + ACTOR_BYTES] == dot[:ACTOR_BYTES]
        and held[at:behind] < dot
        and new[HEADER_BYTES:at] == held[HEADER_BYTES:at]
        and new[behind:events_end] == held[behind:events_end]
    )


# --- minting


def first_record(dot: bytes, request_id: bytes, hlc: int, expires_ms: int, value: bytes | None) -> bytes:
    """The record of a key's first write; `value` None is a tombstone."""
    data = value or b""
    head = SIBLING_ROW.pack(dot, request_id, hlc, expires_ms, TOMBSTONE if value is None else 0, len(data))
    return seal_with(b"\x00\x01\x00\x01\x00\x00" + _ZERO6 + dot + head, data)


def overwrite(
    base: bytes, dot: bytes, request_id: bytes, hlc: int, expires_ms: int, value: bytes | None, cutoff6: bytes, retries_max: int
) -> bytes | None:
    """`base` overwritten by a new event, without leaving the bytes; None where the general path has to decide.

    The usual case: one sibling, usually one vector row of the minting actor, an id newer than those remembered and not at or
    below the floor (such a one may be a retry of a write that was forgotten). `cutoff6` is the retry window's start as six bytes.
    """
    if base[5:10] == USUAL and base[17:29] == dot[:12]:
        if base[17:37] >= dot:
            return None
        vector, start = dot, 37
    else:
        start = HEADER_BYTES + DOT_BYTES * base[6]
        rows_with = _with_event(base[HEADER_BYTES:start], dot) if base[5] == 0 and base[7:10] == _ONE_SIBLING_FEW_RETRIES else None
        if rows_with is None:
            return None
        vector = rows_with
    at = start + RETRY_BYTES * base[10]
    superseded = base[at + 20 : at + 36]
    floor = base[11:17]
    rows = base[start:at]
    # No id at all is at or below every floor.
    if superseded[:6] <= floor or (rows and superseded <= rows[-36:-20]):
        return None
    if request_id <= superseded and (request_id == superseded or request_id in rows or request_id[:6] <= floor):
        return None
    rows += superseded + base[at : at + 20]
    if vector is not dot and len(rows) > RETRY_BYTES * retries_max and _has_id_twice(rows):
        return None  # so many ids are remembered, not rows
    first = 0
    while first < len(rows) and (rows[first : first + 6] < cutoff6 or len(rows) - first > RETRY_BYTES * retries_max):
        floor = rows[first : first + 6]
        first += RETRY_BYTES
    if first:
        # Ids that share the floor's millisecond may not be told from forgotten ones: they go too.
        while first < len(rows) and rows[first : first + 6] <= floor:
            first += RETRY_BYTES
        rows = rows[first:]
    data = value or b""
    head = SIBLING_ROW.pack(dot, request_id, hlc, expires_ms, TOMBSTONE if value is None else 0, len(data))
    counts = ONE_ROW_ONE_SIBLING if vector is dot else (len(vector) // DOT_BYTES).to_bytes(2, "big") + b"\x00\x01"
    return seal_with(counts + (len(rows) // RETRY_BYTES).to_bytes(2, "big") + floor + vector + rows + head, data)


def _has_id_twice(rows: bytes) -> bool:
    """Whether retry `rows` have an id more than once: several coordinators may have executed one request."""
    return len({rows[at : at + 16] for at in range(0, len(rows), RETRY_BYTES)}) < len(rows) // RETRY_BYTES


def _with_event(rows: bytes, dot: bytes) -> bytes | None:
    """Vector `rows` with the event `dot` of one actor; None where the general path has to decide: it is no new one, or there is a
    horizon, which counts as floor."""
    if rows[-DOT_BYTES:-8] == HORIZON:
        return None
    actor = dot[:ACTOR_BYTES]
    for at in range(0, len(rows), DOT_BYTES):
        row = rows[at : at + DOT_BYTES]
        if row[:ACTOR_BYTES] == actor:
            return None if row >= dot else rows[:at] + dot + rows[at + DOT_BYTES :]
        if row > dot:
            return rows[:at] + dot + rows[at:]
    return rows + dot


class Minted:
    """What the general path answers: the new (or, for a known request id, the old) record, its dot, the writer's context, how many
    siblings it holds, and whether anything is new."""

    __slots__ = ("context", "dot", "fresh", "record", "siblings")

    def __init__(self, record: bytes, dot: bytes, context: bytes, siblings: int, fresh: bool) -> None:
        self.record = record
        self.dot = dot
        self.context = context
        self.siblings = siblings
        self.fresh = fresh


def known_request(base: bytes | None, request_id: bytes, given: Context = NOTHING) -> Minted | None:
    """The earlier execution of `request_id`, which came with the context `given`, if `base` remembers one."""
    if base is None or request_id == NO_REQUEST or request_id not in base:
        return None
    record = decode(base)
    dot = record.known(request_id)
    if dot is None:
        return None
    context = encode_context(context_of(record, dot, given))
    return Minted(base, dot, context, len(distinct(record.siblings)), False)


def mint(base: bytes | None, write: Sibling, context: Context, *, cutoff_ms: int, retries_max: int) -> Minted:
    """The general path: `base` with `write` made in `context`. Dots of the context that the base has not seen are left alone.

    Raises `ValueError` if the context claims to have seen the new dot: no get or put returned such a one, and under it the write
    would count as superseded.
    """
    if context.sees(write.dot):
        raise ValueError("the context covers a write that was never made: pass on what a get or put returned, unchanged")
    held = EMPTY if base is None else decode(base)
    record = put(held, write, context, cutoff_ms=cutoff_ms, retries_max=retries_max)
    token = encode_context(context_of(record, write.dot, context))
    return Minted(encode(record), write.dot, token, len(distinct(record.siblings)), True)


def unseen(base: bytes | None, context: Context) -> list[bytes]:
    """Dots of `context` that the base has not seen; the coordinator reads them from the others before it mints."""
    return list(unseen_dots(EMPTY if base is None else decode(base), context)) if context.dots else []


def is_blind(base: bytes | None, context: Context) -> bool:
    """Whether the context covers writes that the base has not seen. Minting on it is allowed, but their ids stay unknown and the
    horizon rises: a coordinator merges what the others hold first where it can."""
    return bool(context.vector) and not descends(EMPTY.vector if base is None else decode(base).vector, context.vector)
