"""A get: our own replica first, digests to the others, merge, reply, then repair.

The others are sent the digest of what we hold and answer only where they differ, so the usual answer of a replica is a few bytes
for a whole batch. The reply leaves as soon as enough have answered; repair comes after it, because its latency must not reach the
client. A batch of large records is read in turns of a few MiB, each when the client has taken what came before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvproto.columns import GroupReply, Level
from kvproto.errors import DeadlineExceeded, KvError, NotOwner
from kvstore.coordinator.allowance import UNLIMITED, Allowance
from kvstore.coordinator.batch import SubBatch, part_of
from kvstore.coordinator.entries import columns_for
from kvstore.coordinator.outcomes import Emit, behind_session, not_met, not_written_back, receipt
from kvstore.coordinator.read_repair import ReadRepair
from kvstore.coordinator.read_round import ReadRound
from kvstore.coordinator.replicas import FOREVER, Arrivals, Replicas
from kvstore.coordinator.session_reads import SessionReads, seen_by
from kvstore.coordinator.write_back import WriteBack
from kvstore.core.doubts import Doubts
from kvstore.core.quorum import Outcome, Tally
from kvstore.core.record import NO_DIGEST, digest
from kvstore.runtime import Clock
from kvstore.storage.freshness import Freshness
from kvstore.storage.store import Store
from kvstore.telemetry.meters import RequestMeter

STRAGGLER_S = 0.25
"""How long a decided read listens for answers that may show a stale replica; what comes later is anti-entropy's."""


LARGE_RECORD_BYTES = 64 * 1024
DISK_S = 0.05
"""A disk that takes longer for what it is writing is slow, and others answer."""

TURN_BYTES_MAX = 4 * 1024 * 1024
"""Of our own records that are read in one turn."""


