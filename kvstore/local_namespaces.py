"""What makes one node go by a version of the namespaces: the view that everybody takes, and what has to follow it at once. Wires,
and decides nothing; cluster/namespaces.py says when.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from kvproto.columns import NamespaceInfo, NamespaceWish
from kvstore.cluster.catalog_register import CatalogRegister, CoordinatedRegister
from kvstore.cluster.namespaces import Namespaces
from kvstore.cluster.view import RingView
from kvstore.config import NamespaceConfig
from kvstore.coordinator.linearizable.half import LinearizableHalf
from kvstore.coordinator.serving import Serving
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.policies.operations import Policy
from kvstore.core.policies.plain import LWW
from kvstore.repair.dropped import DroppedNamespaces
from kvstore.repair.leftovers import Leftovers
from kvstore.repair.rebuilding import Rebuilding
from kvstore.repair.surroundings import Surroundings
from kvstore.repair.unsynced import unsynced_ids


def joins_of(view: RingView) -> dict[bytes, Policy]:
    """By the four bytes of a namespace's id in a store key: the policies whose join is not the usual merge."""
    return {space.info.id.to_bytes(4, "big"): LWW for space in view.spaces.values() if space.policy is LWW}


def _quotas_of(info: NamespaceInfo) -> NamespaceConfig:
    return NamespaceConfig(
        id=info.id,
        name=info.name,
        quota_operations_per_s=info.quota_operations_per_s,
        quota_bytes_per_s=info.quota_bytes_per_s,
    )


class LocalNamespaces:
    """One node's, from `start` to `stop`. From the moment it is made nothing of a dropped namespace is taken in."""

    def __init__(
        self,
        around: Surroundings,
        *,
        linearizable: LinearizableHalf,
        serving: Serving,
        rebuilding: Rebuilding,
        rng: random.Random,
    ) -> None:
        me, others, storage, ring = around.config.node_id, around.config.others, around.storage, around.ring
        self._me = me
        self._ring = ring
        self._store = storage.store
        self._memory = storage.memory
        self._leftovers = Leftovers(storage.engine, storage.committer, storage.memory, ring, around.clock)
        self._leftovers.look(storage.in_memory_at_start)
        self._replica = around.replica
        self._linearizable = linearizable
        self._quotas = serving.quotas
        self._coordinator = coordinator = serving.coordinator
        self._granted: dict[str, int] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self.dropped = DroppedNamespaces(
            me,
            engine=storage.engine,
            store=storage.store,
            replica=around.replica,
            registers=linearizable.registers,
            hints=storage.hints,
            ring=ring,
            partitions=ring.view.ring.partitions,
            pace=around.pace,
        )
        self.register: CatalogRegister = CoordinatedRegister(
            lambda groups, reply: coordinator.execute(groups, reply, inside=True), around.clock, rng
        )
        self.catalog = Namespaces(
            me,
            others,
            register=self.register,
            peers=around.peers,
            committer=storage.committer,
            ring=ring,
            install=self._install,
            value_bytes_max=around.config.cluster.value_bytes_max,
        )
        self.spread = self.catalog.spread
        self.on_change: Callable[[], None] = lambda: None
        """Is told when this node goes by other namespaces."""
        self._follow()
        rebuilding.knows_all = lambda: not self.spread.is_behind
        if others:
            coordinator.look = self.spread.look
            linearizable.desk.look = self._look_then

    async def create(self, wish: NamespaceWish, timeout_s: float) -> tuple[NamespaceInfo, int]:
        """See `Namespaces.create`."""
        self._check_serving()
        return await self.catalog.create(wish, timeout_s)

    async def drop(self, name: str, timeout_s: float) -> tuple[NamespaceInfo, int]:
        """See `Namespaces.drop`."""
        self._check_serving()
        return await self.catalog.drop(name, timeout_s)

    def start(self) -> None:
        """Begins what goes on in the background."""
        self.catalog.start()
        self.dropped.start()

    def stop(self) -> None:
        """Ends it at once."""
        self.catalog.stop()
        self.dropped.stop()
        for task in list(self._looking):
            task.cancel()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.catalog.check()

    def _check_serving(self) -> None:
        stopped = self._coordinator.stopped
        if stopped is not None:
            raise stopped

    def _install(self, catalog: Catalog) -> None:
        """In one turn of the loop: nobody sees the one without the other."""
        self._ring.view = self._ring.view.with_catalog(catalog)
        self._follow()
        self.on_change()
        self.dropped.wake()

    def _follow(self) -> None:
        view = self._ring.view
        self._store.go_by(view.catalog, joins_of(view))
        self._store.unsynced = unsynced_ids(view)
        self._leftovers.look(self._memory.go_by([space.info for space in view.all_spaces()], at_start=False))
        self._replica.linearizable = self._linearizable.desk.linearizable = view.linearizable
        self._linearizable.desk.known_below = view.catalog.next_id
        self._linearizable.registers.go_by(view.catalog)
        for name in [name for name in self._quotas.of if name not in view.spaces]:
            self._quotas.install(name, None)
        for space in view.spaces.values():
            info = space.info
            if info.created and self._granted.get(info.name) != info.id:  # what was used of it so far goes on to count
                self._granted[info.name] = info.id
                self._quotas.install(info.name, _quotas_of(info))

    def _look_then(self, go_on: Callable[[], None]) -> None:
        async def look() -> None:
            await self.spread.look()
            go_on()

        task = asyncio.get_running_loop().create_task(look(), name=f"look@{self._me}")
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)
