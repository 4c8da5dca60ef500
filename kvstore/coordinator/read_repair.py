"""After the reply: brings the replicas that a read has seen to be stale up to the merge of what it saw.

Bounded in rate by the pace of all work that nobody waits for, and in size: past `in_flight_max` keys or `in_flight_bytes_max`
repairs are dropped and counted, they are only a shortcut to what anti-entropy does anyway. A record that one replica has lost is
replaced only by the merge of what *all* other home replicas hold (safety rule 5).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from kvproto.errors import KvError
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.replicas import Replicas
from kvstore.coordinator.seats import Seats
from kvstore.core.policies.registry import join_records
from kvstore.core.quorum import Tally
from kvstore.core.record import EMPTY_RECORD
from kvstore.storage.freshness import Freshness
from kvstore.storage.store import Store
from kvstore.transport.peers import StoreChunk

REPAIR_TIMEOUT_S = 5.0


class Pace(Protocol):
    """How fast work goes that nobody waits for (repair/pace.py)."""

    async def turn(self, size_bytes: int = 0, operations: int = 0) -> None:
        """Returns when so much work may be done."""


class _Job:
    """What one node is to be given, read from `since_ms` on."""

    __slots__ = ("keys", "node", "records", "since_ms", "size_bytes")

    def __init__(self, node: str, keys: list[bytes], records: list[bytes], since_ms: int) -> None:
        self.node = node
        self.keys = keys
        self.records = records
        self.since_ms = since_ms
        self.size_bytes = sum(map(len, keys)) + sum(map(len, records))


class ReadRepair:
    """Repairs what reads found; `repaired` and `dropped` count keys."""

    def __init__(
        self,
        store: Store,
        replicas: Replicas,
        freshness: Freshness,
        pace: Pace,
        *,
        in_flight_max: int = 10_000,
        in_flight_bytes_max: int = 128 * 1024 * 1024,
    ) -> None:
        self._store = store
        self._replicas = replicas
        self._freshness = freshness
        self._pace = pace
        self._jobs: deque[_Job] = deque()
        self._working: asyncio.Task[None] | None = None
        self._in_flight_max = in_flight_max
        self._in_flight_bytes_max = in_flight_bytes_max
        self._in_flight = 0
        self._in_flight_bytes = 0
        self.repaired = 0
        self.dropped = 0

    def submit(
        self,
        sub: SubBatch,
        held: Sequence[bytes | None],
        others: Mapping[int, Mapping[str, bytes | None]],
        lost: Sequence[int],
        tally: Tally,
        seats: Seats,
        since_ms: int,
    ) -> None:
        """`held` is what we hold, `others` what answered nodes hold differently, read from `since_ms` on; nodes that did not answer
        are left alone, and so are stand-ins: what they hold is for their home replicas, and nobody would take away again what they
        were given besides."""
        me = self._replicas.me
        if self._freshness.why_late(since_ms, len(others)) is not None:
            return  # we stood still meanwhile: whoever reads it next looks again
        stale: dict[str, tuple[list[bytes], list[bytes]]] = {}
        for position in sorted({*others, *lost}):
            differing = others.get(position, {})
            merged = held[position]
            for record in differing.values():
                if record is not None:
                    merged = record if merged is None else join_records(sub.space.policy, merged, record)
            store_key = sub.store_keys[position]
            if position in lost:
                # Every other home replica vouches for what it holds, be it nothing; where there is no other, nobody does.
                if 0 < tally.received(position) == len(sub.owners.nodes) - 1 and not seats.stand_ins:
                    record = merged or EMPTY_RECORD
                    self._count(1, len(record))
                    self._store.repair_lost(store_key, record, partial(self._done, count=1, size_bytes=len(record)))
                continue
            if merged is None:
                continue
            for node in tally.answered:
                if seats.holders[node] != node:
                    continue
                if (held[position] if node == me else differing.get(node, held[position])) != merged:
                    keys, records = stale.setdefault(node, ([], []))
                    keys.append(store_key)
                    records.append(merged)
        for node, (keys, records) in stale.items():
            self._queue(_Job(node, keys, records, since_ms))

    def stop(self) -> None:
        """What waits for its turn is dropped."""
        if self._working is not None:
            self._working.cancel()
        while self._jobs:
            job = self._jobs.popleft()
            self._count(-len(job.keys), -job.size_bytes)
            self.dropped += len(job.keys)

    def _queue(self, job: _Job) -> None:
        count = len(job.keys)
        if self._in_flight + count > self._in_flight_max or (
            self._in_flight and self._in_flight_bytes + job.size_bytes > self._in_flight_bytes_max
        ):
            self.dropped += count
            return
        self._count(count, job.size_bytes)
        self._jobs.append(job)
        if self._working is None:
            self._working = asyncio.get_running_loop().create_task(self._work(), name=f"read-repair@{self._replicas.me}")

    async def _work(self) -> None:
        """Sends what is queued, at the pace of all work that nobody waits for."""
        try:
            while self._jobs:
                await self._pace.turn(self._jobs[0].size_bytes, len(self._jobs[0].keys))
                self._send(self._jobs.popleft())
        finally:
            self._working = None

    def _send(self, job: _Job) -> None:
        node, keys, records, size_bytes, count = job.node, job.keys, job.records, job.size_bytes, len(job.keys)
        done = partial(self._done, count=count, size_bytes=size_bytes)
        if node == self._replicas.me:
            try:
                if (late := self._freshness.why_late(job.since_ms, count)) is not None:
                    raise late
                self._store.admit(count, size_bytes)
            except KvError as error:
                done(error)
                return
            self._store.merge(keys, records, lambda error, refused: done(error))
            return
        deadline_s = asyncio.get_running_loop().time() + REPAIR_TIMEOUT_S
        self._replicas.peers.store(
            StoreChunk(node, keys, records, size_bytes, deadline_s, lambda chunk: done(chunk.error), since_ms=job.since_ms)
        )

    def _count(self, count: int, size_bytes: int) -> None:
        self._in_flight += count
        self._in_flight_bytes += size_bytes

    def _done(self, error: KvError | None, *, count: int, size_bytes: int) -> None:
        self._count(-count, -size_bytes)
        if error is None:
            self.repaired += count
        else:
            self.dropped += count
