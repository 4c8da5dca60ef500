"""Observed-remove sets without tombstones of elements: each add is a sibling, its value the element (Bieniusa et al., 2012).

A remove supersedes the adds that it has seen; an add made meanwhile has another dot, so the add wins. An add supersedes earlier
adds of the same element, so that an element is held once for each actor that added it concurrently.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvstore.core.policies.events import happen
from kvstore.core.policies.items import decode_item, encode_item
from kvstore.core.policies.operations import Add, Event, Kind, Remove
from kvstore.core.versions import Context, Record, Sibling


def adds(record: Record, field: bytes, element: bytes) -> Iterator[Sibling]:
    """The adds of `element` to the set `field` that are held."""
    value = encode_item(Kind.ELEMENT, field, element)
    return (sibling for sibling in record.siblings if sibling.value == value and not sibling.tombstone)


def add(base: Record, operation: Add, event: Event) -> Record:
    """`base` with one more add, in place of those of the same element."""
    gone = {sibling.dot for sibling in adds(base, operation.field, operation.element)}
    return happen(base, event, gone=gone, value=encode_item(Kind.ELEMENT, operation.field, operation.element))


def remove(base: Record, operation: Remove, event: Event, context: Context) -> Record:
    """`base` without the adds of the element that `context` has seen."""
    gone = {
        sibling.dot for sibling in adds(base, operation.field, operation.element) if context.overwrite or context.sees(sibling.dot)
    }
    return happen(base, event, gone=gone, tombstone=True)


def elements(record: Record, now_ms: int) -> dict[tuple[bytes, bytes], Sibling]:
    """(field, element) of everything that is in a set, with the add that lasts longest."""
    found: dict[tuple[bytes, bytes], Sibling] = {}
    for sibling in record.siblings:
        if sibling.tombstone or 0 < sibling.expires_ms <= now_ms:
            continue
        item = decode_item(sibling.value)
        if item.kind is Kind.ELEMENT:
            held = found.setdefault((item.field, item.payload), sibling)
            if held.expires_ms and (not sibling.expires_ms or sibling.expires_ms > held.expires_ms):
                found[item.field, item.payload] = sibling
    return found
