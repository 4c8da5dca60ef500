"""Brings back records that this node could not read: by the merge of what *all* other home replicas hold, and nothing less.

What was lost here may have been acknowledged with any one of the others, so each has to vouch for what it holds, be it nothing
(safety rule 5). A read that meets the key does the same (coordinator/read_repair.py); this does not wait for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvproto.errors import KvError
from kvstore.cluster.view import RingHolder
from kvstore.core.record import (
    DIGEST_BYTES,
    EMPTY_RECORD,
    verify,
)
from kvstore.crash_points import crash_point
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.storage.freshness import Freshness
from kvstore.storage.store import Store
from kvstore.telemetry import log
from kvstore.transport.peers import FetchChunk, PeerTransport

LOOK_S = 1.0
KEYS_AT_ONCE = 64
FETCH_TIMEOUT_S = 5.0

FETCHED = crash_point("lost-record.fetched", "every other home replica has told what it holds of a lost record")
STAGED = crash_point("lost-record.staged", "a lost record is being written anew")
REPAIRED = crash_point("lost-record.repaired", "a lost record is durable here again")


class LostRecords:
    """One node's, from `start` to `stop`; `repaired` counts keys."""

    def __init__(self, *, me: str, store: Store, peers: PeerTransport, ring: RingHolder, freshness: Freshness, pace: Pace) -> None:
        self._me = me
        self._store = store
        self._peers = peers
        self._ring = ring
        self._freshness = freshness
        self._pace = pace
        self._task: asyncio.Task[None] | None = None
        self.repaired = 0

    def start(self) -> None:
        """Begins to look for what is lost."""
        self._task = asyncio.get_running_loop().create_task(self._look(), name=f"lost-records@{self._me}")

    def stop(self) -> None:
        """Ends at once."""
        if self._task is not None:
            self._task.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            began = self.repaired
            for store_key in self._store.lost_keys[:KEYS_AT_ONCE]:
                if await self._repair(store_key):
                    self.repaired += 1
                await self._pace.turn(operations=1)
            if self.repaired > began:
                log.info("lost_records_repaired", records=self.repaired - began, left=self._store.quarantined)

    async def _repair(self, store_key: bytes) -> bool:
        others = self._others(store_key)
        if not others or not all(map(self._peers.reachable, others)):
            return False
        asked_ms = self._freshness.now_ms()
        answers = await asyncio.gather(*(self._fetch(node, store_key) for node in others))
        merged: bytes | None = None
        for answer in answers:
            if answer.error is not None or answer.lost or answer.rebuilding or answer.answered_below < answer.count:
                return False
            for record in filter(None, answer.records):
                if not verify(record):
                    return False
                merged = record if merged is None else self._store.join(store_key, merged, record)
        if self._freshness.why_late(asked_ms, 1) is not None:
            return False  # we stood still meanwhile (safety rule 9): the next look asks again
        if store_key not in self._store.lost_keys:
            return False  # somebody was quicker
        await FETCHED.passed()
        is_written = await self._write(store_key, merged or EMPTY_RECORD)
        if is_written:
            await REPAIRED.passed()
        return is_written

    def _others(self, store_key: bytes) -> Sequence[str]:
        homes = self._ring.view.homes_of(store_key)
        return [node for node in homes if node != self._me] if self._me in homes else []

    async def _fetch(self, node: str, store_key: bytes) -> FetchChunk:
        loop, told = asyncio.get_running_loop(), Told[FetchChunk]()
        deadline_s, ring_hash = loop.time() + FETCH_TIMEOUT_S, self._ring.view.ring.hash
        size_bytes = len(store_key) + DIGEST_BYTES
        self._peers.fetch(FetchChunk(node, [store_key], bytes(DIGEST_BYTES), size_bytes, deadline_s, told.take, ring_hash))
        return await told.answer

    async def _write(self, store_key: bytes, record: bytes) -> bool:
        told = Told[KvError | None]()
        try:
            self._store.admit(1, len(record))
        except KvError:
            return False
        self._store.repair_lost(store_key, record, told.take)
        await STAGED.passed()
        return await told.answer is None
