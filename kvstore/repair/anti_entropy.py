"""When replicas are compared: in the background, after a loss, and when somebody asks for it; all by the same exchange.

One exchange runs at a time on this node. In the background each peer has its turn every `interval_s` on average, sooner when its
link has just come up, when the last exchange left something, or when this node is rebuilding. While we hold hints for a peer they
go first, for a while: handing them over is cheaper than finding what they say. After a crash each peer has its turn also where
there is no interval (unnoted.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kvproto.columns import RepairProgress, RepairRound
from kvproto.errors import KvError, Overloaded
from kvstore.cluster.view import RingHolder
from kvstore.core.merkle.exchange import summarise
from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.questions import Roots, Summary
from kvstore.repair.answering import Answering
from kvstore.repair.exchange_round import ExchangeRound, Outcome
from kvstore.repair.pace import Pace
from kvstore.repair.rebuilding import COVERED, Rebuilding, shared_prefixes
from kvstore.repair.told import Told
from kvstore.repair.unnoted import COMPARED, Unnoted
from kvstore.storage.freshness import Freshness
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import split_store_key
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from kvstore.telemetry import log
from kvstore.transport.peers import PeerTransport

LOOK_S = 0.25
QUIET_LOOK_S = 1.0
"""While every peer is there and there is nothing that must be repaired; sooner when the next exchange is due."""
SOON_S = 1.0
"""After a link came up, or an exchange that left something."""
HINTS_FIRST_S = 10.0
STATUS_TIMEOUT_S = 0.5
AGAIN_S = 0.1
"""Between two looks at roots, for whoever asks whether replicas agree: a write under way changes both sides meanwhile."""


@dataclass(slots=True)
class Last:
    """The last exchange with a peer about a namespace that came to its end; `at_s` by the loop's clock."""

    at_s: float
    differences: int


@dataclass(slots=True)
class Run:
    """Exchanges that somebody asked for; `progress` is theirs."""

    number: int
    progress: RepairProgress
    began_s: float
    task: asyncio.Task[None] | None = None
    done: Outcome = field(default_factory=Outcome)


