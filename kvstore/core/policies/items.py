"""The bytes of the values that typed policies keep in a record's siblings; the record's own format does not change.

    format u8 = 1 | kind u8 | field bytes u16 | field | payload

    register   the value
    counter    total i64: everything that the sibling's actor has added so far
    element    the element
    removed    rows of  field bytes u16 | field | actor 12 | counter u64 | total i64 , sorted; in a sibling that is a tombstone

All numbers are big-endian. A plain tombstone has no value at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct, error

from kvproto.errors import BadRequest, TooLarge
from kvstore.core.policies.operations import Kind
from kvstore.core.versions import ACTOR_BYTES

FORMAT = 1
FIELD_BYTES_MAX = 0xFFFF
TOTAL_MAX = (1 << 63) - 1
ITEMS_MAX = 0xFFFF
"""Rows that a record's header can count."""

_HEAD = Struct(">BBH")
_TOTAL = Struct(">q")
_FIELD = Struct(">H")
_ROW = Struct(f">{ACTOR_BYTES}sQq")


@dataclass(slots=True, frozen=True)
class Item:
    """One value with its kind and field."""

    kind: Kind
    field: bytes
    payload: bytes


Removed = dict[tuple[bytes, bytes], tuple[int, int]]
"""(field, actor) to the counter of the last increment that was removed, and the actor's total up to it."""


def encode_item(kind: Kind, field: bytes, payload: bytes) -> bytes:
    """The value of a sibling. Raises `TooLarge` for a field's name that is too long."""
    if len(field) > FIELD_BYTES_MAX:
        raise TooLarge(
            f"a field's name has at most {FIELD_BYTES_MAX} bytes, not {len(field)}",
            limit=FIELD_BYTES_MAX,
            actual=len(field),
            subject="field",
        )
    return _HEAD.pack(FORMAT, kind, len(field)) + field + payload


def decode_item(value: bytes) -> Item:
    """The item of a sibling's value. Raises `BadRequest`: the namespace's policy was another one, or is of a later version."""
    try:
        form, kind, field_bytes = _HEAD.unpack_from(value)
        payload_at = _HEAD.size + field_bytes
        if form == FORMAT and len(value) >= payload_at:
            return Item(Kind(kind), value[_HEAD.size : payload_at], value[payload_at:])
    except (error, ValueError):
        pass
    raise BadRequest(f"{len(value)} bytes that begin with {value[:2].hex()} are no item", subject="policy")


def encode_total(total: int) -> bytes:
    """A counter's payload. Raises `BadRequest` beyond 64 bits."""
    if not -TOTAL_MAX <= total <= TOTAL_MAX:
        raise BadRequest("a counter has 63 bits and a sign: this increment would leave them", subject="amount")
    return _TOTAL.pack(total)


def decode_total(payload: bytes) -> int:
    """The total of a counter's payload."""
    return int(_TOTAL.unpack(payload)[0])


def encode_removed(rows: Mapping[tuple[bytes, bytes], tuple[int, int]]) -> bytes:
    """The payload of removals."""
    return b"".join(_FIELD.pack(len(field)) + field + _ROW.pack(actor, *rows[field, actor]) for field, actor in sorted(rows))


def decode_removed(payload: bytes) -> Removed:
    """What was removed."""
    rows: Removed = {}
    at = 0
    while at < len(payload):
        (field_bytes,) = _FIELD.unpack_from(payload, at)
        at += _FIELD.size
        field = payload[at : at + field_bytes]
        actor, counter, total = _ROW.unpack_from(payload, at + field_bytes)
        at += field_bytes + _ROW.size
        rows[field, actor] = (counter, total)
    return rows
