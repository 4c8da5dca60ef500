"""A catalog as canonical JSON: equal catalogs have equal bytes. What a newer version of the store adds is kept, and written again.

    {"format": 1, "revision": 3, "next_id": 1073741826, "namespaces": [{"id": …, "name": …, "mode": …, …}], …}

`format` is raised only by a version whose catalogs older ones must not change; they are refused as a whole then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kvproto.errors import ClusterError
from kvstore.core.catalog.catalog import Catalog, Entry, JsonValue
from kvstore.core.catalog.settings import Settings

FORMAT = 1
CATALOG_BYTES_MAX = 512 * 1024
"""Of what a peer sends; 256 namespaces take about 60 kB."""

_SETTINGS = {one.name: int if one.type in (int, "int") else str for one in fields(Settings)}
_TOP = {"revision": int, "next_id": int}


class UnreadableCatalog(ClusterError):
    """Bytes that are no catalog, or one that this version must not touch."""


def encode_catalog(catalog: Catalog) -> bytes:
    """The bytes that are agreed on, stored and sent."""
    namespaces = [
        {**entry.more, "id": entry.id, "name": entry.name, **{name: getattr(entry.settings, name) for name in _SETTINGS}}
        for _, entry in sorted(catalog.live.items())
    ]
    whole = {
        **catalog.more,
        "format": FORMAT,
        "revision": catalog.revision,
        "next_id": catalog.next_id,
        "namespaces": namespaces,
    }
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def decode_catalog(data: bytes) -> Catalog:
    """The catalog of `data`; empty bytes are the first one, with nothing in it. Raises `UnreadableCatalog`."""
    if not data:
        return Catalog()
    try:
        whole = json.loads(data)
        if not isinstance(whole, dict) or whole.get("format") != FORMAT:
            found = whole.get("format") if isinstance(whole, dict) else None
            raise UnreadableCatalog(
                f"the list of namespaces has format {found!r}, this version knows {FORMAT}: update this node", subject="format"
            )
        rows = [_entry(row) for row in whole["namespaces"]]
        known = {*_TOP, "format", "namespaces"}
        catalog = Catalog(
            live={entry.name: entry for entry in rows},
            more=_rest(whole, known),
            **{name: _typed(whole[name], kind) for name, kind in _TOP.items()},
        )
        catalog.check()
        if len(catalog.live) != len(rows):
            raise ValueError("a name twice")
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError) as error:
        raise UnreadableCatalog(f"not a list of namespaces: {error!r}", subject="namespaces") from error
    return catalog


def _entry(row: Mapping[str, Any]) -> Entry:
    # A setting that this version does not find keeps its default: a newer one may have done without it.
    said = {name: _typed(row[name], kind) for name, kind in _SETTINGS.items() if name in row}
    return Entry(_typed(row["id"], int), _typed(row["name"], str), Settings(**said), _rest(row, {*_SETTINGS, "id", "name"}))


def _rest(row: Mapping[str, JsonValue], known: set[str]) -> Mapping[str, JsonValue]:
    return {name: value for name, value in row.items() if name not in known}


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