class AntiEntropy:
    """One node's exchanges, from `start` to `stop`. `is_busy`: whether clients are served. Counters are of keys, but for
    `rounds` and `failed` (exchanges)."""

    def __init__(
        self,
        *,
        me: str,
        forest: Forest,
        store: Store,
        replica: Replica,
        peers: PeerTransport,
        ring: RingHolder,
        hints: HintTable,
        rebuilding: Rebuilding,
        unnoted: Unnoted,
        answering: Answering,
        others: Sequence[str],
        freshness: Freshness,
        pace: Pace,
        is_busy: Callable[[], bool],
        rng: random.Random,
        interval_s: float,
    ) -> None:
        self._me = me
        self._forest = forest
        self._store = store
        self._replica = replica
        self._peers = peers
        self._ring = ring
        self._hints = hints
        self._rebuilding = rebuilding
        self._unnoted = unnoted
        self._answering = answering
        self._others = sorted(others)
        self._freshness = freshness
        self._pace = pace
        self._is_busy = is_busy
        self._rng = rng
        self._interval_s = interval_s
        self._one_at_a_time = asyncio.Lock()
        self._due_s: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._run: Run | None = None
        self._last: dict[tuple[str, str], Last] = {}
        self.rounds = 0
        self.failed = 0
        self.differences = 0
        self.repaired = 0

    def start(self) -> None:
        """Begins to look after every peer."""
        self._unnoted.begin()
        for target in {target for target, _ in self._hints.gaps.all} - set(self._others):
            self._close_gaps(target, self._hints.gaps.moment())  # it is no member any more
        self._task = asyncio.get_running_loop().create_task(self._look(), name=f"anti-entropy@{self._me}")

    def stop(self) -> None:
        """Ends at once; what was repaired stays so."""
        for task in (self._task, self._run.task if self._run is not None else None):
            if task is not None:
                task.cancel()

    # --- in the background

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        was_up: set[str] = set()
        while True:
            await asyncio.sleep(self._pause_s(was_up))
            up = {peer for peer in self._others if self._peers.reachable(peer)}
            for peer in sorted(up - was_up):
                if self._interval_s or self._must(peer):
                    self._due_s[peer] = loop.time() + self._jitter(SOON_S)
            was_up = up
            for peer in self._others:
                if peer in up and self._is_due(peer, loop.time()):
                    self._due_s[peer] = await self._exchange_in_turn(peer)

    def _pause_s(self, up: set[str]) -> float:
        if len(up) < len(self._others) or any(map(self._must, self._others)):
            return LOOK_S
        due_s = min(self._due_s.values(), default=float("inf"))
        return min(QUIET_LOOK_S, max(LOOK_S, due_s - asyncio.get_running_loop().time()))

    def _is_due(self, peer: str, now_s: float) -> bool:
        if self._must(peer) and self._due_s.get(peer, 0.0) > now_s + 2 * SOON_S:  # from before anybody knew of it
            self._due_s[peer] = now_s + self._jitter(SOON_S)
        if self._rebuilding.is_behind:
            return now_s >= self._due_s.get(peer, 0.0)
        due_s = self._due_s.get(peer)
        if due_s is None or now_s < due_s or self._answering.is_asked:
            return False
        return not self._hints.pending(peer) or now_s > due_s + HINTS_FIRST_S

    def _must(self, peer: str) -> bool:
        """Whether this node knows of something that only an exchange with `peer` can repair."""
        return self._rebuilding.is_behind or peer in self._unnoted.open or self._hints.gaps.has(peer)

    async def _exchange_in_turn(self, peer: str) -> float:
        """One exchange; when the next is due."""
        loop = asyncio.get_running_loop()
        was_rebuilding = self._rebuilding.is_behind
        outcome = await self._exchange(peer, "", lambda outcome: None, urgent=False)
        if outcome is None or not outcome.is_complete:
            return loop.time() + self._jitter(SOON_S)
        self._unnoted.compared(peer, differed=outcome.differences > 0)
        await COMPARED.passed()
        if was_rebuilding or peer in self._unnoted.open:
            return loop.time() + self._jitter(SOON_S)
        return loop.time() + self._jitter(self._interval_s) if self._interval_s else float("inf")

    def _jitter(self, seconds: float) -> float:
        return seconds * (0.5 + self._rng.random())

    async def _exchange(self, peer: str, namespace: str, on_progress: Callable[[Outcome], None], *, urgent: bool) -> Outcome | None:
        """One exchange with `peer`; None if it broke off, or was told to come later."""
        async with self._one_at_a_time:
            view = self._ring.view
            prefixes = shared_prefixes(view, self._me, peer, namespace)
            if not prefixes:
                self._rebuilding.covered(peer, ())  # where no key has another copy there is nothing to wait for
                if not namespace:
                    self._close_gaps(peer, self._hints.gaps.moment())
                return Outcome()
            is_rebuilding = self._rebuilding.is_behind
            since = self._hints.gaps.moment()
            if self._hints.gaps.has(peer):
                await self._settled()
            exchange = ExchangeRound(
                peer,
                prefixes,
                forest=self._forest,
                store=self._store,
                replica=self._replica,
                peers=self._peers,
                ring_hash=lambda: view.ring.hash,
                freshness=self._freshness,
                pace=self._pace,
                is_busy=self._is_busy,
                rng=self._rng,
                at_once=is_rebuilding,
                urgent=urgent,
                on_progress=on_progress,
            )
            outcome: Outcome | None = None
            self._answering.asking = peer
            try:
                outcome = await exchange.run()
            except Overloaded:
                pass  # its turn comes
            except KvError as error:
                self.failed += 1
                log.info("exchange_broke_off", peer=peer, reason=error.message)
            finally:
                self._answering.asking = ""
                self.differences += exchange.outcome.differences
                self.repaired += exchange.outcome.repaired
            if is_rebuilding:
                self._rebuilding.covered(peer, sorted(exchange.outcome.whole), exchange.outcome.unsure)
                if not self._rebuilding.reason:
                    self._unnoted.begin_again()
                await COVERED.passed()
            if outcome is not None:
                self._note(peer, namespace, outcome)
                if not namespace and outcome.is_complete:
                    self._close_gaps(peer, since)
            return outcome

    async def _settled(self) -> None:
        """Returns when what was noted as missed is durable, so that it is compared."""
        told = Told[KvError | None]()
        self._store.settled(told.take)
        await told.answer

    def _close_gaps(self, peer: str, since: int) -> None:
        """Nothing that `peer` may have missed before `since` is missing there any more."""
        deletes = self._hints.compared(peer, since)
        if not deletes:
            return
        with suppress(KvError):  # it is compared once more after the next start
            self._store.admit(len(deletes), sum(map(len, deletes)))
            self._store.discard([], deletes, lambda error: None)

    def _note(self, peer: str, namespace: str, outcome: Outcome) -> None:
        self.rounds += 1
        now_s = asyncio.get_running_loop().time()
        for name in [namespace] if namespace else self._ring.view.spaces:
            self._last[name, peer] = Last(now_s, outcome.differences)
        if outcome.differences:
            log.info("replicas_repaired", peer=peer, differences=outcome.differences, repaired=outcome.repaired)

    # --- for whoever asks

    def repair(self, namespace: str, follow: int) -> RepairProgress:
        """Begins exchanges with every peer, or tells how far those under way, or the last ones, are. `follow`: the number of the
        run that is meant. Raises `UnknownNamespace`."""
        loop = asyncio.get_running_loop()
        if namespace:
            self._ring.view.space(namespace)
        run = self._run
        if run is None or (run.progress.over and follow != run.number):
            run = self._run = Run(1 if run is None else run.number + 1, RepairProgress(node_id=self._me), loop.time())
            run.progress.number = run.number
            run.task = loop.create_task(self._run_all(run, namespace), name=f"repair@{self._me}")
        if not run.progress.over:
            run.progress.elapsed_s = loop.time() - run.began_s
        return run.progress

    async def _run_all(self, run: Run, namespace: str) -> None:
        told = run.progress
        shared = {peer: len(shared_prefixes(self._ring.view, self._me, peer, namespace)) for peer in self._others}
        told.partitions = sum(shared.values())
        try:
            for peer in self._others:
                if not shared[peer]:
                    continue
                before = (told.compared, told.differing, told.differences, told.repaired, told.unknown)

                def advance(outcome: Outcome, before: tuple[int, ...] = before) -> None:
                    told.compared = before[0] + outcome.compared
                    told.differing = before[1] + outcome.differing
                    told.differences = before[2] + outcome.differences
                    told.repaired = before[3] + outcome.repaired
                    told.unknown = before[4] + outcome.unknown

                is_over = False
                while not is_over:
                    outcome = await self._exchange(peer, namespace, advance, urgent=True) if self._peers.reachable(peer) else None
                    if outcome is None:
                        told.unreachable = (*told.unreachable, peer)
                        break
                    is_over = not outcome.more
                    if not is_over:
                        before = (before[0], told.differing, told.differences, told.repaired, before[4])
        finally:
            told.elapsed_s = asyncio.get_running_loop().time() - run.began_s
            told.over = True

    def last_rounds(self) -> tuple[RepairRound, ...]:
        """When each namespace was last compared with each peer."""
        now_s = asyncio.get_running_loop().time()
        return tuple(
            RepairRound(namespace, peer, now_s - last.at_s, last.differences)
            for (namespace, peer), last in sorted(self._last.items())
        )

    async def divergent_partitions(self) -> int:
        """How many partitions differ now from those of a peer that can be reached, or cannot be compared with them: two looks at
        the roots, so that writes under way do not count."""
        found = await asyncio.gather(*(self._divergence(peer) for peer in self._others if self._peers.reachable(peer)))
        return len({split_store_key(prefix)[0] for prefixes in found for prefix in prefixes})

    async def _divergence(self, peer: str) -> list[bytes]:
        prefixes = shared_prefixes(self._ring.view, self._me, peer)
        try:
            first = await self._roots(peer, prefixes)
            prefixes = [prefix for prefix, (mine, theirs) in first.items() if _differ(mine, theirs)]
            if not prefixes:
                return []
            await asyncio.sleep(AGAIN_S)
            second = await self._roots(peer, prefixes)
        except KvError:
            return prefixes
        return [
            prefix
            for prefix, (mine, theirs) in second.items()
            if _differ(mine, theirs) and (mine == first[prefix][0] or theirs == first[prefix][1])
        ]

    async def _roots(self, peer: str, prefixes: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        """Ours and theirs of each prefix, 9 bytes each."""
        theirs = await self._peers.compare(peer, Roots(prefixes), STATUS_TIMEOUT_S)
        assert isinstance(theirs, Summary)
        mine, told = summarise(self._forest, prefixes), theirs.roots
        return {prefix: (mine[9 * at : 9 * at + 9], told[9 * at : 9 * at + 9]) for at, prefix in enumerate(prefixes)}


def _differ(mine: bytes, theirs: bytes) -> bool:
    """Whether two rows of a summary differ in their roots, or one of them is unknown."""
    return mine[1:] != theirs[1:] or 0xFF in (mine[:1] + theirs[:1])
