"""Rebuilds hash trees in the background: those that are unknown, and those that have outgrown their leaves.

One tree at a time, from a snapshot that is taken between two commits; what is written meanwhile counts for it as well
(core/merkle/forest.py). Nothing waits for it: a node serves, and compares what it can, while its trees are rebuilt. It takes the
memory of one tree and of a few hundred records beside the forest's own.
"""

from __future__ import annotations

import asyncio

from kvproto.errors import KvError, StorageError
from kvstore.core.merkle.forest import PREFIX_BYTES, Forest
from kvstore.repair.pace import Pace
from kvstore.storage.replica import Replica
from kvstore.storage.store import Snapshot, Store
from kvstore.telemetry import log

LOOK_S = 0.5
QUIET_LOOK_S = 1.0
"""While every tree is known."""
RETRY_S = 5.0
ROWS_AT_ONCE = 256
ROWS_BYTES = 1 << 18


class TreeKeeper:
    """One node's rebuilds, from `start` to `stop`; `rebuilt` counts trees, `failed` attempts that could not be read."""

    def __init__(self, *, me: str, forest: Forest, store: Store, replica: Replica, pace: Pace) -> None:
        self._me = me
        self._forest = forest
        self._store = store
        self._replica = replica
        self._pace = pace
        self._task: asyncio.Task[None] | None = None
        self._later: dict[bytes, float] = {}
        self.rebuilt = 0
        self.failed = 0

    def start(self) -> None:
        """Begins to look after the trees."""
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"trees@{self._me}")

    def stop(self) -> None:
        """Ends at once: what was begun is unknown still."""
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            was_unknown = self._forest.unknown_count
            for prefix in [*self._forest.unknown, *self._forest.crowded()]:
                if self._later.get(prefix, 0.0) <= loop.time() and not await self._rebuild(prefix):
                    self._later[prefix] = loop.time() + RETRY_S
                await self._pace.turn()
            if was_unknown and not self._forest.unknown_count:
                self._later.clear()
                log.info("trees_rebuilt", trees=was_unknown)
            await asyncio.sleep(LOOK_S if self._forest.unknown_count else QUIET_LOOK_S)

    async def _rebuild(self, prefix: bytes) -> bool:
        """One tree; False: it is still unknown, and worth another try later."""
        try:
            snapshot, lost = await self._begin(prefix)
            is_over = False
            while not is_over:
                rows = await self._replica.read_some(snapshot, ROWS_AT_ONCE, ROWS_BYTES)
                is_over = rows.is_over
                damaged = [store_key for store_key in rows.damaged if store_key not in lost]
                for store_key in damaged:
                    self._store.distrust(store_key)
                if damaged or not self._forest.add_scanned(prefix, rows.store_keys, rows.records):
                    return False
                await self._pace.turn(sum(map(len, rows.records)))
        except StorageError as error:
            self.failed += 1
            log.warning("tree_unreadable", partition=int.from_bytes(prefix[:2], "big"), reason=error.message)
            return False
        is_known = self._forest.end_rebuild(prefix)
        self.rebuilt += is_known
        return is_known

    async def _begin(self, prefix: bytes) -> tuple[Snapshot, frozenset[bytes]]:
        """The snapshot, and the keys that were lost already when it was taken: their records are in no tree, and whatever comes in
        their place was built on nothing."""
        loop = asyncio.get_running_loop()
        begun: asyncio.Future[tuple[Snapshot, frozenset[bytes]]] = loop.create_future()

        def cut(error: KvError | None, snapshot: Snapshot | None) -> None:
            if begun.done():
                return
            if snapshot is None:
                begun.set_exception(error or StorageError("no snapshot"))
                return
            # In this very turn: the next commit's records are not in the snapshot.
            self._forest.begin_rebuild(prefix)
            lost = frozenset(key for key in self._store.lost_keys if key[:PREFIX_BYTES] == prefix)
            begun.set_result((snapshot, lost))

        self._store.snapshot(prefix, cut)
        return await begun
