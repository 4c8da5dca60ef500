"""Results as the JSON objects that programs read (docs/command.md, "JSON output")."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kvclient.cli.output import receipt_row, text_or_base64

if TYPE_CHECKING:
    from kvclient.cli.connection import Entry, Written


def entry_row(key: bytes, entry: Entry) -> dict[str, Any]:
    """One key as read. `value` is null where there is none, or where there is more than one: then `siblings` holds them all."""
    if entry.policy:
        return _typed_entry_row(key, entry)
    values = entry.values
    row: dict[str, Any] = {**text_or_base64("key", key), "found": entry.found}
    row |= text_or_base64("value", values[0]) if len(values) == 1 else {"value": None}
    row["siblings"] = sibling_rows(entry) if len(values) > 1 else []
    row["context"] = base64.b64encode(entry.context).decode()
    row["version"] = entry.versions[0] if len(values) == 1 else None
    row["expires_at"] = entry.expires_at
    row["receipt"] = receipt_row(entry.receipt)
    return row


def _typed_entry_row(key: bytes, entry: Entry) -> dict[str, Any]:
    return {
        **text_or_base64("key", key),
        "found": entry.found,
        **typed_row(entry),
        "siblings": [],
        "context": base64.b64encode(entry.context).decode(),
        "version": entry.versions[0],
        "expires_at": entry.expires_at,
        "receipt": receipt_row(entry.receipt),
    }


def typed_row(entry: Entry) -> dict[str, Any]:
    """What a counter, a set or a map holds. Members and names of fields that are no UTF-8 are objects with their base64."""
    if entry.policy == "counter":
        return {"value": str(entry.number), "number": entry.number}
    if entry.policy == "set":
        return {"value": None, **members_row(entry.members)}
    fields: list[dict[str, Any]] = [
        {**text_or_base64("field", name), **text_or_base64("value", value)} for name, value in entry.registers.items()
    ]
    fields += [{**text_or_base64("field", name), "number": number} for name, number in entry.counters.items()]
    fields += [{**text_or_base64("field", name), **members_row(members)} for name, members in entry.sets.items()]
    return {"value": None, "fields": fields}


def members_row(members: Iterable[bytes]) -> dict[str, Any]:
    """A set's members in order: text, or an object with their base64."""
    return {"members": [row.get("text", row) for row in (text_or_base64("text", one) for one in sorted(members))]}


def typed_lines(entry: Entry) -> list[bytes]:
    """What a counter, a set or a map holds, for people: a number, members, or field=value; a set in a map has a line a member."""
    if entry.policy == "counter":
        return [b"%d" % entry.number]
    if entry.policy == "set":
        return sorted(entry.members)
    lines = [name + b"=" + value for name, value in entry.registers.items()]
    lines += [name + b"=%d" % number for name, number in entry.counters.items()]
    lines += [name + b"=" + member for name, members in entry.sets.items() for member in members]
    return sorted(lines)


def sibling_rows(entry: Entry) -> list[dict[str, Any]]:
    """Each sibling with its version, in the entry's order."""
    return [
        {**text_or_base64("value", value), "version": version} for version, value in zip(entry.versions, entry.values, strict=True)
    ]


def written_row(key: bytes, written: Written) -> dict[str, Any]:
    """One write as acknowledged."""
    context = base64.b64encode(written.context).decode()
    return {**text_or_base64("key", key), "version": written.version, "context": context, "receipt": receipt_row(written.receipt)}
