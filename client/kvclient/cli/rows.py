"""Results as the JSON objects that programs read (docs/command.md, "JSON output")."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from kvclient.cli.output import receipt_row, text_or_base64

if TYPE_CHECKING:
    from kvclient.cli.connection import Entry, Written


def entry_row(key: bytes, entry: Entry) -> dict[str, Any]:
    """One key as read. `value` is null where there is none, or where there is more than one: then `siblings` holds them all."""
    values = entry.values
    row: dict[str, Any] = {**text_or_base64("key", key), "found": entry.found}
    row |= text_or_base64("value", values[0]) if len(values) == 1 else {"value": None}
    row["siblings"] = sibling_rows(entry) if len(values) > 1 else []
    row["context"] = base64.b64encode(entry.context).decode()
    row["version"] = entry.versions[0] if len(values) == 1 else None
    row["expires_at"] = entry.expires_at
    row["receipt"] = receipt_row(entry.receipt)
    return row


def sibling_rows(entry: Entry) -> list[dict[str, Any]]:
    """Each sibling with its version, in the entry's order."""
    return [
        {**text_or_base64("value", value), "version": version} for version, value in zip(entry.versions, entry.values, strict=True)
    ]


def written_row(key: bytes, written: Written) -> dict[str, Any]:
    """One write as acknowledged."""
    context = base64.b64encode(written.context).decode()
    return {**text_or_base64("key", key), "version": written.version, "context": context, "receipt": receipt_row(written.receipt)}
