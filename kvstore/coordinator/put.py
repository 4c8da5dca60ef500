"""A put or delete, from minting to the reply (docs/architecture.md, "Life of a put").

Our own replica mints a dot per operation into its record and the *whole record* goes to the others, together with the local
commit (safety rule 1). The reply leaves as soon as enough have made it durable; nothing is undone when too few do: such a write
is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from kvproto.columns import GroupReply
from kvproto.errors import KvError, NotOwner, RecordLost
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.catching_up import CatchingUp
from kvstore.coordinator.minting import PLAIN_POLICIES, MintedColumns, Minter, names_more
from kvstore.coordinator.missed import Missed
from kvstore.coordinator.outcomes import Emit, nobody_holds, not_met, out_of_reach, receipt
from kvstore.coordinator.remembering import Remembering
from kvstore.coordinator.replicas import Answer, Arrivals, LocalAnswer, Noted, Replicas
from kvstore.coordinator.seats import Seats
from kvstore.core.catalog.settings import MEMORY
from kvstore.core.quorum import Outcome, Tally
from kvstore.core.record import (
    DIGEST_BYTES,
    decode_context,
    encode_context,
)
from kvstore.core.record_writes import unseen
from kvstore.core.versions import Context
from kvstore.core.writers import WRITER_BYTES, Writers
from kvstore.crash_points import crash_point
from kvstore.runtime import Clock
from kvstore.storage.hints import HintTable
from kvstore.storage.store import Store

ASKED_AGAIN_MAX = 3
ASKED_AGAIN_AFTER_S = 0.05
"""A replica that can be reached and fails a write of a preset is asked so often again, after so long and then twice as long."""

ANSWERED = crash_point("missed-write.answered", "a write is answered, and who of the rest has missed it is noted nowhere")
NOTED = crash_point("missed-write.noted", "who has missed a write that is answered is being written down")


class PutCoordinator:
    """Coordinates writes of keys that this node is a home replica of."""

    def __init__(
        self,
        *,
        minter: Minter,
        store: Store,
        hints: HintTable,
        replicas: Replicas,
        writers: Writers,
        clock: Clock,
        catching_up: CatchingUp,
        durable: bool,
    ) -> None:
        self._minter = minter
        self._writers = writers
        self._store = store
        self._hints = hints
        self._missed = Missed(replicas.me, hints, store)
        self._replicas = replicas
        self._clock = clock
        self._catching_up = catching_up
        self._durable = durable

    async def run(self, sub: SubBatch, deadline_s: float, emit: Emit) -> None:
        """Executes the sub-batch and emits a reply for each of its operations, in parts as they are decided.

        What cannot reach its level as far as we know is refused before anything is written: certainly not applied, and at no cost.
        Where the level allows it stand-ins take the place of home replicas that cannot be reached; where there are none left, as
        many nodes as there are will do, and the receipt says so.
        """
        seats = self._replicas.seats(sub)
        refusal = self.why_not(sub, seats)
        if refusal is not None:
            emit(GroupReply(sub.group_index, positions=sub.original(None), error=refusal), len(sub.store_keys))
            return
        minted = self._mint_or_refuse(sub, range(len(sub.store_keys)), emit)
        if minted is None:
            return
        # What is staged is on its way to the disk before anything is waited for: the next merge may build on it.
        sent = self._send(sub, minted, seats, deadline_s) if minted.keys else None
        if sent is None:
            if minted.unseen:
                await self._run_after_catching_up(sub, minted.unseen, seats, deadline_s, emit)
        elif not minted.unseen:
            await self._collect(sub, minted, seats, sent, emit)
        else:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._collect(sub, minted, seats, sent, emit))
                again = self._replicas.seats(sub)  # seats change while a round goes on: each has its own
                both.create_task(self._run_after_catching_up(sub, minted.unseen, again, deadline_s, emit))

    def why_not(self, sub: SubBatch, seats: Seats) -> KvError | None:
        """Why nothing is written at all: too few can be reached, or we cannot hold more for others."""
        if not sub.degrades and sum([home in seats.holders for home in sub.counting]) < sub.need:
            return out_of_reach(sub, seats.absent)
        if not sub.owners.includes_me:
            if self._replicas.me not in seats.holders.values():
                return NotOwner(f"{self._replicas.me} is no home replica of the key, {', '.join(seats.homes)} are")
            try:
                self._hints.admit(len(sub.store_keys), sum(map(len, sub.group.values)))
            except KvError as error:
                return error
        return None

    def _mint_or_refuse(self, sub: SubBatch, wanted: Sequence[int], emit: Emit, *, caught_up: bool = False) -> MintedColumns | None:
        try:
            minted = self._minter.mint(sub, wanted, caught_up=caught_up)
        except KvError as error:
            # Refused before anything was minted: certainly not applied.
            emit(GroupReply(sub.group_index, positions=sub.original(wanted), error=error), len(wanted))
            return None
        for position, reason in minted.refused:
            emit(GroupReply(sub.group_index, positions=sub.original([position]), error=reason), 1)
        return minted

    # --- replicating

    async def replicate(self, sub: SubBatch, minted: MintedColumns, seats: Seats, deadline_s: float, emit: Emit) -> None:
        """Sends what was staged to the others and to our own disk, in the turn in which it was, and answers it."""
        await self._collect(sub, minted, seats, self._send(sub, minted, seats, deadline_s), emit)

    def _send(self, sub: SubBatch, minted: MintedColumns, seats: Seats, deadline_s: float) -> Arrivals:
        """Sends the records to the others and to our own disk; where the answers arrive."""
        loop = asyncio.get_running_loop()
        arrivals = Arrivals(loop, deadline_s)
        self._writers.wrote(sub.trace[:WRITER_BYTES], loop.time())
        me, holders, ring_hash = self._replicas.me, seats.holders.items(), sub.view.ring.hash
        sub.story = arrivals
        since_ms = minted.minted_ms
        self._replicas.store_at_others(
            holders, minted.keys, minted.records, deadline_s, arrivals, ring_hash, sub.trace, since_ms=since_ms
        )
        pointers: list[tuple[bytes, bytes]] = []
        if seats.absent:
            for home in seats.absent:
                pointers += self._hints.owe(home, minted.keys)
        if not sub.owners.includes_me:
            pointers += self._hints.hold(seats.home_of(me), minted.keys, minted.records)
        self._store.commit(minted.pairs, lambda error: arrivals.add(LocalAnswer(me, error)), pointers, before=minted.before)
        return arrivals

    async def _collect(self, sub: SubBatch, minted: MintedColumns, seats: Seats, arrivals: Arrivals, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        tally = _tally(sub, seats, len(minted.keys))
        remembering = Remembering(self._replicas.me, seats, minted.keys) if sub.space.info.storage == MEMORY else None
        answers_now, emit = emit, emit if remembering is None else remembering.hold
        missed = list(seats.absent)
        asked_again: dict[str, int] = {}
        full = False
        notes: list[str] = []
        started_s = loop.time()
        while not tally.settled:
            answer = await arrivals.next()
            if answer is None:
                break
            if isinstance(answer, Noted):
                tally.fail(answer.node)
                if answer.error is None and not full:
                    tally.settle_for_less()
                self._settle(sub, minted, seats, tally, full, notes, emit)
                continue
            if sub.group.explain:
                notes.append(_note(answer.node, answer.error, answer.refused, loop.time() - started_s))  # type: ignore[union-attr]
            if remembering is not None:
                remembering.note(answer)
            home = seats.home_of(answer.node)
            if home not in tally.targets:  # of another zone: it gets everything, and counts for nothing
                self._came_late(answer, seats, minted.keys)
                continue
            declined = answer.node != home and len(answer.refused) == len(minted.keys)  # type: ignore[union-attr]
            if answer.error is None and not declined:
                tally.record(home, answer.refused)  # type: ignore[union-attr]
            elif not sub.sloppy or not (
                self._substitute(sub, minted, seats, home, arrivals)
                or (not declined and self._ask_again(sub, minted, seats, answer, arrivals, asked_again))
            ):
                full = full or declined  # there are nodes enough, but they hold too much for others: that is no reason for less
                if sub.degrades and not full and home != self._replicas.me:
                    missed.append(home)  # it has failed once that is durable: until then nothing is answered for less
                    await self._missed.write_down(home, minted.keys, arrivals)
                    continue
                tally.fail(home)
            self._settle(sub, minted, seats, tally, full, notes, emit)
        if remembering is not None:
            if not tally.settled:
                self._give_up(sub, minted, tally, emit)
            await remembering.let_go(arrivals, self._hints, self._store, answers_now)
            arrivals.close(lambda answer: self._came_late(answer, seats, minted.keys))
            return
        # After the reply: who has missed the write is noted, also when it turns out later.
        if further := [home for home in tally.failed if home not in missed]:
            await ANSWERED.passed()
            self._missed.owe(further, minted.keys)
            await NOTED.passed()
        arrivals.close(lambda answer: self._came_late(answer, seats, minted.keys))
        if not tally.settled:
            self._give_up(sub, minted, tally, emit)

    def _substitute(self, sub: SubBatch, minted: MintedColumns, seats: Seats, home: str, arrivals: Arrivals) -> bool:
        """Has the next stand-in take the write in the place of `home`; whether there is one."""
        if home == self._replicas.me or not seats.fill(home):
            return False
        self._send_to_seat(sub, minted, seats, home, arrivals)
        return True

    def _ask_again(
        self, sub: SubBatch, minted: MintedColumns, seats: Seats, answer: Answer, arrivals: Arrivals, asked_again: dict[str, int]
    ) -> bool:
        """Nobody is left to take the seat: whoever failed is asked again a little later, if it is there and may have had too much
        to do just then. Whether it will be."""
        node, error, loop = answer.node, answer.error, asyncio.get_running_loop()
        times = asked_again.get(node, 0)
        if error is None or not error.retryable or times >= ASKED_AGAIN_MAX or not self._replicas.peers.reachable(node):
            return False
        wait_s = max(error.retry_after_s, ASKED_AGAIN_AFTER_S * 2.0**times)
        if loop.time() + wait_s >= arrivals.deadline_s:
            return False
        asked_again[node] = times + 1
        home = seats.home_of(node)
        seats.reseat(home, node)
        loop.call_later(wait_s, self._send_to_seat, sub, minted, seats, home, arrivals)
        return True

    def _send_to_seat(self, sub: SubBatch, minted: MintedColumns, seats: Seats, home: str, arrivals: Arrivals) -> None:
        seat = [(home, seats.holders[home])]
        self._replicas.store_at_others(
            seat, minted.keys, minted.records, arrivals.deadline_s, arrivals, sub.view.ring.hash, since_ms=minted.minted_ms
        )

    def _came_late(self, answer: Answer, seats: Seats, keys: Sequence[bytes]) -> None:
        if answer.error is not None and answer.node != self._replicas.me and not isinstance(answer, Noted):
            self._missed.owe([seats.home_of(answer.node)], keys)

    def _settle(
        self, sub: SubBatch, minted: MintedColumns, seats: Seats, tally: Tally, full: bool, notes: Sequence[str], emit: Emit
    ) -> None:
        """Answers what has just been decided. `full`: stand-ins declined."""
        for outcome, positions in tally.settle():
            if full and outcome is Outcome.UNREACHABLE:
                self._refuse(sub, minted, tally, positions, emit)
            else:
                self._answer(sub, minted, seats, tally, outcome, positions, notes, emit)

    def _answer(
        self,
        sub: SubBatch,
        minted: MintedColumns,
        seats: Seats,
        tally: Tally,
        outcome: Outcome,
        positions: list[int] | None,
        notes: Sequence[str],
        emit: Emit,
    ) -> None:
        count = len(minted.keys) if positions is None else len(positions)
        if outcome is Outcome.UNREACHABLE:
            at = 0 if positions is None else positions[0]
            error = not_met(sub, tally, at, timed_out=False, applied=True)
            emit(GroupReply(sub.group_index, positions=self._original(sub, minted, positions), error=error), count)
            return
        dots, contexts, counts, values = minted.dots, minted.contexts, minted.counts, minted.values
        if positions is not None:
            values = [values[at] for at in positions] if values else ()
            dots = [dots[at] for at in positions]
            contexts = [contexts[at] for at in positions]
            counts = [counts[at] for at in positions]
        answered = tally.answered if positions is None else tally.answered_for(positions[0])
        now_ms = self._clock.now_ms()
        acknowledged = [seats.holders[home] for home in answered]
        told = receipt(
            sub,
            acknowledged,
            now_ms=now_ms,
            durable=self._durable,
            explanation=notes,
            degraded=tally.need < sub.need,
            hinted=acknowledged != list(answered),
        )
        reply = GroupReply(
            sub.group_index,
            positions=self._original(sub, minted, positions),
            counts=() if max(counts) == 1 else counts,
            versions=b"".join(dots),
            contexts=contexts,
            receipt=told,
            values=values,
            alone=self._writers.is_alone(sub.trace[:WRITER_BYTES], asyncio.get_running_loop().time()),
        )
        emit(reply, count)

    def _refuse(self, sub: SubBatch, minted: MintedColumns, tally: Tally, positions: list[int] | None, emit: Emit) -> None:
        count = len(minted.keys) if positions is None else len(positions)
        error = nobody_holds(sub, tally, 0 if positions is None else positions[0])
        emit(GroupReply(sub.group_index, positions=self._original(sub, minted, positions), error=error), count)

    def _give_up(self, sub: SubBatch, minted: MintedColumns, tally: Tally, emit: Emit) -> None:
        positions = tally.undecided()
        count = len(minted.keys) if positions is None else len(positions)
        error = not_met(sub, tally, 0 if positions is None else positions[0], timed_out=True, applied=True)
        emit(GroupReply(sub.group_index, positions=self._original(sub, minted, positions), error=error), count)

    @staticmethod
    def _original(sub: SubBatch, minted: MintedColumns, positions: list[int] | None) -> Sequence[int] | None:
        if len(minted.positions) == len(sub.store_keys):
            return sub.original(positions)
        return sub.original(minted.positions if positions is None else [minted.positions[at] for at in positions])

    # --- contexts that name what we have not seen

    async def _run_after_catching_up(self, sub: SubBatch, wanted: list[int], seats: Seats, deadline_s: float, emit: Emit) -> None:
        """Merges what the other home replicas hold of these keys into our own records until it covers the contexts, then mints;
        dots that nobody reachable has seen are then no longer waited for: the write becomes a sibling of them, which loses
        nothing."""
        keys = [sub.store_keys[position] for position in wanted]
        tokens, original = list(sub.group.contexts) or [b""] * len(sub.group.keys), sub.at()
        contexts = [decode_context(tokens[original[position]]) for position in wanted]

        hear_all = self._store.is_unsure_of(sub.id_bytes)

        def is_enough(nodes: Sequence[str]) -> bool:
            return bool(nodes) and not hear_all and not any(map(self._is_behind, keys, contexts))

        heard = await self._catching_up.hear(sub, keys, bytes(DIGEST_BYTES * len(keys)), seats, deadline_s, is_enough=is_enough)
        # What was too much to be fetched at once comes later.
        wanted, later = wanted[: heard.end], wanted[heard.end :]
        for position, context in zip(wanted, contexts, strict=False):
            gone = self._unseen_here(sub.store_keys[position], context)
            if gone and sub.space.info.policy in PLAIN_POLICIES:  # the others refuse what they cannot see
                tokens[original[position]] = _without(context, gone)
        # A group of its own: the client's may be sent again, and other sub-batches read it.
        again = replace(sub, group=replace(sub.group, contexts=tokens))
        minted = self._mint_or_refuse(again, wanted, emit, caught_up=True)
        if minted is not None and minted.keys:
            sent = sub.story = self._send(again, minted, seats, deadline_s)
            sent.continue_from(heard.arrivals)
            await self._collect(again, minted, seats, sent, emit)
        if not later:
            return
        seats = self._replicas.seats(sub)
        refusal = self.why_not(sub, seats)  # whose place we took may be back
        if refusal is not None:
            emit(GroupReply(sub.group_index, positions=sub.original(later), error=refusal), len(later))
            return
        await self._run_after_catching_up(sub, later, seats, deadline_s, emit)

    def _is_behind(self, store_key: bytes, context: Context) -> bool:
        try:
            return names_more(self._store.latest(store_key), context)
        except RecordLost:
            return False  # minting will say so

    def _unseen_here(self, store_key: bytes, context: Context) -> set[bytes]:
        try:
            return set(unseen(self._store.latest(store_key), context))
        except RecordLost:
            return set()


def _tally(sub: SubBatch, seats: Seats, size: int) -> Tally:
    """Of a write whose seats are taken: who is away has failed, and what they miss is in the batch of the record."""
    tally = Tally(sub.counting, sub.need, size)
    for home in seats.absent:
        if home in tally.targets:
            tally.fail(home)
    if seats.absent and sub.degrades:
        tally.settle_for_less()
    return tally


def _without(context: Context, gone: set[bytes]) -> bytes:
    return encode_context(Context(context.vector, context.dots - gone, context.overwrite))


def _note(node: str, error: KvError | None, refused: Sequence[int], elapsed_s: float) -> str:
    said = f"failed: {error.message}" if error is not None else f"refused {len(refused)}" if refused else "stored"
    return f"{node} {said} after {elapsed_s * 1000:.1f} ms"
