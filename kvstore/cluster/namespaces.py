"""Namespaces made and dropped at run time, as one node does it: the parts of the catalog put together (safety rule 6).

core/catalog decides, catalog_changes agrees, catalog_keeper makes durable and installs, catalog_spread tells the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvproto.columns import NamespaceInfo, NamespaceWish
from kvstore.cluster.catalog_changes import CatalogChanges
from kvstore.cluster.catalog_keeper import CatalogKeeper
from kvstore.cluster.catalog_register import CatalogRegister
from kvstore.cluster.catalog_spread import CatalogPeers, CatalogSpread
from kvstore.cluster.view import RingHolder, made_namespace
from kvstore.core.catalog.catalog import Catalog, Entry
from kvstore.storage.commit import Committer
from kvstore.telemetry import log


class Namespaces:
    """One node's, from `start` to `stop`. `install` makes it go by a version; the first one was installed by whoever loaded it."""

    def __init__(
        self,
        me: str,
        others: Sequence[str],
        *,
        register: CatalogRegister,
        peers: CatalogPeers,
        committer: Committer,
        ring: RingHolder,
        install: Callable[[Catalog], None],
        value_bytes_max: int = 0,
    ) -> None:
        self._me = me
        self._ring = ring
        self.keeper = CatalogKeeper(me, committer, ring.view.catalog, install)
        self.changes = CatalogChanges(
            register,
            size=lambda: (ring.view.ring.replicas, len(ring.view.ring.members)),
            configured=lambda: ring.view.configured,
            committed=self.keeper.adopt,
            value_bytes_max=value_bytes_max,
        )
        self.spread = CatalogSpread(me, others, peers, keeper=self.keeper, changes=self.changes)

    async def create(self, wish: NamespaceWish, timeout_s: float) -> tuple[NamespaceInfo, int]:
        """The namespace, and the version in which it is live; returned when every node that answers soon goes by it. Raises as
        `CatalogChanges.create`."""
        catalog, entry = await self.changes.create(wish, timeout_s)
        log.info("namespace_created", node=self._me, namespace=entry.name, id=entry.id, revision=catalog.revision)
        await self.spread.push()
        return self._info(entry), catalog.revision

    async def drop(self, name: str, timeout_s: float) -> tuple[NamespaceInfo, int]:
        """What it was, and a version in which it is gone; returned as `create`. Raises as `CatalogChanges.drop`."""
        catalog, entry = await self.changes.drop(name, timeout_s)
        log.info("namespace_dropped", node=self._me, namespace=entry.name, id=entry.id, revision=catalog.revision)
        await self.spread.push()
        return self._info(entry), catalog.revision

    def start(self) -> None:
        """Begins what goes on in the background."""
        self.spread.start()

    def stop(self) -> None:
        """Ends it at once."""
        self.spread.stop()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.keeper.check()
        assert self._ring.view.catalog == self.keeper.current, "the node goes by the version that is durable here"

    def _info(self, entry: Entry) -> NamespaceInfo:
        info = made_namespace(entry, len(self._ring.view.ring.members))
        assert info is not None, "only what this version understands is made or dropped through it"
        return info
