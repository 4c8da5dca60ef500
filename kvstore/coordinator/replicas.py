"""Fan-out to the home replicas and their answers in arrival order.

An arrival queue rather than a set of tasks: the fastest answers decide, one slow peer holds up nobody, and the order of answers is the
order of arrival and nothing else (sets of tasks would make it depend on hashing).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from kvproto.errors import KvError

from kvstore.transport.peers import FetchChunk, PeerTransport, StoreChunk


class LocalAnswer:
    """Our own replica's part: `error`, or the positions it refused."""

    __slots__ = ("error", "node", "refused")

    def __init__(self, node: str, error: KvError | None, refused: Sequence[int] = ()) -> None:
        self.node = node
        self.error = error
        self.refused = refused


Answer = LocalAnswer | StoreChunk | FetchChunk


class Arrivals:
    """Answers in arrival order, for one waiter, until a deadline of the loop's clock."""

    __slots__ = ("_answers", "_loop", "_timer", "_waiter", "deadline_s", "timed_out")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline_s: float) -> None:
        self._loop = loop
        self._answers: deque[Answer] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.deadline_s = deadline_s
        self.timed_out = False

    def add(self, answer: Answer) -> None:
        """An answer came."""
        self._answers.append(answer)
        self._wake()

    async def next(self) -> Answer | None:
        """The next answer; None once the deadline has passed and nothing is left."""
        while not self._answers:
            if self.timed_out:
                return None
            if self._timer is None:
                self._timer = self._loop.call_at(self.deadline_s, self._time_out)
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._answers.popleft()

    def close(self) -> None:
        """Nobody will wait again."""
        if self._timer is not None:
            self._timer.cancel()

    def hurry(self, deadline_s: float) -> None:
        """Brings the deadline forward: what is decided does not wait long for stragglers."""
        if deadline_s < self.deadline_s:
            self.deadline_s = deadline_s
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _time_out(self) -> None:
        self.timed_out = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Replicas:
    """The other home replicas of a sub-batch, reached through the peer transport."""

    def __init__(self, me: str, peers: PeerTransport) -> None:
        self.me = me
        self.peers = peers

    def store_at_others(
        self, nodes: Sequence[str], keys: Sequence[bytes], records: Sequence[bytes], deadline_s: float, arrivals: Arrivals
    ) -> None:
        """Sends whole records to every node but this one; answers arrive in `arrivals`."""
        size_bytes = sum(map(len, records)) + sum(map(len, keys))
        for node in nodes:
            if node != self.me:
                self.peers.store(StoreChunk(node, keys, records, size_bytes, deadline_s, arrivals.add))

    def fetch_from_others(
        self, nodes: Sequence[str], keys: Sequence[bytes], digests: bytes, deadline_s: float, arrivals: Arrivals
    ) -> None:
        """Asks every node but this one for what differs from `digests`; answers arrive in `arrivals`."""
        size_bytes = len(digests) + sum(map(len, keys))
        for node in nodes:
            if node != self.me:
                self.peers.fetch(FetchChunk(node, keys, digests, size_bytes, deadline_s, arrivals.add))
