"""A line of a dump: one key with its value, or with every sibling, as JSON; what `kv dump` writes and `kv load` reads.

`{"key": …, "value": …}`, each name with `_base64` behind it where the bytes are no UTF-8; `"siblings": [{"value": …}, …]` instead
of a value where there are several, so that a dump loses none of them; `"expires_at"` (Unix time in seconds) where there is one.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvclient.cli.output import text_or_base64, to_json
from kvclient.cli.rows import typed_row
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvclient.cli.connection import ScannedEntry


@dataclass(frozen=True, slots=True)
class Row:
    """What one line says: a key and at least one value; `expires_at` in Unix seconds, None: never."""

    key: bytes
    values: tuple[bytes, ...]
    expires_at: float | None = None

    @property
    def size_bytes(self) -> int:
        """What it weighs in a batch."""
        return len(self.key) + sum(map(len, self.values))

    @property
    def plain(self) -> bool:
        """One value that never expires: what a batch of puts can carry."""
        return len(self.values) == 1 and self.expires_at is None


def line_of(entry: ScannedEntry) -> str:
    """The line of one scanned key, without its end: a row, or what a counter, set or map holds."""
    if entry.policy:
        return to_json({**text_or_base64("key", entry.key), **typed_row(entry)})
    return encode_row(row_of(entry))


def row_of(entry: ScannedEntry) -> Row:
    """The row of one scanned key with plain values."""
    return Row(entry.key, tuple(entry.values), entry.expires_at)


def encode_row(row: Row) -> str:
    """The line, without its end."""
    line: dict[str, Any] = dict(text_or_base64("key", row.key))
    if len(row.values) == 1:
        line |= text_or_base64("value", row.values[0])
    else:
        line["siblings"] = [text_or_base64("value", value) for value in row.values]
    if row.expires_at is not None:
        line["expires_at"] = row.expires_at
    return to_json(line)


def decode_row(line: bytes) -> Row:
    """The row a line holds; names it does not know are ignored. Raises `BadRequest` saying what is wrong with it."""
    fields = _fields(line)
    if not {"number", "members", "fields"}.isdisjoint(fields):
        raise BadRequest("a counter, set or map: kv dump writes them, kv load cannot store them (an increment is not repeatable)")
    expires_at = fields.get("expires_at")
    if expires_at is not None and (isinstance(expires_at, bool) or not isinstance(expires_at, int | float)):
        raise BadRequest('"expires_at" is not a number')
    return Row(_bytes(fields, "key"), _values(fields), expires_at)


def decode_key(line: bytes) -> bytes:
    """The key of a line, whatever it holds."""
    return _bytes(_fields(line), "key")


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
        return (_bytes(fields, "value"),)
    if not isinstance(siblings, list) or not all(isinstance(sibling, dict) for sibling in siblings):
        raise BadRequest('"siblings" is not a list of objects')
    return tuple(_bytes(sibling, "value") for sibling in siblings)


def _bytes(fields: Mapping[str, Any], name: str) -> bytes:
    text, encoded = fields.get(name), fields.get(f"{name}_base64")
    if isinstance(text, str) and encoded is None:
        return text.encode("utf-8", "surrogatepass")
    if isinstance(encoded, str) and text is None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequest(f'"{name}_base64" is not base64: {error}') from error
    raise BadRequest(f'needs one of "{name}" and "{name}_base64", as a string')
