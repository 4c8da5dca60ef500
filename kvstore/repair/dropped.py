"""Erases what dropped namespaces have left on this node, in the background: records and registers, what was damaged of them,
promises, hints.

Nothing new comes in while it runs (`Store.go_by`), so one barrier behind the last commit and one pass over the disk are enough. The
pass goes from prefix to prefix, so it costs what there is and not what there was. That all is gone is noted last: after a crash it
is done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from kvproto.errors import KvError
from kvstore.cluster.view import RingHolder
from kvstore.core.catalog.catalog import RUN_TIME_ID_MAX, RUN_TIME_ID_MIN, Catalog
from kvstore.crash_points import crash_point
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.storage.catalogs import erased_by, load_erased
from kvstore.storage.dropped_ids import DroppedIds
from kvstore.storage.engine import Engine
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import quarantine_range, split_quarantine_key, store_key_prefix
from kvstore.storage.registers import Registers
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from kvstore.storage.trees import held_prefixes
from kvstore.telemetry import log

KEYS_AT_ONCE = 256
RETRY_S = 1.0

SETTLED = crash_point("dropping.settled", "nothing of the dropped is taken in any more, and nothing is erased")
STAGED = crash_point("dropping.staged", "some of the dropped is being deleted")
ERASED = crash_point("dropping.erased", "all of the dropped is gone, and that is being written down")
NOTED = crash_point("dropping.noted", "it is durable that all of the dropped is gone")


class DroppedNamespaces:
    """One node's, from `start` to `stop`; `erased` counts records. `is_over`: nothing of a dropped namespace is left, as far as
    this node has heard of it."""

    def __init__(
        self,
        me: str,
        *,
        engine: Engine,
        store: Store,
        replica: Replica,
        registers: Registers,
        hints: HintTable,
        ring: RingHolder,
        partitions: int,
        pace: Pace,
    ) -> None:
        self._me = me
        self._engine = engine
        self._store = store
        self._hints = hints
        self._registers = registers
        self._replica = replica
        self._ring = ring
        self._partitions = partitions
        self._pace = pace
        self._state = load_erased(engine)
        self._task: asyncio.Task[None] | None = None
        self._is_started = False
        self.erased = 0

    @property
    def is_over(self) -> bool:
        """See the class."""
        return not self._state.is_behind(self._ring.view.catalog)

    def start(self) -> None:
        """From here on it goes on whenever there is something to erase."""
        self._is_started = True
        self.wake()

    def wake(self) -> None:
        """This node may go by a newer version of the catalog."""
        if self._is_started and not self.is_over and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"dropped@{self._me}")

    def stop(self) -> None:
        """Ends at once; the next life goes on with it."""
        self._is_started = False
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while not self.is_over:
            catalog, began = self._ring.view.catalog, self.erased
            try:
                await self._erase(catalog)
            except KvError as error:  # too much waits for the disk, or it has failed
                log.warning("erased_later", node=self._me, reason=error.message)
                await asyncio.sleep(RETRY_S)
                continue
            log.info("dropped_namespaces_erased", node=self._me, revision=catalog.revision, records=self.erased - began)

    async def _erase(self, catalog: Catalog) -> None:
        """Everything that `catalog` names as dropped; then notes that it is gone. Raises `KvError`."""
        dropped = DroppedIds(catalog)
        await self._settled()
        await SETTLED.passed()
        self._store.forget_dropped()
        promises = self._registers.forget_dropped()
        hints = self._hints.forget(dropped.is_of)
        rows = promises + hints
        for at in range(0, len(rows), KEYS_AT_ONCE):
            await self._delete([], rows[at : at + KEYS_AT_ONCE])
        for partition in range(self._partitions):
            for prefix in self._prefixes(partition):
                if dropped.is_of(prefix):
                    await self._erase_all(prefix)
            await self._pace.turn()
        damaged = [key for key in self._engine.keys(*quarantine_range()) if dropped.is_of(split_quarantine_key(key))]
        if damaged:
            await self._delete([], damaged)
        state, told = erased_by(catalog), Told[KvError | None]()
        self._store.commit([], told.take, [state.row()], before=[])
        await ERASED.passed()
        error = await told.answer
        if error is not None:
            raise error
        await NOTED.passed()
        self._state = state

    def _prefixes(self, partition: int) -> Iterator[bytes]:
        """Those of namespaces made at run time of which anything is held."""
        end = store_key_prefix(partition, RUN_TIME_ID_MAX)
        for prefix in held_prefixes(self._engine, store_key_prefix(partition, RUN_TIME_ID_MIN)):
            if prefix > end:
                return
            yield prefix

    async def _erase_all(self, prefix: bytes) -> None:
        while keys := await self._replica.keys_under(prefix, KEYS_AT_ONCE):
            await self._delete(keys)
            self._registers.forget(keys)
            self.erased += len(keys)

    async def _settled(self) -> None:
        told = Told[KvError | None]()
        self._store.settled(told.take)
        error = await told.answer
        if error is not None:
            raise error

    async def _delete(self, store_keys: list[bytes], beside: list[bytes] | None = None) -> None:
        told = Told[KvError | None]()
        self._store.admit(len(store_keys) + len(beside or ()), sum(map(len, store_keys)))
        self._store.erase(store_keys, told.take, beside=beside or ())
        await STAGED.passed()
        error = await told.answer
        if error is not None:
            raise error
        await self._pace.turn(sum(map(len, store_keys)), len(store_keys))