class GetCoordinator:
    """Coordinates reads of keys that this node is a home replica of."""

    def __init__(
        self,
        *,
        store: Store,
        replicas: Replicas,
        repair: ReadRepair,
        clock: Clock,
        durable: bool,
        meter: RequestMeter | None,
        doubts: Doubts,
        freshness: Freshness,
        turn_bytes_max: int = TURN_BYTES_MAX,
    ) -> None:
        self._meter = meter
        self._doubts = doubts
        self._write_back = WriteBack(store, replicas, freshness)
        self._sessions = SessionReads(store, replicas)
        self._turn_bytes_max = turn_bytes_max
        self._store = store
        self._replicas = replicas
        self._repair = repair
        self._clock = clock
        self._durable = durable

    async def run(self, sub: SubBatch, deadline_s: float, emit: Emit, allowance: Allowance = UNLIMITED) -> None:
        """Answers every operation of the sub-batch, in parts as they are decided."""
        rest = sub
        while True:
            if not allowance.has_room or rest is not sub:
                error = await self._why_no_more(deadline_s, allowance)
                if error is not None:
                    emit(GroupReply(sub.group_index, positions=rest.original(None), error=error), len(rest.store_keys))
                    return
            if self._store.pending and self._store.holds_back(rest.store_keys, LARGE_RECORD_BYTES):
                await self._until_durable(deadline_s)
            since_ms = self._clock.now_ms()
            records, lost, size_bytes = self._store.durable_up_to(rest.store_keys, self._turn_bytes_max)
            count, all_of_it = len(records), len(rest.store_keys)
            now = rest if count == all_of_it else part_of(rest, range(count))
            sub.story = arrivals = Arrivals(asyncio.get_running_loop(), deadline_s)
            again = await self._read(now, records, lost, size_bytes, arrivals, emit, allowance, since_ms)
            if count == all_of_it and not again:
                return
            rest = part_of(rest, [*again, *range(count, all_of_it)])

    async def _until_durable(self, deadline_s: float) -> None:
        """Waits for what is on its way to our disk, for a moment: who reads what has just been written would be sent it by another
        replica otherwise, all of it, only because that one's disk was quicker."""
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[None] = loop.create_future()
        self._store.settled(lambda error: None if settled.done() else settled.set_result(None))
        await asyncio.wait([settled], timeout=max(0.0, min(DISK_S, deadline_s - loop.time())))

    @staticmethod
    async def _why_no_more(deadline_s: float, allowance: Allowance) -> KvError | None:
        """Waits until more may be read; why not, if it may not be."""
        try:
            async with asyncio.timeout_at(deadline_s):
                await allowance.room()
        except TimeoutError:
            return DeadlineExceeded("the deadline passed before the answers to the keys before were taken")
        except KvError as error:
            return error
        return None

    async def _read(
        self,
        sub: SubBatch,
        records: list[bytes | None],
        lost: list[int],
        size_bytes: int,
        arrivals: Arrivals,
        emit: Emit,
        allowance: Allowance,
        since_ms: int,
    ) -> list[int]:
        """One turn of reading, begun at `since_ms`; the positions of `sub` that have to be read again, because other replicas hold
        too much of them for one turn."""
        me, owners = self._replicas.me, sub.owners.nodes
        try:
            seen = seen_by(sub)
        except KvError as wrong:
            emit(GroupReply(sub.group_index, positions=sub.original(None), error=wrong), len(sub.store_keys))
            return []
        seats = self._replicas.seats(sub)
        if me not in seats.holders.values():
            error = NotOwner(f"{me} is no home replica of the key, {', '.join(owners)} are", subject=me)
            emit(GroupReply(sub.group_index, positions=sub.original(None), error=error), len(sub.store_keys))
            return []
        tally = Tally(sub.counting, sub.need, len(sub.store_keys))
        is_rebuilding = self._store.is_unsure_of(sub.id_bytes) and len(owners) > 1
        if not is_rebuilding:
            tally.record(seats.home_of(me), lost)
        if seats.absent:
            for home in seats.absent:
                if home in tally.targets:
                    tally.fail(home)
            if sub.degrades:
                tally.settle_for_less()
        loop = asyncio.get_running_loop()
        round_ = ReadRound(sub, tally, seats, records, lost, me, allowance)
        round_.hold(size_bytes)
        round_.seen = seen
        if self._doubts.any and sub.need > 1 and sub.degrades:
            # As of now: what was acknowledged before the read began is what it has to show.
            round_.doubtful = self._doubts.about(sub.partitions)
        if is_rebuilding:
            round_.abstain(seats.home_of(me))
        try:
            self._settle(round_, emit)
            if not tally.settled:
                await self._ask(round_, arrivals, loop, emit)
            if round_.behind:
                await self._sessions.catch_up(round_, arrivals.deadline_s, lambda positions: self._decided(round_, positions, emit))
                self._refuse_behind(round_, emit)
            if round_.unconfirmed:
                await self._confirm(round_, arrivals, since_ms, emit)
            if not tally.settled:
                self._give_up(round_, emit)
            if not arrivals.timed_out and round_.overdue(self._clock.now_ms()):
                await self._hear_stragglers(round_, arrivals, loop)
        finally:
            arrivals.close()
            allowance.release(round_.held_bytes)
        if round_.differed:
            if self._meter is not None:
                self._meter.stale += len({*round_.others, *lost})
            overdue = {position: round_.others.get(position, {}) for position in round_.overdue(self._clock.now_ms())}
            if overdue:
                self._repair.submit(sub, records, overdue, lost, tally, seats, since_ms)
        return round_.unread

    async def _ask(self, round_: ReadRound, arrivals: Arrivals, loop: asyncio.AbstractEventLoop, emit: Emit) -> None:
        """Asks as many of the others as the level needs, the promptest first and among those whoever may know more than others; the
        rest as soon as one fails or keeps us waiting longer than answers usually take."""
        tally, replicas, patience = round_.tally, self._replicas, self._replicas.patience
        holders = [round_.seats.holders[home] for home in tally.targets if home in round_.seats.holders]
        others = replicas.others_by_promptness(holders, round_.doubtful)
        first = len(others) if round_.lost or not tally.answered else min(len(others), tally.need - 1)
        self._fetch(round_, others[:first], arrivals)
        asked, rest = first, others[first:]
        started_s = loop.time()
        hedge_at_s = started_s + patience.delay_s
        while True:
            answer = await arrivals.next(hedge_at_s if rest else FOREVER)
            if answer is not None:
                elapsed_s = loop.time() - started_s
                asked -= 1
                if answer.error is not None and (holder := round_.substitute(answer.node)):
                    self._fetch(round_, [holder], arrivals)
                    asked += 1
                    continue
                round_.take(answer, elapsed_s)
                patience.observe(elapsed_s)
                self._settle(round_, emit)
            if tally.settled or arrivals.timed_out or (answer is not None and not asked and not rest):
                return
            if rest and (answer is None or not asked or answer.error is not None):
                if answer is None:
                    patience.spend()
                    round_.hedged = True
                    if self._meter is not None:
                        self._meter.hedged += len(round_.sub.store_keys)
                self._fetch(round_, rest, arrivals)
                asked += len(rest)
                rest = []

    def _fetch(self, round_: ReadRound, nodes: Sequence[str], arrivals: Arrivals, digests: bytes = b"") -> None:
        if round_.digests is None:
            round_.digests = b"".join([NO_DIGEST if record is None else digest(record) for record in round_.records])
        round_.asked.extend(nodes)
        sub, deadline_s = round_.sub, arrivals.deadline_s
        self._replicas.fetch_from(
            nodes, sub.store_keys, digests or round_.digests, deadline_s, arrivals, sub.view.ring.hash, sub.trace
        )

    def _settle(self, round_: ReadRound, emit: Emit) -> None:
        sub, tally = round_.sub, round_.tally
        for outcome, settled in tally.settle():
            positions = settled
            if outcome is Outcome.UNREACHABLE and round_.cut_at is not None:
                positions = round_.put_aside(settled or range(tally.size))
                if not positions:
                    continue
            count = tally.size if positions is None else len(positions)
            if outcome is Outcome.UNREACHABLE and round_.rebuilding and sub.degrades:
                positions = self._show_what_is_left(round_, range(tally.size) if positions is None else positions, emit)
                if not positions:
                    continue
                count = len(positions)
            if outcome is Outcome.UNREACHABLE:
                at, away = positions[0] if positions else 0, round_.rebuilding
                error: KvError = not_met(sub, tally, at, timed_out=False, applied=False, rebuilding=away)
                emit(GroupReply(sub.group_index, positions=sub.original(positions), error=error), count)
                continue
            if round_.seen:
                positions = round_.keep_behind(range(tally.size) if positions is None else positions)
            self._decided(round_, positions, emit)

    def _show_what_is_left(self, round_: ReadRound, positions: Sequence[int], emit: Emit) -> list[int]:
        """Nobody whose answer counts is left, but somebody who has lost records. What such a one holds was acknowledged, if perhaps
        not last, and a preset shows it; what it does not hold it may have lost, and nobody can say (safety rule 5): these positions
        are returned."""
        by_holders: dict[tuple[str, ...], list[int]] = {}
        for position in positions:
            by_holders.setdefault(round_.holders_of(position), []).append(position)
        unknown = by_holders.pop((), [])
        for holders, held in by_holders.items():
            self._answer(round_, held, emit, holders)
        return unknown

    def _decided(self, round_: ReadRound, positions: Sequence[int] | None, emit: Emit) -> None:
        """Enough have answered these positions (None: all) and what they hold is new enough."""
        if round_.sub.group.level is Level.ATOMIC:
            round_.unconfirmed += range(round_.tally.size) if positions is None else positions
        elif positions is None or positions:
            self._answer(round_, positions, emit)

    async def _confirm(self, round_: ReadRound, arrivals: Arrivals, since_ms: int, emit: Emit) -> None:
        """What an atomic read answers a majority holds: whoever has not is brought up to it first."""
        sub = round_.sub
        confirmed, failed = await self._write_back.run(round_, round_.unconfirmed, arrivals.deadline_s, since_ms)
        by_answered: dict[tuple[str, ...], list[int]] = {}
        for position in confirmed:
            by_answered.setdefault(round_.tally.answered_for(position), []).append(position)
        for alike in by_answered.values():
            self._answer(round_, alike, emit)
        if failed:
            error = not_written_back(sub, round_.tally, failed[0])
            emit(GroupReply(sub.group_index, positions=sub.original(failed), error=error), len(failed))

    def _refuse_behind(self, round_: ReadRound, emit: Emit) -> None:
        positions = sorted(round_.behind)
        if positions:
            error = behind_session(round_.sub, round_.tally, positions[0])
            emit(GroupReply(round_.sub.group_index, positions=round_.sub.original(positions), error=error), len(positions))

    def _answer(self, round_: ReadRound, positions: Sequence[int] | None, emit: Emit, uncounted: Sequence[str] = ()) -> None:
        """Answers `positions` (None: all). `uncounted`: nodes that have told it, where nobody did whose answer counts."""
        sub, tally = round_.sub, round_.tally
        count = tally.size if positions is None else len(positions)
        now_ms = self._clock.now_ms()
        columns = columns_for(sub.space.policy)
        for position in range(tally.size) if positions is None else positions:
            columns.add(round_.merged(position), now_ms)
        reply = columns.reply(sub.group_index, sub.original(positions))
        answered = tally.answered if positions is None else tally.answered_for(positions[0])
        acknowledged = [*uncounted, *[round_.seats.holders[home] for home in answered]]
        reply.receipt = receipt(
            sub,
            acknowledged,
            now_ms=now_ms,
            durable=self._durable,
            explanation=[*round_.notes, *columns.failures] if columns.failures else round_.notes,
            hedged=round_.hedged,
            degraded=tally.need < sub.need or round_.is_in_doubt(acknowledged) or bool(uncounted),
            hinted=acknowledged != [*uncounted, *answered],
        )
        emit(reply, count)

    def _give_up(self, round_: ReadRound, emit: Emit) -> None:
        sub, tally = round_.sub, round_.tally
        positions = tally.undecided()
        error = not_met(sub, tally, positions[0] if positions else 0, timed_out=True, applied=False)
        emit(GroupReply(sub.group_index, positions=sub.original(positions), error=error), len(positions or range(tally.size)))

    async def _hear_stragglers(self, round_: ReadRound, arrivals: Arrivals, loop: asyncio.AbstractEventLoop) -> None:
        """Asks whoever was not asked and listens a while: a difference somewhere is a reason to look everywhere."""
        arrivals.hurry(loop.time() + STRAGGLER_S)
        waiting = [round_.seats.holders[home] for home in round_.tally.waiting_in_order]
        late = [node for node in waiting if node not in round_.asked]
        self._fetch(round_, late, arrivals, round_.digests_of_merges(late))
        while round_.tally.waiting:
            answer = await arrivals.next()
            if answer is None:
                return
            round_.take(answer, 0.0)
