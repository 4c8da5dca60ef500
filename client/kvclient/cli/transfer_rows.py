"""A line of a dump: one key with its value, or with every sibling, as JSON; what `kv dump` writes and `kv load` reads.

`{"key": …, "value": …}`, each name with `_base64` behind it where the bytes are no UTF-8; `"siblings": [{"value": …}, …]` instead
of a value where there are several, so that a dump loses none of them; `"expires_at"` (Unix time in seconds) where there is one, of
a sibling where they differ. Counters, sets and maps have lines of their own (typed_rows.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvclient.cli.output import text_or_base64, to_json
from kvclient.cli.typed_rows import TypedRow, bytes_of, decode_typed, encode_typed, expiry_of, is_typed
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvclient.cli.connection import ScannedEntry


@dataclass(frozen=True, slots=True)
class Row:
    """What one line says: a key and at least one value; `expires_at` in Unix seconds, None: never; `expiries` has one for each
    value where they differ."""

    key: bytes
    values: tuple[bytes, ...]
    expires_at: float | None = None
    expiries: tuple[float | None, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What it weighs in a batch."""
        return len(self.key) + sum(map(len, self.values))

    @property
    def plain(self) -> bool:
        """One value that never expires: what a batch of puts can carry."""
        return len(self.values) == 1 and self.expires_at is None

    def living(self, now_s: float) -> list[tuple[bytes, float | None]]:
        """Each value that has not expired, with the seconds it has left; None: it never does."""
        expiries = self.expiries or (self.expires_at,) * len(self.values)
        return [
            (value, None if ends_s is None else ends_s - now_s)
            for value, ends_s in zip(self.values, expiries, strict=True)
            if ends_s is None or ends_s > now_s
        ]


def line_of(entry: ScannedEntry) -> str:
    """The line of one scanned key, without its end: a row, or what a counter, set or map holds."""
    if entry.policy:
        return to_json(encode_typed(TypedRow.of(entry)))
    return encode_row(row_of(entry))


def row_of(entry: ScannedEntry) -> Row:
    """The row of one scanned key with plain values."""
    expiries = tuple(entry.expiries)
    if len(set(expiries)) > 1:
        return Row(entry.key, tuple(entry.values), expiries=expiries)
    return Row(entry.key, tuple(entry.values), entry.expires_at)


def encode_row(row: Row) -> str:
    """The line, without its end."""
    line: dict[str, Any] = dict(text_or_base64("key", row.key))
    if len(row.values) == 1:
        line |= text_or_base64("value", row.values[0])
    else:
        line["siblings"] = [
            {**text_or_base64("value", value), **({} if ends_s is None else {"expires_at": ends_s})}
            for value, ends_s in zip(row.values, row.expiries or (None,) * len(row.values), strict=True)
        ]
    if row.expires_at is not None:
        line["expires_at"] = row.expires_at
    return to_json(line)


def decode_row(line: bytes) -> Row | TypedRow:
    """The row a line holds; names it does not know are ignored. Raises `BadRequest` saying what is wrong with it."""
    fields = _fields(line)
    if is_typed(fields):
        return decode_typed(fields)
    expires_at, values = expiry_of(fields), _values(fields)
    siblings = fields.get("siblings") or [{}]
    expiries = tuple(expires_at if (own := expiry_of(sibling)) is None else own for sibling in siblings)
    if len(set(expiries)) > 1:
        return Row(bytes_of(fields, "key"), values, expiries=expiries)
    return Row(bytes_of(fields, "key"), values, expiries[0])


def decode_key(line: bytes) -> bytes:
    """The key of a line, whatever it holds."""
    return bytes_of(_fields(line), "key")


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise BadRequest(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadRequest("not a JSON object")
    return fields


def _values(fields: Mapping[str, Any]) -> tuple[bytes, ...]:
    siblings = fields.get("siblings")
    if not siblings:
        return (bytes_of(fields, "value"),)
    if not isinstance(siblings, list) or not all(isinstance(sibling, dict) for sibling in siblings):
        raise BadRequest('"siblings" is not a list of objects')
    return tuple(bytes_of(sibling, "value") for sibling in siblings)
