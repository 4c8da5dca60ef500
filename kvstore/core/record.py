"""Record format v1: a key's record as bytes, and the fast paths that work on the bytes.

    format u8 | crc32c u32 | vector rows u16 | siblings u16 | retry rows u16 | floor ms u48          17 bytes
    vector rows, by actor:      actor 12 | counter u64                                               20 bytes each
    retry rows, by id and dot:  request id 16 | dot 20                                               36 bytes each
    siblings, by dot:           dot 20 | request id 16 | hlc u64 | expires ms u64 | flags u8 | value bytes u32       57 bytes each
                                and the value

All numbers are big-endian, so that rows compare as bytes. The checksum covers everything behind it. Equal bytes mean equal records:
the encoding is canonical. The usual case (one sibling, one event on top of what is held) never leaves the bytes; the general one
decodes to `versions.Record`. tests/laws/ holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import google_crc32c
from xxhash import xxh3_64_digest

from kvstore.core.versions import (
    ACTOR_BYTES,
    DOT_BYTES,
    EMPTY,
    HORIZON,
    NO_REQUEST,
    NOTHING,
    Context,
    Record,
    Sibling,
    context_of,
    descends,
    distinct,
    merge,
    put,
    unseen_dots,
)

FORMAT = 1
DIGEST_BYTES = 8
NO_DIGEST = bytes(DIGEST_BYTES)
EXACT = 1
OVERWRITE_PLUS = 2

_HEADER = Struct(">BIHHH6s")
_COUNTS = Struct(">HHH")
_CRC = Struct(">I")
_SIBLING = Struct(">20s16sQQBI")
_HEADER_BYTES = _HEADER.size
_SIBLING_BYTES = _SIBLING.size
_BODY = 5  # where the checksum's cover begins
_RETRY_BYTES = 36
_TOMBSTONE = 1

# One vector row, one sibling, fewer than 256 retry rows: the fixed offsets of the usual record.
_ONE_ROW_ONE_SIBLING = b"\x00\x01\x00\x01"
_USUAL = _ONE_ROW_ONE_SIBLING + b"\x00"
_ZERO6 = bytes(6)

checksum = google_crc32c.value


class DamagedRecord(Exception):
    """The bytes are not a record of a format this version reads: a failed checksum or a length that does not add up."""


def records_checksum(records: Sequence[bytes]) -> int:
    """One checksum over many records, for their way to another node: verifying each by itself costs more than storing it."""
    return checksum(b"".join(records))  # type: ignore[no-any-return]


def seal(body: bytes) -> bytes:
    """The record of a body (everything behind the checksum)."""
    return b"\x01" + _CRC.pack(checksum(body)) + body


def verify(record: bytes) -> bool:
    """Whether the checksum and the format are right."""
    return len(record) >= _HEADER_BYTES and record[0] == FORMAT and _CRC.pack(checksum(record[_BODY:])) == record[1:_BODY]


def names_actor(record: bytes, actor: bytes) -> bool:
    """Whether the record's vector may have a row of `actor`: never wrong when it says no."""
    rows = int.from_bytes(record[_BODY : _BODY + 2], "big")
    return actor in record[_HEADER_BYTES : _HEADER_BYTES + (ACTOR_BYTES + 8) * rows]


def digest(record: bytes) -> bytes:
    """Eight bytes that differ when the records do; NO_DIGEST stands for no record."""
    return xxh3_64_digest(record)


def encode(record: Record) -> bytes:
    """The canonical bytes of `record`."""
    vector = record.vector
    rows = [request_id + dot for request_id, dots in record.retries.items() for dot in dots]
    rows.sort()
    parts = [
        _COUNTS.pack(len(vector), len(record.siblings), len(rows)),
        record.floor_ms.to_bytes(6, "big"),
        *(actor + vector[actor].to_bytes(8, "big") for actor in sorted(vector)),
        *rows,
    ]
    for sibling in record.siblings:
        parts.append(
            _SIBLING.pack(
                sibling.dot,
                sibling.request_id,
                sibling.hlc,
                sibling.expires_ms,
                _TOMBSTONE if sibling.tombstone else 0,
                len(sibling.value),
            )
        )
        parts.append(sibling.value)
    return seal(b"".join(parts))


EMPTY_RECORD = encode(EMPTY)
"""The record of a key of which nothing was ever written: what a replica holds that has lost a record which nobody else had."""


