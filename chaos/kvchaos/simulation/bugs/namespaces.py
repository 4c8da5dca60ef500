"""Namespaces that nodes do not agree on (safety rule 6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.errors import AvailabilityError
from kvstore.cluster import catalog_changes
from kvstore.cluster.catalog_changes import CatalogChanges
from kvstore.core.catalog.catalog import Catalog
from kvstore.local_namespaces import LocalNamespaces
from kvstore.storage.dropped_ids import DroppedIds


@bug(
    "namespaces-without-majority",
    "without a majority a node makes and drops namespaces on its own: both sides of a cut do (safety rule 6)",
    scenario="namespaces",
)
def change_alone(patch: Patch) -> None:
    """Ids get two meanings, and versions of one number differ."""

    async def agree(self: CatalogChanges, decide: Any, unsure: Any, timeout_s: float) -> Catalog:
        try:
            agreed: Catalog = await agree_by_majority(self, decide, unsure, timeout_s)
            return agreed
        except AvailabilityError:
            keeper: Any = getattr(self._committed, "__self__")  # noqa: B009 - mypy knows methods as functions
            after: Catalog = decide(keeper.current)
            await keeper.adopt(after)
            return after

    agree_by_majority = patch.set(CatalogChanges, "_agree", agree)


@bug("namespace-ids-reused", "the id of the namespace that was dropped last is given to the next one", scenario="namespaces")
def reuse_ids(patch: Patch) -> None:
    """Records of the one are read under the name of the other."""

    def drop(catalog: Catalog, name: str, **options: Any) -> Catalog:
        number = catalog.entry(name).id if name in catalog.live else 0
        after: Catalog = dropped(catalog, name, **options)
        return replace(after, next_id=number) if number == after.next_id - 1 else after

    dropped = patch.set(catalog_changes, "drop", drop)


@bug(
    "dropped-records-taken",
    "what comes late for a dropped namespace is taken in all the same: hints, repairs and writes under way bring it back",
    scenario="namespaces",
)
def take_in_dropped(patch: Patch) -> None:
    """They lie there for ever, since they were erased already."""
    patch.set(DroppedIds, "any", property(lambda self: False, lambda self, value: None))


@bug("unspread-forgotten", "nobody reads the register to find a version that whoever made it has not spread", scenario="unspread")
def never_read_the_register(patch: Patch) -> None:
    """A node that ends between commit and spread takes the news with it."""

    def start(self: LocalNamespaces) -> None:
        self.dropped.start()

    patch.set(LocalNamespaces, "start", start)
