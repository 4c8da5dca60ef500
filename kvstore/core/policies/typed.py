"""The typed policies: counter and set, and the map, whose fields are registers, counters and sets.

A counter is a map of one counter, a set a map of one set; their field has no name. A field is known by its kind and name together,
so that concurrent writes of different kinds meet as two fields and not as an error that nobody could be told. Of concurrent values
of a register the one with the latest stamp, then the greatest dot, is read; all are kept until the next assignment.
"""

from __future__ import annotations

from collections.abc import Callable

from kvproto.errors import BadRequest
from kvstore.core.policies import counters, sets
from kvstore.core.policies.events import happen
from kvstore.core.policies.items import decode_item, encode_item, encode_removed
from kvstore.core.policies.operations import (
    Add,
    Assign,
    Cell,
    Delete,
    Discard,
    Event,
    Increment,
    Kind,
    Operation,
    Reading,
    Remove,
)
from kvstore.core.policies.stamps import latest, stamped
from kvstore.core.versions import OVERWRITE, Context, Record, Sibling, merge


class Typed:
    """A policy whose siblings are items. `operations`: those it has; only a map's have a field."""

    __slots__ = ("_fields", "_operations", "name")

    def __init__(self, name: str, operations: tuple[type[Operation], ...], *, fields: bool) -> None:
        self.name = name
        self._operations = operations
        self._fields = fields

    def apply(self, base: Record, operation: Operation, event: Event, context: Context = OVERWRITE) -> Record:
        """See `Policy.apply`. Increments and adds need no context: they take nobody else's."""
        field = getattr(operation, "field", b"")
        if not isinstance(operation, self._operations) or (field and not self._fields):
            known = ", ".join(sorted(kind.__name__.lower() for kind in self._operations))
            raise BadRequest(
                f"a key of policy {self.name} has no {type(operation).__name__.lower()} like this; it has: {known}",
                subject="policy",
            )
        match operation:
            case Increment():
                return counters.increment(base, operation, event)
            case Add():
                return sets.add(base, operation, event)
            case Remove():
                return sets.remove(base, operation, event, context)
            case Assign():
                return _assign(base, operation, event, context)
            case Discard():
                return _drop(base, event, context, lambda name: name == operation.field)
            case _:
                return _drop(base, event, context, lambda name: True)

    def join(self, left: Record, right: Record) -> Record:
        """The merge of versions.py: see events.py for why it is enough."""
        return merge(left, right)

    def read(self, record: Record, now_ms: int) -> Reading:
        """Cells by field, kind and value."""
        cells = [_cell(latest(found), name, Kind.REGISTER) for name, found in _registers(record, now_ms).items()]
        cells += [Cell(str(value).encode(), dot, 0, Kind.COUNTER, name) for name, (value, dot) in counters.values(record).items()]
        cells += [_cell(found, name, Kind.ELEMENT) for (name, _), found in sets.elements(record, now_ms).items()]
        return Reading(tuple(sorted(cells, key=lambda cell: (cell.field, cell.kind, cell.value))))


def _cell(sibling: Sibling, field: bytes, kind: Kind) -> Cell:
    return Cell(decode_item(sibling.value).payload, sibling.dot, sibling.expires_ms, kind, field)


def _registers(record: Record, now_ms: int) -> dict[bytes, list[Sibling]]:
    """The values of each register whose latest has not expired: an older one does not come back."""
    found: dict[bytes, list[Sibling]] = {}
    for sibling in record.siblings:
        if not sibling.tombstone and (item := decode_item(sibling.value)).kind is Kind.REGISTER:
            found.setdefault(item.field, []).append(sibling)
    return {name: values for name, values in found.items() if not 0 < latest(values).expires_ms <= now_ms}


def _assign(base: Record, operation: Assign, event: Event, context: Context) -> Record:
    held = _registers(base, -1).get(operation.field, [])
    gone = {sibling.dot for sibling in held if context.overwrite or context.sees(sibling.dot)}
    value = encode_item(Kind.REGISTER, operation.field, operation.value)
    return happen(base, stamped(event, held), gone=gone, value=value)


def _drop(base: Record, event: Event, context: Context, matches: Callable[[bytes], bool]) -> Record:
    """`base` without what `context` has seen of the fields that match. A counter that moved on since it was read stays."""
    gone = {
        sibling.dot
        for sibling in base.siblings
        if not sibling.tombstone and (context.overwrite or context.sees(sibling.dot)) and matches(decode_item(sibling.value).field)
    }
    earlier = counters.removals(base)
    rows = counters.removed(earlier)
    for row in counters.totals(base):
        if row.sibling.dot in gone:
            rows[row.field, row.actor] = (row.counter, row.total)
    if not rows:
        return happen(base, event, gone=gone, tombstone=True)
    # One tombstone says what all that were held have said.
    gone.update(sibling.dot for sibling in earlier)
    value = encode_item(Kind.REMOVED, b"", encode_removed(rows))
    return happen(base, event, gone=gone, value=value, tombstone=True)


COUNTER = Typed("counter", (Increment, Delete), fields=False)
SET = Typed("set", (Add, Remove, Delete), fields=False)
MAP = Typed("map", (Assign, Discard, Increment, Add, Remove, Delete), fields=True)