def decode(data: bytes) -> Record:
    """The record of `data`. Raises `DamagedRecord`."""
    if not verify(data):
        raise DamagedRecord(f"{len(data)} bytes: checksum or format (byte {data[:1].hex()}) is wrong")
    _, _, vector_rows, sibling_rows, retry_rows, floor = _HEADER.unpack_from(data)
    at = _HEADER_BYTES
    vector = {}
    for _ in range(vector_rows):
        vector[data[at : at + ACTOR_BYTES]] = int.from_bytes(data[at + ACTOR_BYTES : at + DOT_BYTES], "big")
        at += DOT_BYTES
    retries: dict[bytes, frozenset[bytes]] = {}
    for _ in range(retry_rows):
        request_id = data[at : at + 16]
        retries[request_id] = retries.get(request_id, frozenset()) | {data[at + 16 : at + _RETRY_BYTES]}
        at += _RETRY_BYTES
    siblings = []
    for _ in range(sibling_rows):
        if at + _SIBLING_BYTES > len(data):
            raise DamagedRecord("siblings run past the end")
        dot, request_id, hlc, expires_ms, flags, value_bytes = _SIBLING.unpack_from(data, at)
        at += _SIBLING_BYTES
        siblings.append(Sibling(dot, request_id, hlc, expires_ms, bool(flags & _TOMBSTONE), data[at : at + value_bytes]))
        at += value_bytes
    if at != len(data):
        raise DamagedRecord(f"{len(data)} bytes where the rows take {at}")
    return Record(vector, tuple(siblings), retries, int.from_bytes(floor, "big"))


# --- contexts


def encode_context(context: Context) -> bytes:
    """The token a client keeps: kind u8 | vector rows u16 | rows | single dots."""
    vector = context.vector
    rows = b"".join(actor + vector[actor].to_bytes(8, "big") for actor in sorted(vector))
    kind = OVERWRITE_PLUS if context.overwrite else EXACT
    return bytes((kind,)) + len(vector).to_bytes(2, "big") + rows + b"".join(sorted(context.dots))


def decode_context(token: bytes) -> Context:
    """The context of a token; empty means: overwrite. Raises `ValueError` for anything that is not a token."""
    if not token:
        return Context(overwrite=True)
    rows = int.from_bytes(token[1:3], "big")
    if (
        len(token) < 3
        or token[0] not in (EXACT, OVERWRITE_PLUS)
        or (len(token) - 3) % DOT_BYTES
        or len(token) < 3 + rows * DOT_BYTES
    ):
        raise ValueError("not a context token: pass on what a get or put returned, unchanged")
    dots = [token[at : at + DOT_BYTES] for at in range(3, len(token), DOT_BYTES)]
    vector = {dot[:ACTOR_BYTES]: int.from_bytes(dot[ACTOR_BYTES:], "big") for dot in dots[:rows]}
    return Context(vector, frozenset(dots[rows:]), token[0] == OVERWRITE_PLUS)


def own_context(dot: bytes) -> bytes:
    """The token of a write that is all that is left of its key, whose record has one vector row."""
    return b"\x01\x00\x01" + dot


def covers_token(record: bytes, token: bytes) -> bool:
    """A quick, sufficient test that whoever holds `token`, which is not empty, has seen nothing that `record` has not, and that a
    write with it overwrites all of the record: the usual token, of one row, from a write to a key that has had one coordinator."""
    if token[3:] == record[17:37]:
        return token[0] == OVERWRITE_PLUS or token[:3] == b"\x01\x00\x01"
    return len(token) == 23 and token[0] == OVERWRITE_PLUS and token[3:15] == record[17:29] and token[15:] <= record[29:37]


# --- reading


def read_single(record: bytes, now_ms: int) -> tuple[bytes | None, bytes, bytes, int] | None:
    """(value, version, context token, expires ms) of a record with one sibling, value None when deleted or expired; None when the
    record has several and needs `read_siblings`."""
    vector_rows, sibling_rows, retry_rows = _COUNTS.unpack_from(record, _BODY)
    if sibling_rows != 1:
        return None
    rows_end = _HEADER_BYTES + DOT_BYTES * vector_rows
    at = rows_end + _RETRY_BYTES * retry_rows
    dot, _, _, expires_ms, flags, _ = _SIBLING.unpack_from(record, at)
    token = b"\x01" + record[5:7] + record[_HEADER_BYTES:rows_end]
    if flags & _TOMBSTONE or 0 < expires_ms <= now_ms:
        return None, dot, token, 0
    return record[at + _SIBLING_BYTES :], dot, token, expires_ms


def usual_sibling(record: bytes) -> tuple[int, bytes | None] | None:
    """(hlc, value) of a record with one vector row and one sibling, value None for a tombstone; None for any other record."""
    if record[5:10] != _USUAL:
        return None
    at = 37 + _RETRY_BYTES * record[10]
    _, _, hlc, _, flags, _ = _SIBLING.unpack_from(record, at)
    return hlc, None if flags & _TOMBSTONE else record[at + _SIBLING_BYTES :]


def read_siblings(record: bytes, now_ms: int) -> tuple[list[Sibling], bytes]:
    """The live siblings (neither tombstones nor expired), each write once, and the context token of the whole record."""
    decoded = decode(record)
    live = [sibling for sibling in distinct(decoded.siblings) if not sibling.tombstone and not 0 < sibling.expires_ms <= now_ms]
    return live, encode_context(Context(decoded.vector))


# --- merging


