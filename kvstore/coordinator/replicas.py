"""Fan-out to the home replicas and their answers in arrival order.

An arrival queue rather than a set of tasks: the fastest answers decide, one slow peer holds up nobody, and the order of answers
is the order of arrival and nothing else (sets of tasks would make it depend on hashing).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from kvproto.errors import KvError
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.seats import Seats, plan_seats
from kvstore.coordinator.story import tell_story
from kvstore.core.membership.opinions import Opinions
from kvstore.transport.peers import FetchChunk, PeerTransport, StoreChunk


class LocalAnswer:
    """Our own replica's part: `error`, or the positions it refused."""

    __slots__ = ("error", "heard_s", "node", "refused")

    def __init__(self, node: str, error: KvError | None, refused: Sequence[int] = ()) -> None:
        self.node = node
        self.heard_s = 0.0
        self.error = error
        self.refused = refused


class Noted:
    """It is durable that `node`, a home replica, has missed the write; or it cannot be: `error`."""

    __slots__ = ("error", "heard_s", "node")

    def __init__(self, node: str, error: KvError | None) -> None:
        self.node = node
        self.heard_s = 0.0
        self.error = error


FOREVER = float("inf")
HEDGE_BURST = 10.0
DELAY_S_MIN = 0.001
DELAY_S_MAX = 0.1
LATE_FACTOR = 4
"""A peer that owes an answer for this many hedge delays is asked after the others."""

Answer = LocalAnswer | StoreChunk | FetchChunk | Noted


def nobody(_answer: object) -> None:
    """Who waits for a chunk that has been answered."""


