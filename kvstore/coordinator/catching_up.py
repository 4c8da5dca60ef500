"""What a coordinator has missed of some keys, fetched from the others and merged into its own records, before it changes them.

A write does so whose context names what we have not seen, and so does a touch; both hear others in the order in which they answer,
until they know enough. Half of the time that is left is for this, the other half for what comes after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kvproto.errors import KvError
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.replicas import Arrivals, Replicas
from kvstore.coordinator.seats import Seats
from kvstore.runtime import Clock
from kvstore.storage.freshness import Freshness
from kvstore.storage.hints import HintTable
from kvstore.storage.store import Store
from kvstore.transport.peers import FetchChunk


class Heard:
    """Who has told what it holds, in that order, and below which of the keys each has told all: of those from `end` on it was too
    much for one answer. `arrivals` is where the answers came."""

    __slots__ = ("arrivals", "end", "nodes")

    def __init__(self, arrivals: Arrivals, end: int) -> None:
        self.arrivals = arrivals
        self.end = end
        self.nodes: list[str] = []


class CatchingUp:
    """One node's, for whoever coordinates."""

    def __init__(self, *, store: Store, hints: HintTable, replicas: Replicas, clock: Clock, freshness: Freshness) -> None:
        self._store = store
        self._hints = hints
        self._replicas = replicas
        self._clock = clock
        self._freshness = freshness

    async def hear(
        self,
        sub: SubBatch,
        keys: Sequence[bytes],
        digests: bytes,
        seats: Seats,
        deadline_s: float,
        *,
        is_enough: Callable[[Sequence[str]], bool],
    ) -> Heard:
        """Merges what those in the other seats hold differently of `keys` than `digests` say, until `is_enough` of who has told, or
        all have, or half of the time is over."""
        loop, since_ms = asyncio.get_running_loop(), self._clock.now_ms()
        heard = Heard(Arrivals(loop, (loop.time() + deadline_s) / 2), len(keys))
        arrivals = sub.story = heard.arrivals
        others = [node for node in seats.holders.values() if node != self._replicas.me]
        self._replicas.fetch_from(others, keys, digests, deadline_s, arrivals, sub.view.ring.hash, sub.trace)
        for _ in others:
            if is_enough(heard.nodes):
                break  # a stalled peer has nothing more to tell
            answer = await arrivals.next()
            if answer is None:
                break
            if answer.error is None:
                assert isinstance(answer, FetchChunk)
                heard.nodes.append(answer.node)
                heard.end = min(heard.end, max(1, answer.answered_below))
                await self.take_in(sub, seats, keys, answer, since_ms, arrivals.deadline_s)
        arrivals.close()
        return heard

    async def take_in(
        self, sub: SubBatch, seats: Seats, keys: Sequence[bytes], answer: FetchChunk, since_ms: int, until_s: float
    ) -> None:
        """Merges what a replica holds differently, asked at `since_ms`, into our own records; returns when that is durable or
        failed, or at `until_s`: a slow disk of ours is no reason to keep a client waiting beyond its deadline. A stand-in notes for
        whom it is with the copy: nobody else would ever find one that no write came on top of."""
        found = [(keys[at], record) for at, record in zip(answer.differing, answer.records, strict=True) if record]
        if self._freshness.why_late(since_ms, len(found)) is not None:
            return  # we stood still meanwhile
        loop = asyncio.get_running_loop()
        merged: asyncio.Future[None] = loop.create_future()

        def done(*_: object) -> None:
            if not merged.done():  # the client may have gone away meanwhile; who else waits for this commit must not notice
                merged.set_result(None)

        try:
            self._store.admit(len(found), sum([len(record) for _, record in found]))
        except KvError:
            return  # minting will be refused for the same reason
        taken, records = [key for key, _ in found], [record for _, record in found]
        pointers = () if sub.owners.includes_me else self._hints.hold(seats.home_of(self._replicas.me), taken, records)
        self._store.merge(taken, records, done, beside=pointers)
        timer = loop.call_at(until_s, done)
        try:
            await merged
        finally:
            timer.cancel()
