"""Record format v1: a key's record as bytes, and how it is read.

    format u8 | crc32c u32 | vector rows u16 | siblings u16 | retry rows u16 | floor ms u48          17 bytes
    vector rows, by actor:      actor 12 | counter u64                                               20 bytes each
    retry rows, by id and dot:  request id 16 | dot 20                                               36 bytes each
    siblings, by dot:           dot 20 | request id 16 | hlc u64 | touches u16 | expires ms u48 | flags u8 | value bytes u32
                                57 bytes each, and the value

All numbers are big-endian, so that rows compare as bytes. The checksum covers everything behind it. Equal bytes mean equal records:
the encoding is canonical. What a write or a merge makes of records: record_writes.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import google_crc32c
from xxhash import xxh3_64_digest

from kvstore.core.hlc import physical_ms
from kvstore.core.versions import (
    ACTOR_BYTES,
    DOT_BYTES,
    EMPTY,
    HORIZON,
    Context,
    Record,
    Sibling,
    expire,
    live,
    touch,
)

FORMAT = 1
DIGEST_BYTES = 8
NO_DIGEST = bytes(DIGEST_BYTES)
EXACT = 1
OVERWRITE_PLUS = 2

_HEADER = Struct(">BIHHH6s")
_COUNTS = Struct(">HHH")
_CRC = Struct(">I")
SIBLING_ROW = Struct(">20s16sQQBI")
HEADER_BYTES = _HEADER.size
SIBLING_BYTES = SIBLING_ROW.size
_BODY = 5  # where the checksum's cover begins
RETRY_BYTES = 36
LARGE_BYTES = 16 << 10  # copying it costs more than a call more
_EXPIRES_MASK = (1 << 48) - 1  # touches lie above: a record that was never touched has the time alone
TOMBSTONE = 1

# One vector row, one sibling, fewer than 256 retry rows: the fixed offsets of the usual record.
ONE_ROW_ONE_SIBLING = b"\x00\x01\x00\x01"
USUAL = ONE_ROW_ONE_SIBLING + b"\x00"

checksum = google_crc32c.value


class DamagedRecord(Exception):
    """The bytes are not a record of a format this version reads: a failed checksum or a length that does not add up."""


def records_checksum(records: Sequence[bytes]) -> int:
    """One checksum over many records, for their way to another node: verifying each by itself costs more than storing it."""
    return checksum(b"".join(records))  # type: ignore[no-any-return]


def seal(body: bytes) -> bytes:
    """The record of a body (everything behind the checksum)."""
    return b"\x01" + _CRC.pack(checksum(body)) + body


def seal_with(head: bytes, value: bytes) -> bytes:
    """The record of the body that `head` and a value behind it make. A large value is copied once."""
    if len(value) < LARGE_BYTES:
        return seal(head + value)
    crc32c = google_crc32c.extend(checksum(head), value)
    return b"".join((b"\x01", _CRC.pack(crc32c), head, value))


def verify(record: bytes) -> bool:
    """Whether the checksum and the format are right."""
    return len(record) >= HEADER_BYTES and record[0] == FORMAT and _CRC.pack(checksum(record[_BODY:])) == record[1:_BODY]


def names_actor(record: bytes, actor: bytes) -> bool:
    """Whether the record's vector may have a row of `actor`: never wrong when it says no."""
    rows = int.from_bytes(record[_BODY : _BODY + 2], "big")
    return actor in record[HEADER_BYTES : HEADER_BYTES + (ACTOR_BYTES + 8) * rows]


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
            SIBLING_ROW.pack(
                sibling.dot,
                sibling.request_id,
                sibling.hlc,
                sibling.touches << 48 | sibling.expires_ms,
                TOMBSTONE if sibling.tombstone else 0,
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
    at = HEADER_BYTES
    vector = {}
    for _ in range(vector_rows):
        vector[data[at : at + ACTOR_BYTES]] = int.from_bytes(data[at + ACTOR_BYTES : at + DOT_BYTES], "big")
        at += DOT_BYTES
    retries: dict[bytes, frozenset[bytes]] = {}
    for _ in range(retry_rows):
        request_id = data[at : at + 16]
        retries[request_id] = retries.get(request_id, frozenset()) | {data[at + 16 : at + RETRY_BYTES]}
        at += RETRY_BYTES
    siblings = []
    for _ in range(sibling_rows):
        if at + SIBLING_BYTES > len(data):
            raise DamagedRecord("siblings run past the end")
        dot, request_id, hlc, expires, flags, value_bytes = SIBLING_ROW.unpack_from(data, at)
        at += SIBLING_BYTES
        value, expires_ms = data[at : at + value_bytes], expires & _EXPIRES_MASK
        siblings.append(Sibling(dot, request_id, hlc, expires_ms, bool(flags & TOMBSTONE), value, expires >> 48))
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


def sole_context(record: bytes) -> bytes:
    """The context token of a record with one sibling: its whole vector."""
    return b"\x01" + record[5:7] + record[17 : 17 + DOT_BYTES * int.from_bytes(record[5:7], "big")]


# --- reading


def read_single(record: bytes, now_ms: int) -> tuple[bytes | None, bytes, bytes, int] | None:
    """(value, version, context token, expires ms) of a record with one sibling, value None when deleted or expired; None when the
    record has several and needs `read_siblings`."""
    vector_rows, sibling_rows, retry_rows = _COUNTS.unpack_from(record, _BODY)
    if sibling_rows != 1:
        return None
    rows_end = HEADER_BYTES + DOT_BYTES * vector_rows
    at = rows_end + RETRY_BYTES * retry_rows
    dot, _, _, expires_ms, flags, _ = SIBLING_ROW.unpack_from(record, at)
    token = b"\x01" + record[5:7] + record[HEADER_BYTES:rows_end]
    if expires_ms:
        expires_ms &= _EXPIRES_MASK
    if flags & TOMBSTONE or 0 < expires_ms <= now_ms:
        return None, dot, token, 0
    return record[at + SIBLING_BYTES :], dot, token, expires_ms


def usual_sibling(record: bytes) -> tuple[int, bytes | None] | None:
    """(hlc, value) of a record with one vector row and one sibling, value None for a tombstone; None for any other record."""
    if record[5:10] != USUAL:
        return None
    at = 37 + RETRY_BYTES * record[10]
    _, _, hlc, _, flags, _ = SIBLING_ROW.unpack_from(record, at)
    return hlc, None if flags & TOMBSTONE else record[at + SIBLING_BYTES :]


def read_siblings(record: bytes, now_ms: int) -> tuple[list[Sibling], bytes]:
    """The live siblings (neither tombstones nor expired), each write once, and the context token of the whole record."""
    decoded = decode(record)
    return live(decoded, now_ms), encode_context(Context(decoded.vector))


# --- ending


def may_expire(record: bytes, now_ms: int) -> bool:
    """Whether `expire_record` would change the record; for the usual one of one sibling without decoding. Undefined for what does
    not verify."""
    vector_rows, sibling_rows, retry_rows = _COUNTS.unpack_from(record, _BODY)
    if sibling_rows != 1:
        return sibling_rows > 1 and any(one.has_expired(now_ms) and not one.tombstone for one in decode(record).siblings)
    _, _, _, expires, flags, _ = SIBLING_ROW.unpack_from(record, HEADER_BYTES + DOT_BYTES * vector_rows + RETRY_BYTES * retry_rows)
    return 0 < expires & _EXPIRES_MASK <= now_ms and not flags & TOMBSTONE


def expire_record(record: bytes, now_ms: int) -> bytes:
    """The record with what has expired by `now_ms` as tombstones; `record` itself if nothing has. Raises `DamagedRecord`."""
    decoded = decode(record)
    expired = expire(decoded, now_ms)
    return record if expired is decoded else encode(expired)


def touch_record(record: bytes, now_ms: int, expires_ms: int) -> tuple[bytes, bytes, int] | None:
    """The record with its live values expiring at `expires_ms` (0: never), the version of the first of them, and how many there
    are; None where there is none. Raises `DamagedRecord`."""
    decoded = decode(record)
    alive = live(decoded, now_ms)
    return (encode(touch(decoded, now_ms, expires_ms)), alive[0].dot, len(alive)) if alive else None


def deleted_ms(record: bytes) -> int | None:
    """When the last value of the record went, by the clock of whoever ended it, 0 if it never had one; None while it holds a value,
    expired or not: only of a record that is nothing but tombstones is nothing lost. Undefined for what does not verify."""
    vector_rows, sibling_rows, retry_rows = _COUNTS.unpack_from(record, _BODY)
    at = HEADER_BYTES + DOT_BYTES * vector_rows + RETRY_BYTES * retry_rows
    last_ms = 0
    for _ in range(sibling_rows):
        _, _, hlc, expires, flags, value_bytes = SIBLING_ROW.unpack_from(record, at)
        if not flags & TOMBSTONE:
            return None
        last_ms = max(last_ms, physical_ms(hlc), expires & _EXPIRES_MASK)
        at += SIBLING_BYTES + value_bytes
    return last_ms


def written_ms(record: bytes) -> int:
    """When the youngest of the record's siblings was written, by the clock of whoever wrote it; 0 if it has none. Undefined for
    what does not verify."""
    vector_rows, sibling_rows, retry_rows = _COUNTS.unpack_from(record, _BODY)
    at = HEADER_BYTES + DOT_BYTES * vector_rows + RETRY_BYTES * retry_rows
    last_ms = 0
    for _ in range(sibling_rows):
        _, _, hlc, _, _, value_bytes = SIBLING_ROW.unpack_from(record, at)
        last_ms = max(last_ms, physical_ms(hlc))
        at += SIBLING_BYTES + value_bytes
    return last_ms


def floor_ms(record: bytes) -> int:
    """Ids issued at or before this may have been forgotten by the record, or never been known to it (its horizon)."""
    floor = int.from_bytes(record[11:17], "big")
    rows_end = HEADER_BYTES + DOT_BYTES * int.from_bytes(record[5:7], "big")
    if record[rows_end - DOT_BYTES : rows_end - 8] == HORIZON:  # the last row, if there is one: rows are sorted
        return max(floor, int.from_bytes(record[rows_end - 8 : rows_end], "big"))
    return floor
