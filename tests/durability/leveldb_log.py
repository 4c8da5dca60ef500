"""LevelDB's log format, read from outside: the write-ahead log and the list of tables (MANIFEST) are both written in it.

32 KiB blocks; in each, fragments of crc32c u32 (masked) | length u16 | type u8 | bytes, little-endian; a record is one FULL
fragment or FIRST, MIDDLE…, LAST. A block's last bytes, fewer than a header, are padding. Written from the format's description
(LevelDB's doc/log_format.md), so that the proof does not rest on the library whose behaviour it judges. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct

import google_crc32c

BLOCK_BYTES = 32 << 10
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

_HEADER = Struct("<IHB")
_BATCH = Struct("<QI")
_MASK_DELTA = 0xA282EAD8
_DELETE, _PUT = 0, 1


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record. `end`: the offset behind its last fragment; it is durable once the file is, up to there."""

    end: int
    payload: bytes


@dataclass(slots=True)
class VersionEdit:
    """What a record of the MANIFEST changes. `log_number`: every log below it has been moved into tables named here or before."""

    log_number: int | None = None
    new_tables: list[int] = field(default_factory=list)


def read_log(data: bytes) -> Iterator[LogRecord]:
    """The records of a log file, up to the first fragment that is cut short or does not verify: a crash ends a log so."""
    at = 0
    parts: list[bytes] = []
    while at + _HEADER.size <= len(data):
        room = BLOCK_BYTES - at % BLOCK_BYTES
        if room < _HEADER.size:
            at += room
            continue
        crc, length, kind = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        if kind not in (FULL, FIRST, MIDDLE, LAST) or end > len(data) or crc != _masked(data[at + 6 : end]):
            return
        parts.append(data[at + _HEADER.size : end])
        if kind in (FULL, LAST):
            yield LogRecord(end, b"".join(parts))
            parts = []
        at = end


def puts_of(batch: bytes) -> list[tuple[bytes, bytes]]:
    """The pairs that a record of the write-ahead log, which is one batch, puts. Deletes are left out."""
    _, count = _BATCH.unpack_from(batch)
    at = _BATCH.size
    puts: list[tuple[bytes, bytes]] = []
    for _ in range(count):
        kind = batch[at]
        key, at = _slice(batch, at + 1)
        if kind == _PUT:
            value, at = _slice(batch, at)
            puts.append((key, value))
        else:
            assert kind == _DELETE, kind
    assert at == len(batch), "a batch ends with its last operation"
    return puts


def edit_of(payload: bytes) -> VersionEdit:
    """A record of the MANIFEST; what does not matter here is read over."""
    edit = VersionEdit()
    at = 0
    while at < len(payload):
        tag, at = _varint(payload, at)
        if tag == 1:  # the comparator's name
            _, at = _slice(payload, at)
        elif tag == 2:
            edit.log_number, at = _varint(payload, at)
        elif tag in (3, 4, 9):  # next file number, last sequence number, previous log number
            _, at = _varint(payload, at)
        elif tag == 5:  # level, key to go on compacting at
            _, at = _varint(payload, at)
            _, at = _slice(payload, at)
        elif tag == 6:  # level, table that is gone
            _, at = _varint(payload, at)
            _, at = _varint(payload, at)
        else:  # level, new table, its size, its smallest and largest key
            assert tag == 7, tag
            _, at = _varint(payload, at)
            number, at = _varint(payload, at)
            _, at = _varint(payload, at)
            _, at = _slice(payload, at)
            _, at = _slice(payload, at)
            edit.new_tables.append(number)
    return edit


def _masked(covered: bytes) -> int:
    crc: int = google_crc32c.value(covered)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _slice(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _varint(data, at)
    assert at + length <= len(data), "a length points behind the record"
    return data[at : at + length], at + length
