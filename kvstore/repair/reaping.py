"""The sweep: one pass after the other over what this node holds, a slice at a time, in the background. Ends for good what has
expired (safety rule 10), and has the tombstones reaped whose partitions it is the first home replica of (core/reaping.py says
when).

A scan, and no index by time: 2 µs a record, off the event loop, at a twentieth of one core at most; an index would cost every write
with a time to live a row more, in and out. Reads need neither: what has expired is absent from that moment on, swept or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from xxhash import xxh3_64_intdigest

from kvproto.errors import KvError, RecordLost
from kvstore.cluster.view import RingHolder
from kvstore.core.merkle.tree import items_of
from kvstore.core.reaping import Found, ReapingPlan, agreed_by_all, agreed_now_ms
from kvstore.core.record import DamagedRecord, expire_record
from kvstore.crash_points import crash_point
from kvstore.repair.reap_votes import KEYS_MAX, ReapVotes
from kvstore.runtime import Clock
from kvstore.storage.layout import split_store_key
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from kvstore.storage.tombstones import Slice
from kvstore.telemetry import log
from kvstore.transport.peers import PeerTransport, ReapAnswer, ReapQuestion, ReapStep

PASS_S_MIN = 0.25
PASS_S_MAX = 60.0
"""Between two passes: a sixteenth of the grace, within these."""
REST_FACTOR = 20
"""After a slice the sweep rests so many times as long as it took."""
ASK_TIMEOUT_S = 5.0

EXPIRED = crash_point("reap.expired", "tombstones are being written in the place of what has expired")
CONFIRMED = crash_point("reap.confirmed", "everybody holds the tombstones and nothing else, at the first look")
PREPARED = crash_point("reap.prepared", "everybody has agreed durably to the end of the tombstones; nobody has forgotten them")
ASKED = crash_point("reap.asked", "the others have forgotten the tombstones, or were asked to; we hold them")
OVER = crash_point("reap.over", "everybody has forgotten the tombstones, or was asked to")


class Reaper:
    """One node's sweep, from `start` to `stop`. For metrics: `expired` records ended, `tombstones` found by the last whole pass,
    `waiting` ones between their two looks, `passes` done, `objections` met at either look."""

    def __init__(
        self,
        *,
        me: str,
        store: Store,
        replica: Replica,
        votes: ReapVotes,
        plan: ReapingPlan,
        peers: PeerTransport,
        ring: RingHolder,
        clock: Clock,
        timer: Callable[[], float],
    ) -> None:
        self._me = me
        self._store = store
        self._replica = replica
        self._votes = votes
        self._plan = plan
        self._peers = peers
        self._ring = ring
        self._clock = clock
        self._timer = timer
        self._running: asyncio.Task[None] | None = None
        self.expired = 0
        self.tombstones = 0
        self.passes = 0
        self.objections = 0
        self.unanswered = 0

    @property
    def waiting(self) -> int:
        """Tombstones that have passed their first look."""
        return len(self._plan)

    def start(self) -> None:
        """Begins with a pause, as after every pass."""
        self._running = asyncio.get_running_loop().create_task(self._run(), name=f"reaper@{self._me}")

    def stop(self) -> None:
        """Ends at once; evidence is gathered anew by the next life."""
        if self._running is not None:
            self._running.cancel()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._plan.check()

    async def _run(self) -> None:
        # Not all nodes at one moment: they ask each other.
        own_share = 0.75 + 0.5 * xxh3_64_intdigest(self._me.encode()) / 2**64
        pause_s = own_share * min(PASS_S_MAX, max(PASS_S_MIN, self._plan.grace.grace_s / 16))
        while True:
            await asyncio.sleep(pause_s)
            with suppress(KvError):  # too much waits for the disk, or it has failed: the next pass begins anew
                await self.sweep()

    async def sweep(self) -> None:
        """One pass. Raises `KvError`."""
        start, tombstones = b"", 0
        while True:
            began_s = self._timer()
            found = await self._replica.sweep(start, self._clock.now_ms())
            took_s = self._timer() - began_s
            tombstones += len(found.tombstones)
            await self._end_expired(found)
            await self._reap(found)
            start = found.next_start
            if not start:
                break
            await asyncio.sleep(REST_FACTOR * took_s)
        self._plan.end_pass()
        self.tombstones = tombstones
        self.passes += 1

    # --- what has expired

    async def _end_expired(self, found: Slice) -> None:
        """Tombstones in the place of what has expired, by the clock that a majority agrees on: reads go by ours alone, but what
        they take for absent is there again when a wrong clock is put right. What is ended here is not."""
        view = self._ring.view
        keys = [key for key in found.expired if view.is_home(key, self._me)]
        now_ms = await self._agreed_now_ms() if keys else None
        if now_ms is None:
            return
        pairs: list[tuple[bytes, bytes]] = []
        before: list[int] = []
        self._store.admit(len(keys), 0)
        for key in keys:
            with suppress(RecordLost, DamagedRecord):
                record = self._store.latest(key)
                if record is not None and (ended := expire_record(record, now_ms)) is not record:
                    if self._store.forest is not None:
                        before += items_of([key], [record])
                    self._store.stage(key, ended)
                    pairs.append((key, ended))
        if pairs:
            self.expired += len(pairs)
            self._store.commit(pairs, lambda error: None, before=before)
            await EXPIRED.passed()

    async def _agreed_now_ms(self) -> int | None:
        others = self._others()
        answers = await self._ask(others, ReapQuestion(ReapStep.TELL_TIME))
        clocks = [answer.now_ms for answer in answers.values()]
        return agreed_now_ms(self._clock.now_ms(), clocks, len(others) + 1)

    # --- tombstones

    async def _reap(self, found: Slice) -> None:
        view = self._ring.view
        old_ms = self._clock.now_ms() - int(self._plan.grace.age_s * 1000)
        mine = [
            (key, digest)
            for key, digest, gone_ms in found.tombstones
            if gone_ms <= old_ms and view.preference[split_store_key(key)[0]][0] == self._me and view.is_home(key, self._me)
        ]
        if not mine:
            return
        fresh, ripe = self._plan.sort(mine, self._timer())
        for some in _cut(fresh):
            agreed, _ = await self._look(ReapStep.CONFIRM, some, 0)
            if agreed:
                await CONFIRMED.passed()
            self._plan.confirm(agreed, self._timer())
        for some in _cut(ripe):
            await self._reap_some(some)

    async def _reap_some(self, ripe: Sequence[Found]) -> None:
        stamp = max(self._clock.now_ms(), self._votes.highest([key for key, _ in ripe]) + 1)
        agreed, highest = await self._look(ReapStep.PREPARE, ripe, stamp)
        self._plan.forget(ripe)
        if not agreed or highest >= stamp:  # somebody knows of a later reaping: our stamps are from an older disk
            return
        await PREPARED.passed()
        question = _question(ReapStep.REAP, agreed, stamp)
        await self._ask(self._others(), question)
        await ASKED.passed()
        await self._votes.answer(question)
        await OVER.passed()
        log.info("tombstones_reaped", keys=len(agreed))

    async def _look(self, step: ReapStep, found: Sequence[Found], stamp: int) -> tuple[list[Found], int]:
        """What every node agrees to, and the highest stamp that any of them remembered before."""
        others = self._others()
        if not all(map(self._peers.reachable, others)):
            self.unanswered += len(found)
            return [], 0
        question = _question(step, found, stamp)
        mine = await self._votes.answer(question)
        answers = {**await self._ask(others, question), self._me: mine}
        agreed = agreed_by_all(found, [*others, self._me], {node: answer.against for node, answer in answers.items()})
        if not self._clocks_agree(answers.values()):
            agreed = []
        if len(answers) <= len(others):
            self.unanswered += len(found)
        else:
            self.objections += len(found) - len(agreed)
        return agreed, max(answer.stamp for answer in answers.values())

    def _clocks_agree(self, answers: Iterable[ReapAnswer]) -> bool:
        """Whether messages are judged by clocks that differ by no more than what the wait allows for."""
        clocks = [answer.now_ms for answer in answers]
        return max(clocks) - min(clocks) <= 1000 * self._plan.grace.clocks_s

    def _others(self) -> list[str]:
        return [member.id for member in self._ring.view.ring.members if member.id != self._me]

    async def _ask(self, nodes: Sequence[str], question: ReapQuestion) -> dict[str, ReapAnswer]:
        """The answers of those that gave one."""

        async def ask(node: str) -> ReapAnswer | None:
            try:
                return await self._peers.reap(node, question, ASK_TIMEOUT_S)
            except KvError:
                return None

        told = await asyncio.gather(*map(ask, nodes))
        return {node: answer for node, answer in zip(nodes, told, strict=True) if answer is not None}


def _question(step: ReapStep, found: Sequence[Found], stamp: int) -> ReapQuestion:
    return ReapQuestion(step, [key for key, _ in found], b"".join([digest for _, digest in found]), stamp)


def _cut(found: Sequence[Found]) -> list[Sequence[Found]]:
    return [found[first : first + KEYS_MAX] for first in range(0, len(found), KEYS_MAX)]
