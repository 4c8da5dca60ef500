"""Which namespace had which id in this data directory: an id is never given to another name (safety rule 6).

Ids follow from the configuration, by position unless they are stated; a namespace that is added or removed could shift those of the
others and show one namespace's keys under another's name. The directory remembers, and the node refuses to start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from kvproto.errors import ClusterError
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key

NAMESPACES_KEY = system_key(b"namespaces")


def remember_namespaces(engine: Engine, ids: Mapping[str, int]) -> None:
    """Checks `ids` (name to id) against those remembered and remembers the new ones, durably. To be called before anything else
    writes. Raises `ClusterError` naming both, and changes nothing then."""
    raw = engine.get(NAMESPACES_KEY)
    remembered: dict[str, int] = {} if raw is None else json.loads(raw)
    names = {number: name for name, number in remembered.items()}
    for name, number in sorted(ids.items()):
        if remembered.get(name, number) != number:
            raise ClusterError(
                f"namespace {name!r} has id {remembered[name]} in this data directory and {number} in the configuration: "
                f"say id = {remembered[name]} in [cluster.namespaces.{name}] on every node",
                subject=name,
            )
    for name, number in sorted(ids.items()):
        if names.get(number, name) != name:
            raise ClusterError(
                f"id {number} belongs to namespace {names[number]!r} in this data directory, "
                f"the configuration gives it to {name!r}: say another id in [cluster.namespaces.{name}] on every node",
                subject=name,
            )
    if not set(ids) <= set(remembered):
        engine.write([(NAMESPACES_KEY, json.dumps({**remembered, **ids}, sort_keys=True).encode())], sync=True)
