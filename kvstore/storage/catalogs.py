"""What a node keeps of the namespaces made at run time: the version that it goes by, and how far it has erased what was dropped.

    0xFF x 6 . "n" . "catalog"    the committed version, as it was agreed on (core/catalog/encoding.py)
    0xFF x 6 . "n" . "erased"     {"next_id": ..., "live": [...]}: ids below that are not live were erased here for good

A version is durable here before the node goes by it: what it has written under a namespace's id it finds again, and what it has
once refused as dropped it refuses after every start.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from kvproto.errors import ClusterError
from kvstore.core.catalog.catalog import RUN_TIME_ID_MIN, Catalog
from kvstore.core.catalog.encoding import decode_catalog
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key

CATALOG_KEY = system_key(b"catalog")
ERASED_KEY = system_key(b"erased")


def load_catalog(engine: Engine, configured: frozenset[str]) -> Catalog:
    """The version that this directory goes by. Raises `ClusterError` when it cannot be read, or when `configured` gives a name
    that is in use another meaning."""
    catalog = decode_catalog(engine.get(CATALOG_KEY) or b"")
    for name in sorted(configured & catalog.live.keys()):
        raise ClusterError(
            f"namespace {name!r} was made at run time (id {catalog.live[name].id}) and is in the configuration as well: take "
            f"[cluster.namespaces.{name}] out of every node.toml, or drop it first",
            subject=name,
        )
    return catalog


@dataclass(frozen=True, slots=True)
class Erased:
    """Of all ids below `next_id` those in `live` only may have records here, as far as was ever known here."""

    next_id: int = RUN_TIME_ID_MIN
    live: frozenset[int] = frozenset()

    def is_behind(self, catalog: Catalog) -> bool:
        """Whether ids that `catalog` names as dropped may have records here."""
        return any(True for _ in self.left(catalog))

    def left(self, catalog: Catalog) -> Iterator[int]:
        """Those ids."""
        now = catalog.live_ids
        yield from sorted(self.live - now)
        for one in range(self.next_id, catalog.next_id):
            if one not in now:
                yield one

    def row(self) -> tuple[bytes, bytes]:
        """What to write."""
        return ERASED_KEY, json.dumps({"next_id": self.next_id, "live": sorted(self.live)}).encode()


def erased_by(catalog: Catalog) -> Erased:
    """What is so when all that `catalog` names as dropped was erased."""
    return Erased(catalog.next_id, catalog.live_ids)


def load_erased(engine: Engine) -> Erased:
    """How far this directory has come."""
    raw = engine.get(ERASED_KEY)
    if raw is None:
        return Erased()
    found = json.loads(raw)
    return Erased(found["next_id"], frozenset(found["live"]))
