"""What a namespace in memory needs to know of records in order to forget them safely (ADR 25). Pure.

A record that was evicted leaves nothing behind, so what is older and comes late could take its place. `written_ms` is what tells it
from what is new; `without_values` is how one node has another forget what it holds of a key.
"""

from __future__ import annotations

from dataclasses import replace
from struct import Struct

from kvstore.core.hlc import physical_ms
from kvstore.core.record import decode, encode

_ONE_ROW_ONE_SIBLING = b"\x00\x01\x00\x01"
_RETRY_ROWS = Struct(">H")
_HLC = Struct(">Q")
_HLC_AT = 73  # in the usual record without retry rows: header 17, one vector row 20, then dot 20 and request id 16
_RETRY_BYTES = 36


def written_ms(record: bytes) -> int:
    """When the last of its values and tombstones was written, by the clock of whoever minted it; 0: there are none. Raises
    `DamagedRecord`."""
    if record[5:9] == _ONE_ROW_ONE_SIBLING:
        rows = _RETRY_ROWS.unpack_from(record, 9)[0]
        return physical_ms(_HLC.unpack_from(record, _HLC_AT + _RETRY_BYTES * rows)[0])
    return max((physical_ms(sibling.hlc) for sibling in decode(record).siblings), default=0)


def without_values(record: bytes) -> bytes:
    """The record with tombstones in the place of its values, under the dots that they have: merged with the record it ends just
    these, and nothing that was written beside or after them. Raises `DamagedRecord`."""
    decoded = decode(record)
    ended = tuple(one if one.tombstone else replace(one, tombstone=True, value=b"") for one in decoded.siblings)
    return encode(replace(decoded, siblings=ended))
