"""Whether a store key is of a namespace that was dropped: asked once a key where any was, never where none was."""

from __future__ import annotations

from kvstore.core.catalog.catalog import RUN_TIME_ID_MIN, Catalog
from kvstore.storage.layout import NAMESPACE_AT


class DroppedIds:
    """Those of one version of the catalog. `any`: whether there are any at all."""

    __slots__ = ("_live", "_next", "any")

    def __init__(self, catalog: Catalog) -> None:
        self._live = frozenset(one.to_bytes(4, "big") for one in catalog.live_ids)
        self._next = min(catalog.next_id, 0xFFFF_FFFF).to_bytes(4, "big")
        self.any = catalog.next_id - RUN_TIME_ID_MIN > len(self._live)

    def is_of(self, store_key: bytes) -> bool:
        """Whether `store_key`, or a prefix with its namespace, is gone for ever."""
        found = store_key[NAMESPACE_AT]
        return _FIRST <= found < self._next and found not in self._live


_FIRST = RUN_TIME_ID_MIN.to_bytes(4, "big")