def replaces(new: bytes, held: bytes) -> bool:
    """Whether `new` can be stored over `held` as it is: a quick, sufficient test that their merge is `new`.

    True only for the usual case: one vector row of the same actor with a higher counter, one sibling each, and the request ids that
    `new` remembers are those of `held` plus the write that it superseded (the oldest perhaps forgotten). Anything else is for
    `merge_records`.
    """
    if new[5:9] != _ONE_ROW_ONE_SIBLING or held[5:9] != _ONE_ROW_ONE_SIBLING:
        return False
    if new[17:29] != held[17:29] or new[29:37] <= held[29:37] or new[11:17] < held[11:17]:
        return False
    held_end = 37 + _RETRY_BYTES * int.from_bytes(held[9:11], "big")
    new_end = 37 + _RETRY_BYTES * int.from_bytes(new[9:11], "big")
    rows = held[37:held_end] + held[held_end + 20 : held_end + 36] + held[held_end : held_end + 20]
    remembered = new[37:new_end]
    if not rows.endswith(remembered):
        return False
    # What went must be at or below the floor that `new` states, or a retry of it could be taken for a new write.
    gone = len(rows) - len(remembered)
    return gone == 0 or rows[gone - _RETRY_BYTES : gone - 30] <= new[11:17]


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
    merged = encode(merge(decode(held), decode(new)))
    return held if merged == held else merged


def merge_successors(held: Sequence[bytes | None], new: Sequence[bytes]) -> list[bytes] | None:
    """The merges of verified records, pair by pair, where nearly all of `new` were minted on the very record that is held here (or
    on none); None as soon as one adds nothing, is of another format or turns out to be damaged: for the caller to go through one by
    one.

    A record of one vector row (a, c) is the one minted as (a, c), for every other under that actor has another counter, and what it
    was merged with it covers. So a record of one row whose last superseded write is (a, c) was minted on it, and replaces it.
    """
    merged: list[bytes] = []
    add = merged.append
    for mine, record in zip(held, new, strict=True):
        if record[:1] != b"\x01":
            return None
        if mine is not None and not (
            record[5:10] == _USUAL
            and mine[5:9] == _ONE_ROW_ONE_SIBLING
            and record[17 + _RETRY_BYTES * record[10] : 37 + _RETRY_BYTES * record[10]] == mine[17:37]
            and record[10]
            and record[17:37] > mine[17:37]
            and record[17:29] == mine[17:29]
        ):
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


# --- minting


def first_record(dot: bytes, request_id: bytes, hlc: int, expires_ms: int, value: bytes | None) -> bytes:
    """The record of a key's first write; `value` None is a tombstone."""
    data = value or b""
    head = _SIBLING.pack(dot, request_id, hlc, expires_ms, _TOMBSTONE if value is None else 0, len(data))
    return seal(b"\x00\x01\x00\x01\x00\x00" + _ZERO6 + dot + head + data)


def overwrite(
    base: bytes, dot: bytes, request_id: bytes, hlc: int, expires_ms: int, value: bytes | None, cutoff6: bytes, retries_max: int
) -> bytes | None:
    """`base` overwritten by a new event, without leaving the bytes; None where the general path has to decide.

    The usual case: one vector row of the minting actor, one sibling, an id newer than those remembered and not at or
    below the floor (such a one may be a retry of a write that was forgotten). `cutoff6` is the retry window's start as six bytes.
    """
    if base[5:10] != _USUAL or base[17:29] != dot[:12] or base[17:37] >= dot:
        return None
    at = 37 + _RETRY_BYTES * base[10]
    superseded = base[at + 20 : at + 36]
    floor = base[11:17]
    rows = base[37:at]
    # No id at all is at or below every floor.
    if superseded[:6] <= floor or (rows and superseded <= rows[-36:-20]):
        return None
    if request_id <= superseded and (request_id == superseded or request_id in rows or request_id[:6] <= floor):
        return None
    rows += superseded + base[at : at + 20]
    first = 0
    while first < len(rows) and (rows[first : first + 6] < cutoff6 or len(rows) - first > _RETRY_BYTES * retries_max):
        floor = rows[first : first + 6]
        first += _RETRY_BYTES
    if first:
        # Ids that share the floor's millisecond may not be told from forgotten ones: they go too.
        while first < len(rows) and rows[first : first + 6] <= floor:
            first += _RETRY_BYTES
        rows = rows[first:]
    data = value or b""
    head = _SIBLING.pack(dot, request_id, hlc, expires_ms, _TOMBSTONE if value is None else 0, len(data))
    return seal(b"\x00\x01\x00\x01" + (len(rows) // _RETRY_BYTES).to_bytes(2, "big") + floor + dot + rows + head + data)


def sole_context(record: bytes) -> bytes:
    """The context token of a record with one sibling: its whole vector."""
    return b"\x01" + record[5:7] + record[17 : 17 + DOT_BYTES * int.from_bytes(record[5:7], "big")]


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


def floor_ms(record: bytes) -> int:
    """Ids issued at or before this may have been forgotten by the record, or never been known to it (its horizon)."""
    floor = int.from_bytes(record[11:17], "big")
    rows_end = _HEADER_BYTES + DOT_BYTES * int.from_bytes(record[5:7], "big")
    if record[rows_end - DOT_BYTES : rows_end - 8] == HORIZON:  # the last row, if there is one: rows are sorted
        return max(floor, int.from_bytes(record[rows_end - 8 : rows_end], "big"))
    return floor