class Arrivals:
    """Answers in arrival order, for one waiter, until a deadline of the loop's clock. Keeps who was asked and heard, and when: it
    is the story of a round, should it have taken long."""

    __slots__ = ("_answers", "_late", "_loop", "_own", "_started_s", "_timer", "_waiter", "asked", "deadline_s", "timed_out")

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline_s: float) -> None:
        self._loop = loop
        self._started_s = loop.time()
        self._own: LocalAnswer | None = None
        self.asked: list[StoreChunk | FetchChunk] = []
        self._answers: deque[Answer] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late: Callable[[Answer], None] | None = None
        self.deadline_s = deadline_s
        self.timed_out = False

    def add(self, answer: Answer) -> None:
        """An answer came."""
        answer.heard_s = self._loop.time()
        if isinstance(answer, LocalAnswer):
            self._own = answer
        elif not isinstance(answer, Noted):
            # What was sent knows us by its callback, and we know it: a cycle that would keep its records in memory for minutes, for
            # a node rarely looks for cycles (commands/serve.py).
            answer.answered = nobody
        if self._late is not None:
            self._late(answer)
            return
        self._answers.append(answer)
        self._wake()

    async def next(self, until_s: float = FOREVER) -> Answer | None:
        """The next answer; None once `until_s` or the deadline has passed (`timed_out` says whether it was the deadline)."""
        while not self._answers:
            if self.timed_out:
                return None
            if self._timer is None:
                self._timer = self._loop.call_at(self.deadline_s, self._time_out)
            self._waiter = self._loop.create_future()
            if until_s < self.deadline_s:
                timer = self._loop.call_at(until_s, self._wake)
                await self._waiter
                timer.cancel()
                if not self._answers and self._loop.time() >= until_s:
                    return None
            else:
                await self._waiter
        return self._answers.popleft()

    def close(self, late: Callable[[Answer], None] | None = None) -> None:
        """Nobody will wait again; `late` is told what comes, or has come, nevertheless."""
        if self._timer is not None:
            self._timer.cancel()
        if late is not None:
            self._late = late
            while self._answers:
                late(self._answers.popleft())

    def hurry(self, deadline_s: float) -> None:
        """Brings the deadline forward: what is decided does not wait long for stragglers."""
        if deadline_s < self.deadline_s:
            self.deadline_s = deadline_s
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def continue_from(self, earlier: Arrivals) -> None:
        """This is the second part of a round: its story begins with the first."""
        self._started_s = earlier._started_s
        self.asked = [*earlier.asked, *self.asked]

    def facts(self) -> tuple[str, float, dict[str, object]]:
        """See `batch.Story`."""
        own = None if self._own is None else (self._own.node, self._own.heard_s)
        return tell_story(self.asked, own, self._started_s, self._loop.time())

    def _time_out(self) -> None:
        self.timed_out = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Replicas:
    """The other home replicas of a sub-batch, reached through the peer transport."""

    def __init__(self, me: str, peers: PeerTransport, opinions: Opinions | None = None) -> None:
        self.me = me
        self.peers = peers
        self.opinions = opinions or Opinions()
        self.patience = Patience()
        self._turn = 0

    def store_at_others(
        self,
        seats: Iterable[tuple[str, str]],
        keys: Sequence[bytes],
        records: Sequence[bytes],
        deadline_s: float,
        arrivals: Arrivals,
        ring_hash: int,
        trace: bytes = b"",
        *,
        since_ms: int,
    ) -> None:
        """Sends whole records, read at `since_ms`, to every holder but this node, each in its home's place, as owners by the ring
        of `ring_hash`; answers arrive in `arrivals`. `seats`: (home, holder)."""
        size_bytes = sum(map(len, records)) + sum(map(len, keys))
        for home, holder in seats:
            if holder != self.me:
                target = "" if holder == home else home
                chunk = StoreChunk(holder, keys, records, size_bytes, deadline_s, arrivals.add, ring_hash, trace, target, since_ms)
                arrivals.asked.append(chunk)
                self.peers.store(chunk)

    def fetch_from(
        self,
        nodes: Sequence[str],
        keys: Sequence[bytes],
        digests: bytes,
        deadline_s: float,
        arrivals: Arrivals,
        ring_hash: int,
        trace: bytes = b"",
    ) -> None:
        """Asks `nodes`, owners by the ring of `ring_hash`, for what differs from `digests`; answers arrive in `arrivals`."""
        size_bytes = len(digests) + sum(map(len, keys))
        for node in nodes:
            chunk = FetchChunk(node, keys, digests, size_bytes, deadline_s, arrivals.add, ring_hash, trace)
            arrivals.asked.append(chunk)
            self.peers.fetch(chunk)

    def seats(self, sub: SubBatch) -> Seats:
        """Who answers for each home replica of the sub-batch, as of now."""
        return plan_seats(sub.owners, self.me, self.peers.reachable, sloppy=sub.sloppy, dead=self.opinions.dead)

    def others_by_promptness(self, nodes: Iterable[str], first: Collection[str] = ()) -> list[str]:
        """Every node but this one: first those that owe no answer for long, in turn, but `first` before the others, then the late
        and the slow, then those that are called dead, then the unreachable. Nobody is left out: who asks as many as are needed
        avoids the last ones while the first suffice."""
        others = [node for node in nodes if node != self.me]
        if len(others) > 1:
            self._turn += 1
            at = self._turn % len(others)
            others = others[at:] + others[:at]
            peers, opinions, late_s = self.peers, self.opinions, LATE_FACTOR * self.patience.delay_s

            def reluctance(node: str) -> int:
                if not peers.reachable(node):
                    return 3
                if node in opinions.dead:
                    return 2
                return 1 if node in opinions.slow or peers.lag_s(node) > late_s else 0

            others.sort(key=lambda node: (reluctance(node), node not in first))
        return others


class Patience:
    """How long a read waits for those it asked before it asks the others too: the mean time of an answer and four mean
    deviations, as TCP waits for an acknowledgement (RFC 6298), within bounds. Hedges cost at most `share_max` more fetches; past
    that budget the longest wait applies ("The Tail at Scale", Dean and Barroso 2013)."""

    __slots__ = ("_budget", "_deviation_s", "_mean_s", "share_max")

    def __init__(self, *, share_max: float = 0.05) -> None:
        self.share_max = share_max
        self._mean_s = 0.005
        self._deviation_s = 0.005
        self._budget = HEDGE_BURST

    @property
    def delay_s(self) -> float:
        """The wait as of now, if a hedge can be afforded; else the longest."""
        if self._budget < 1.0:
            return DELAY_S_MAX
        return min(DELAY_S_MAX, max(DELAY_S_MIN, self._mean_s + 4 * self._deviation_s))

    def observe(self, elapsed_s: float) -> None:
        """A fetch was answered after `elapsed_s`."""
        self._deviation_s += (abs(elapsed_s - self._mean_s) - self._deviation_s) / 16
        self._mean_s += (elapsed_s - self._mean_s) / 16
        self._budget = min(HEDGE_BURST, self._budget + self.share_max)

    def spend(self) -> None:
        """A hedge was sent."""
        self._budget = max(0.0, self._budget - 1.0)
