"""Counters, sets and maps of a fake store: what a key holds is its cells, each with the dot of the write that made it.

There are no replicas, so nothing is ever concurrent but by its context: a remove takes the adds that its context has seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvclient.errors import BadRequest, WrongMode
from kvclient.testing.contexts import Seen
from kvproto.columns import Cell, Kind, NamespaceInfo, OperationGroup

TYPED = ("counter", "set", "map")
_WRITES = {
    "counter": {Kind.INCREMENT, Kind.DELETE},
    "set": {Kind.ADD, Kind.REMOVE, Kind.DELETE},
    "map": {Kind.ASSIGN, Kind.DISCARD, Kind.INCREMENT, Kind.ADD, Kind.REMOVE, Kind.DELETE},
}
_PLAIN = {Kind.PUT, Kind.DELETE}

Id = tuple[bytes, Cell, bytes]
"""Field, kind, and of an element the element."""


@dataclass(slots=True)
class FakeCell:
    """A register's value, a counter's number as digits, or an element."""

    dot: int
    value: bytes
    expires_ms: int = 0

    def is_live(self, now_ms: int) -> bool:
        """Whether it has not expired."""
        return not 0 < self.expires_ms <= now_ms


@dataclass(slots=True)
class TypedRecord:
    """What one key holds."""

    upto: int = 0
    cells: dict[Id, FakeCell] = field(default_factory=dict)

    def live(self, now_ms: int) -> list[tuple[Id, FakeCell]]:
        """By field, kind and value."""
        found = [(known, cell) for known, cell in self.cells.items() if cell.is_live(now_ms)]
        return sorted(found, key=lambda pair: (pair[0][0], pair[0][1], pair[1].value))


def check_operation(info: NamespaceInfo, group: OperationGroup) -> None:
    """Raises `WrongMode` for what the namespace's policy has not, `BadRequest` for fields that do not belong, or are missing."""
    kind = group.kind
    if kind is not Kind.GET and kind not in _WRITES.get(info.policy, _PLAIN):
        raise WrongMode(
            f"namespace {info.name!r} has policy {info.policy}, which has no {kind.name.lower()} "
            '(FakeStore(namespaces={"hits": "counter"}) has others)',
            subject=info.name,
        )
    named = info.policy == "map" and kind not in (Kind.GET, Kind.DELETE)
    if len(group.fields) != (len(group.keys) if named else 0):
        said = "every operation on a map but delete names a field" if named else "only operations on the fields of a map name one"
        raise BadRequest(said, subject="fields")


def change(record: TypedRecord, group: OperationGroup, at: int, seen: Seen, dot: int, expires_ms: int) -> int:
    """Makes the operation `at` of `group` as the write `dot`; of an increment, the number that comes of it."""
    kind = group.kind
    name = group.fields[at] if group.fields else b""
    record.upto = dot
    if kind is Kind.INCREMENT:
        held = record.cells.get((name, Cell.COUNTER, b""))
        number = (int(held.value) if held is not None else 0) + group.amounts[at]
        record.cells[name, Cell.COUNTER, b""] = FakeCell(dot, str(number).encode())
        return number
    if kind is Kind.ADD:
        record.cells[name, Cell.ELEMENT, group.values[at]] = FakeCell(dot, group.values[at], expires_ms)
        return 0
    if kind is Kind.ASSIGN:
        record.cells[name, Cell.REGISTER, b""] = FakeCell(dot, group.values[at], expires_ms)
        return 0

    def is_meant(known: Id) -> bool:
        if kind is Kind.REMOVE:
            return known == (name, Cell.ELEMENT, group.values[at])
        return kind is Kind.DELETE or known[0] == name

    gone = [known for known, cell in record.cells.items() if is_meant(known) and seen.covers(cell.dot)]
    for known in gone:
        del record.cells[known]
    return 0
