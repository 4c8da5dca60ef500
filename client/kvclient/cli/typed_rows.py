"""A line of a dump that is a counter, a set or a map: what the key holds, without the history of it.

    {"key": "hits", "value": "5", "number": 5}
    {"key": "tags", "value": null, "members": ["red", {"text": "blue", "expires_at": 1790000000.0}]}
    {"key": "cart", "value": null, "fields": [{"field": "owner", "value": "ann", "expires_at": …}, {"field": "items", "number": 2},
                                              {"field": "tags", "members": ["new"]}]}

A member is text, or an object where it is no UTF-8 (`text_base64`) or expires. Pure; typed_load.py makes a key hold it again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvclient.cli.output import text_or_base64
from kvproto.columns import Cell
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvclient.cli.connection import ScannedEntry

TYPED_NAMES = frozenset({"number", "members", "fields"})


@dataclass(frozen=True, slots=True, order=True)
class Held:
    """One counter, element or value of a field; `field` is b"" but in maps. A counter's value is its digits, and never expires."""

    kind: Cell
    field: bytes
    value: bytes
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class TypedRow:
    """What one line says: a key and the cells that it holds, in any order."""

    key: bytes
    cells: tuple[Held, ...]

    @classmethod
    def of(cls, entry: ScannedEntry) -> TypedRow:
        """The row of one scanned key."""
        return cls(entry.key, tuple(Held(*cell) for cell in entry.cells))

    @property
    def size_bytes(self) -> int:
        """What it weighs in a batch."""
        return len(self.key) + sum(len(cell.field) + len(cell.value) for cell in self.cells)

    @property
    def policy(self) -> str:
        """What the key holds."""
        if any(cell.field for cell in self.cells):
            return "map"
        return "counter" if self.cells and self.cells[0].kind is Cell.COUNTER else "set"

    def living(self, now_s: float) -> tuple[Held, ...]:
        """What has not expired."""
        return tuple(cell for cell in self.cells if cell.expires_at is None or cell.expires_at > now_s)


def is_typed(fields: Mapping[str, Any]) -> bool:
    """Whether a line's object is one of these."""
    return not TYPED_NAMES.isdisjoint(fields)


def encode_typed(row: TypedRow) -> dict[str, Any]:
    """The object of a line."""
    line = text_or_base64("key", row.key)
    if row.policy == "counter":
        return {**line, "value": row.cells[0].value.decode(), "number": int(row.cells[0].value)}
    if row.policy == "set":
        return {**line, "value": None, "members": _members(row.cells)}
    sets: dict[bytes, list[Held]] = {}
    rows: list[dict[str, Any]] = []
    for cell in sorted(row.cells, key=lambda one: (one.kind, one.field, one.value)):
        if cell.kind is Cell.ELEMENT:
            sets.setdefault(cell.field, []).append(cell)
        elif cell.kind is Cell.COUNTER:
            rows.append({**text_or_base64("field", cell.field), "number": int(cell.value)})
        else:
            rows.append({**text_or_base64("field", cell.field), **text_or_base64("value", cell.value), **_ends(cell)})
    rows += [{**text_or_base64("field", field), "members": _members(cells)} for field, cells in sets.items()]
    return {**line, "value": None, "fields": rows}


def decode_typed(fields: Mapping[str, Any]) -> TypedRow:
    """The row of a line's object. Raises `BadRequest` saying what is wrong with it."""
    key = bytes_of(fields, "key")
    if "fields" not in fields:
        return TypedRow(key, tuple(_cells(fields, b"")))
    rows = fields["fields"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadRequest('"fields" is not a list of objects')
    cells: list[Held] = []
    for row in rows:
        field = bytes_of(row, "field")
        if not field:
            raise BadRequest("a field without a name")
        if is_typed(row):
            cells += _cells(row, field)
        else:
            cells.append(Held(Cell.REGISTER, field, bytes_of(row, "value"), expiry_of(row)))
    return TypedRow(key, tuple(cells))


def bytes_of(fields: Mapping[str, Any], name: str) -> bytes:
    """What stands under `name`, or under `name` and `_base64`. Raises `BadRequest`."""
    text, encoded = fields.get(name), fields.get(f"{name}_base64")
    if isinstance(text, str) and encoded is None:
        return text.encode("utf-8", "surrogatepass")
    if isinstance(encoded, str) and text is None:
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadRequest(f'"{name}_base64" is not base64: {error}') from error
    raise BadRequest(f'needs one of "{name}" and "{name}_base64", as a string')


def expiry_of(fields: Mapping[str, Any]) -> float | None:
    """When it expires. Raises `BadRequest`."""
    expires_at = fields.get("expires_at")
    if expires_at is not None and (isinstance(expires_at, bool) or not isinstance(expires_at, int | float)):
        raise BadRequest('"expires_at" is not a number')
    return expires_at


def _members(cells: Iterable[Held]) -> list[Any]:
    rows = [{**text_or_base64("text", cell.value), **_ends(cell)} for cell in sorted(cells, key=lambda one: one.value)]
    return [row["text"] if row.keys() == {"text"} else row for row in rows]


def _ends(cell: Held) -> dict[str, float]:
    return {} if cell.expires_at is None else {"expires_at": cell.expires_at}


def _cells(fields: Mapping[str, Any], field: bytes) -> list[Held]:
    """A counter or a set."""
    if "number" in fields:
        number = fields["number"]
        if isinstance(number, bool) or not isinstance(number, int):
            raise BadRequest('"number" is not a whole number')
        return [Held(Cell.COUNTER, field, b"%d" % number)]
    members = fields["members"]
    if not isinstance(members, list) or not all(isinstance(member, str | dict) for member in members):
        raise BadRequest('"members" is not a list of texts and objects')
    rows = [{"text": member} if isinstance(member, str) else member for member in members]
    return [Held(Cell.ELEMENT, field, bytes_of(row, "text"), expiry_of(row)) for row in rows]
