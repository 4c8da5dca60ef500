"""Hands over what home replicas have missed, once they can be reached again (Dynamo, SOSP'07, section 4.6).

For each target one batch is out at a time, of the latest records, over the same link as everything else: what waits there for
clients goes first, because handoff only begins a batch when nothing is queued, and at the pace of all background work (pace.py). A
hint is deleted when its target has durably acknowledged the record, never before, and not if the target missed the key again
meanwhile. A crash anywhere leaves hints that are handed over again; merging twice changes nothing.

A stand-in deletes its copy together with the last hint for it. If it had minted into that record it goes on under a new actor
epoch: under the old one its next dot would cover those that it no longer holds (safety rule 2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvproto.errors import KvError, RecordLost
from kvstore.cluster.view import Place, RingHolder
from kvstore.core.record import names_actor
from kvstore.crash_points import crash_point
from kvstore.repair.forgetting import have_forgotten
from kvstore.repair.owing import Owing
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.runtime import Clock
from kvstore.storage.epochs import ActorLedger
from kvstore.storage.hints import HintTable
from kvstore.storage.store import Store
from kvstore.telemetry import log
from kvstore.transport.peers import PeerTransport, StoreChunk

LOOK_S = 0.2
"""How often a target that is owed something is looked at; while nobody is, and all know that, nothing is looked at."""
BUSY_S = 0.02
BATCH_COUNT_MAX = 256
BATCH_BYTES_MAX = 128 * 1024
SEND_TIMEOUT_S = 5.0
EXPIRE_S = 60.0

SENT = crash_point("handoff.sent", "records are on their way to whoever missed them, and nothing is heard yet")
ACKNOWLEDGED = crash_point("handoff.acknowledged", "the target has the records; their hints still stand")
PAID = crash_point("handoff.paid", "hints and the copies that we only kept for others are being deleted")


class HintedHandoff:
    """One node's deliveries, from `start` to `stop`; `replayed` counts records."""

    def __init__(
        self,
        *,
        me: str,
        hints: HintTable,
        store: Store,
        ledger: ActorLedger,
        peers: PeerTransport,
        ring: RingHolder,
        pace: Pace,
        clock: Clock,
        owing: Owing,
    ) -> None:
        self._me = me
        self._pace = pace
        self._owing = owing
        self._hints = hints
        self._store = store
        self._ledger = ledger
        self._peers = peers
        self._clock = clock
        self._ring = ring
        self._in_flight: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        hints.on_change = owing.on_due = self._due.set
        self.replayed = 0

    def start(self) -> None:
        """Begins to look after every target there is."""
        self._looking = asyncio.get_running_loop().create_task(self._look(), name=f"handoff@{self._me}")

    def stop(self) -> None:
        """Ends at once; what was not acknowledged yet is handed over again."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        expire_at_s = loop.time() + EXPIRE_S
        try:
            while True:
                self._owing.look()
                for target in self._hints.targets:
                    if target not in self._in_flight and self._peers.reachable(target):
                        self._in_flight.add(target)
                        task = loop.create_task(self._hand_over(target), name=f"handoff@{self._me}>{target}")
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                if loop.time() >= expire_at_s:
                    expire_at_s = loop.time() + EXPIRE_S
                    self._forget([], *self._hints.expire(self._store.is_in_memory))
                if self._hints.count or not self._owing.is_settled:
                    await asyncio.sleep(LOOK_S)
                else:
                    await self._due.wait()
                self._due.clear()
        finally:
            for task in list(self._tasks):
                task.cancel()

    async def _hand_over(self, target: str) -> None:
        """Batch after batch until `target` is owed nothing, or does not take it."""
        began = self.replayed
        try:
            while self._peers.reachable(target):
                if self._peers.queued(target):
                    await asyncio.sleep(BUSY_S)  # clients first
                    continue
                await self._pace.turn()
                due = self._hints.due(target, BATCH_COUNT_MAX)
                if not due or not await self._hand_over_some(target, due):
                    break
        finally:
            self._in_flight.discard(target)
            if self.replayed > began:
                log.info("hints_handed_over", target=target, records=self.replayed - began, pending=self._hints.pending(target))

    async def _hand_over_some(self, target: str, due: Sequence[tuple[bytes, int]]) -> bool:
        """One batch; whether it is worth going on at once."""
        keys: list[bytes] = []
        records: list[bytes] = []
        handled: list[tuple[bytes, int]] = []
        gone: list[bytes] = []
        size_bytes = 0
        for store_key, stamp in due:
            if not self._is_due(store_key):
                continue
            try:
                record = self._store.durable(store_key)
            except RecordLost:
                record = None  # lost here is for anti-entropy to repair; there is nothing to hand over
            if record is not None:
                size_bytes += len(store_key) + len(record)
                if keys and size_bytes > BATCH_BYTES_MAX:
                    break
                keys.append(store_key)
                records.append(record)
            elif self._store.is_in_memory(store_key):
                gone.append(store_key)
            handled.append((store_key, stamp))
        refused: set[bytes] = set()
        if gone:
            timing = {"now_ms": self._clock.now_ms(), "ring_hash": self._ring.view.ring.hash}
            refused = set(gone) - await have_forgotten(self._peers, target, gone, timeout_s=SEND_TIMEOUT_S, **timing)
        if keys:
            self._pace.charge(size_bytes, len(keys))
            chunk = await self._send(target, keys, records, size_bytes)
            if chunk.error is not None:
                return False
            await ACKNOWLEDGED.passed()
            refused |= {keys[position] for position in chunk.refused}
        delivered = [(store_key, stamp) for store_key, stamp in handled if store_key not in refused]
        self._settle(target, dict(zip(keys, records, strict=True)), delivered)
        if delivered:
            await PAID.passed()
        self.replayed += sum(key not in refused for key in keys)
        return bool(delivered)

    def _is_due(self, store_key: bytes) -> bool:
        """Whether the latest of the key is durable: a hint is for the latest."""
        return not self._store.is_pending(store_key)

    async def _send(self, target: str, keys: Sequence[bytes], records: Sequence[bytes], size_bytes: int) -> StoreChunk:
        loop, told = asyncio.get_running_loop(), Told[StoreChunk]()
        deadline_s, ring_hash = loop.time() + SEND_TIMEOUT_S, self._ring.view.ring.hash
        since_ms = self._clock.now_ms()  # they were read just now; a batch that comes to nothing is read again (safety rule 9)
        self._peers.store(StoreChunk(target, keys, records, size_bytes, deadline_s, told.take, ring_hash, since_ms=since_ms))
        await SENT.passed()
        return await told.answer

    def _settle(self, target: str, sent: dict[bytes, bytes], delivered: Sequence[tuple[bytes, int]]) -> None:
        """The target has got these: their hints go, and with the last of them the copies that we only kept for others."""
        deletes = self._hints.paid(target, delivered)
        view = self._ring.view
        copies = [
            (store_key, sent[store_key])
            for store_key, _ in delivered
            if store_key in sent
            and not self._hints.is_owed(store_key)
            # A copy of a namespace that is not known here yet may be our own.
            and view.place_of(store_key, self._me) in (Place.ELSEWHERE, Place.DROPPED)
        ]
        if any(names_actor(record, self._ledger.actor) for _, record in copies):
            self._ledger.begin_epoch()
        self._forget(copies, deletes)

    def _forget(
        self, copies: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes], before: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        if not deletes:
            return
        try:
            self._store.admit(len(copies) + len(deletes) + len(before), sum(map(len, deletes)))
        except KvError:
            return  # they are found again at the next start, and handed over once more
        if before:
            self._store.commit([], lambda error: None, before, before=[])
        self._store.discard(copies, deletes, lambda error: None)
