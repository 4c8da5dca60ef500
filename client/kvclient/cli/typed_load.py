"""Makes a key hold what a line of a dump says: a counter, a set or a map. Read first, so that loading twice changes nothing.

A counter is brought to its number by the difference; members and fields that the line has not are removed, as a put replaces what
was there. What others write at the same moment is theirs: an increment between the reading and ours is counted as well.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from kvclient.cli.typed_rows import Held, TypedRow
from kvproto.columns import Cell

if TYPE_CHECKING:
    from kvclient.cli.connection import Namespace

AMOUNT_MAX = 2**63 - 1
SAME_S = 1.0
"""Two times of expiry that are so near are one: what is left of it is what travels."""


async def store_typed(namespace: Namespace, row: TypedRow, now_s: float, call: dict[str, Any]) -> None:
    """Makes `row.key` hold what has not expired of `row`. `call`: options of each operation. Reads and writes of a majority,
    whatever the namespace asks for: the difference has to be the true one."""
    wanted = row.living(now_s)
    call = {**call, "level": "quorum"}
    entry = await namespace.get(row.key, **call)
    there = [Held(*cell) for cell in entry.cells]
    gone = await _remove(namespace, row.key, wanted, there, entry.context, call)
    there = [cell for cell in there if cell not in gone]
    await _add(namespace, row.key, wanted, there, now_s, call)


async def _remove(
    namespace: Namespace, key: bytes, wanted: tuple[Held, ...], there: list[Held], context: bytes, call: dict[str, Any]
) -> set[Held]:
    """Takes away what is not wanted; what is gone then. A field goes as a whole where a value or a counter in it is not wanted."""
    names = {_name(cell) for cell in wanted}
    extra = [cell for cell in there if _name(cell) not in names]
    fields = {cell.field for cell in extra if cell.field and cell.kind is not Cell.ELEMENT}
    for field in sorted(fields):
        await namespace.delete_field(key, field, context=context, **call)
    gone = {cell for cell in there if cell.field in fields and cell.field}
    elements: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for cell in extra:
        if cell.kind is Cell.ELEMENT and cell not in gone:
            elements[cell.field].append(cell.value)
            gone.add(cell)
    for field, values in sorted(elements.items()):
        await namespace.remove(key, *values, **_of(field), context=context, **call)
    return gone


async def _add(
    namespace: Namespace, key: bytes, wanted: tuple[Held, ...], there: list[Held], now_s: float, call: dict[str, Any]
) -> None:
    held = {_name(cell): cell for cell in there}
    elements: defaultdict[tuple[bytes, float | None], list[bytes]] = defaultdict(list)
    for cell in wanted:
        before = held.get(_name(cell))
        if cell.kind is Cell.COUNTER:
            await _count(namespace, key, cell, before, call)
        elif cell.kind is Cell.REGISTER:
            if before is None or before.value != cell.value or not _ends_alike(before, cell):
                await namespace.put_field(key, cell.field, cell.value, **_ttl(cell.expires_at, now_s), **call)
        elif before is None or not _ends_alike(before, cell):
            elements[cell.field, cell.expires_at].append(cell.value)
    for (field, expires_at), values in elements.items():
        await namespace.add(key, *values, **_of(field), **_ttl(expires_at, now_s), **call)


async def _count(namespace: Namespace, key: bytes, cell: Held, before: Held | None, call: dict[str, Any]) -> None:
    left = int(cell.value) - (0 if before is None else int(before.value))
    is_new = before is None
    while left or is_new:
        step = max(-AMOUNT_MAX, min(AMOUNT_MAX, left))
        await namespace.increment(key, step, **_of(cell.field), **call)
        left, is_new = left - step, False


def _name(cell: Held) -> tuple[Cell, bytes, bytes]:
    """What makes two cells the same one: of a set the element, else the field."""
    return cell.kind, cell.field, cell.value if cell.kind is Cell.ELEMENT else b""


def _ends_alike(one: Held, other: Held) -> bool:
    if one.expires_at is None or other.expires_at is None:
        return one.expires_at is other.expires_at
    return abs(one.expires_at - other.expires_at) < SAME_S


def _of(field: bytes) -> dict[str, bytes]:
    return {"field": field} if field else {}


def _ttl(expires_at: float | None, now_s: float) -> dict[str, float]:
    return {} if expires_at is None else {"ttl_s": expires_at - now_s}
