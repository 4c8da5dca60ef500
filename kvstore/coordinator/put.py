"""A put or delete, from minting to the reply (docs/architecture.md, "Life of a put").

Our own replica mints a dot per operation into its record and the *whole record* goes to the others, together with the local
commit (safety rule 1). The reply leaves as soon as enough have made it durable; nothing is undone when too few do: such a write
is unknown.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kvproto.columns import REQUEST_ID_BYTES, GroupReply, Kind
from kvproto.errors import BadRequest, KvError, Overloaded, RecordLost, RetryWindowPassed, TooLarge
from kvstore.coordinator.batch import Limits, SubBatch
from kvstore.coordinator.outcomes import Emit, not_met, receipt
from kvstore.coordinator.replicas import Arrivals, LocalAnswer, Replicas
from kvstore.core.hlc import HybridClock
from kvstore.core.quorum import Outcome, Tally
from kvstore.core.record import (
    Minted,
    decode,
    decode_context,
    encode_context,
    first_record,
    floor_ms,
    is_blind,
    known_request,
    mint,
    overwrite,
    unseen,
)
from kvstore.core.versions import Context, Sibling, covers
from kvstore.runtime import Clock
from kvstore.storage.epochs import ActorLedger
from kvstore.storage.store import Store
from kvstore.transport.peers import FetchChunk

SIBLING_OVERHEAD_BYTES = 160


@dataclass(slots=True)
class MintedColumns:
    """The writes of a sub-batch, minted: parallel to its store keys without the refused ones. `caught_up`: what the others hold was
    merged first, and contexts that still name more are taken as they are."""

    caught_up: bool
    keys: list[bytes] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    pairs: list[tuple[bytes, bytes]] = field(default_factory=list)  # those that are new here
    dots: list[bytes] = field(default_factory=list)
    contexts: list[bytes] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # siblings held afterwards
    positions: list[int] = field(default_factory=list)  # in the sub-batch
    refused: list[tuple[int, KvError]] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)  # contexts name writes that we have to fetch first


class PutCoordinator:
    """Coordinates writes of keys that this node is a home replica of."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: ActorLedger,
        replicas: Replicas,
        clock: Clock,
        rng: random.Random,
        limits: Limits,
        retry_window_ms: int,
        retry_ids_max: int,
        durable: bool,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._replicas = replicas
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._retry_window_ms = retry_window_ms
        self._retry_ids_max = retry_ids_max
        self._durable = durable
        self._hlc = HybridClock()

    async def run(self, sub: SubBatch, deadline_s: float, emit: Emit) -> None:
        """Executes the sub-batch and emits a reply for each of its operations, in parts as they are decided."""
        minted = self._mint_or_refuse(sub, range(len(sub.store_keys)), emit)
        if minted is None:
            return
        # What is staged is on its way to the disk before anything is waited for: the next merge may build on it.
        sent = self._send(sub, minted, deadline_s) if minted.keys else None
        if sent is None:
            if minted.unseen:
                await self._run_after_catching_up(sub, minted.unseen, deadline_s, emit)
        elif not minted.unseen:
            await self._collect(sub, minted, sent, emit)
        else:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._collect(sub, minted, sent, emit))
                both.create_task(self._run_after_catching_up(sub, minted.unseen, deadline_s, emit))

    # --- minting: no await between reading the base and staging the record

    def _mint_or_refuse(self, sub: SubBatch, wanted: Sequence[int], emit: Emit, *, caught_up: bool = False) -> MintedColumns | None:
        group = sub.group
        try:
            size_bytes = sum(map(len, group.values)) + SIBLING_OVERHEAD_BYTES * len(wanted)
            self._store.admit(len(wanted), size_bytes)
            first = self._ledger.reserve(len(wanted))
        except KvError as error:
            # Refused before anything was minted: certainly not applied.
            emit(GroupReply(sub.group_index, positions=sub.original(wanted), error=error), len(wanted))
            return None
        minted = self._mint(sub, wanted, first, caught_up)
        for position, reason in minted.refused:
            emit(GroupReply(sub.group_index, positions=sub.original([position]), error=reason), 1)
        return minted

    def _mint(self, sub: SubBatch, wanted: Sequence[int], counter: int, caught_up: bool) -> MintedColumns:
        group, store = sub.group, self._store
        out = MintedColumns(caught_up)
        now_ms = self._clock.now_ms()
        hlc = self._hlc.stamp(now_ms)
        cutoff = max(0, now_ms - self._retry_window_ms).to_bytes(6, "big")
        actor, retries_max = self._ledger.actor, self._retry_ids_max
        ids = group.request_ids or self._own_ids(now_ms, len(group.keys))
        values = group.values if group.kind is Kind.PUT else None
        contexts, original = group.contexts, sub.at()
        store_keys, latest, pending = sub.store_keys, store.latest, store.stage
        ttls = group.ttls_ms or ((sub.space.info.ttl_ms,) if values is not None else (0,))
        expires_ms = now_ms + ttls[0] if ttls[0] else 0
        for position in wanted:
            at = original[position]
            store_key = store_keys[position]
            request_id = ids[REQUEST_ID_BYTES * at : REQUEST_ID_BYTES * (at + 1)]
            if len(ttls) > 1:
                expires_ms = now_ms + ttls[at] if ttls[at] else 0
            value = None if values is None else values[at]
            token = contexts[at] if contexts else b""
            dot = actor + counter.to_bytes(8, "big")
            counter += 1
            if request_id < cutoff:
                out.refused.append((position, _too_late(self._retry_window_ms)))
                continue
            try:
                base = latest(store_key)
            except RecordLost as error:
                out.refused.append((position, error))
                continue
            record: bytes | None = None
            fresh = True
            if base is None:
                if not token:
                    record = first_record(dot, request_id, hlc, expires_ms, value)
            elif not token or (
                # The usual token: what this client was acknowledged, one row, covered by what we hold.
                len(token) == 23
                and token[3:15] == base[17:29]
                and (token[15:] <= base[29:37] if token[0] == 2 else token[15:] == base[29:37] and token[:3] == b"\x01\x00\x01")
            ):
                record = overwrite(base, dot, request_id, hlc, expires_ms, value, cutoff, retries_max)
            if record is not None:
                out.contexts.append(b"\x01\x00\x01" + dot)
                out.counts.append(1)
            else:
                write = Sibling(dot, request_id, hlc, expires_ms, value is None, value or b"")
                result = self._mint_general(base, write, token, group.attempt, now_ms, out, position)
                if result is None:
                    continue
                record, dot, fresh = result.record, result.dot, result.fresh
                out.contexts.append(result.context)
                out.counts.append(result.siblings)
            if fresh:
                pending(store_key, record)
                out.pairs.append((store_key, record))
            out.keys.append(store_key)
            out.records.append(record)
            out.dots.append(dot)
            out.positions.append(position)
        return out

    def _mint_general(
        self, base: bytes | None, write: Sibling, token: bytes, attempt: int, now_ms: int, out: MintedColumns, position: int
    ) -> Minted | None:
        """Anything but the usual case. None: put aside or refused, and noted in `out`."""
        try:
            context = decode_context(token)
            known = known_request(base, write.request_id, context)
            if known is not None:
                return known
            if attempt and base is not None and int.from_bytes(write.request_id[:6], "big") <= floor_ms(base):
                out.refused.append((position, _too_late(self._retry_window_ms)))
                return None
            if not out.caught_up and _names_more(base, context):
                out.unseen.append(position)
                return None
            if base is not None and covers(decode(base).vector, write.dot):
                # Somebody's context claimed dots that we had not minted: under this actor the write would be born superseded.
                self._ledger.begin_epoch()
                out.refused.append((position, _renamed()))
                return None
            cutoff_ms = max(0, now_ms - self._retry_window_ms)
            minted = mint(base, write, context, cutoff_ms=cutoff_ms, retries_max=self._retry_ids_max)
        except ValueError as error:
            out.refused.append((position, BadRequest(str(error), subject="context")))
            return None
        if minted.siblings > self._limits.siblings_max:
            out.refused.append((position, _too_many_siblings(minted.siblings, self._limits.siblings_max)))
            return None
        return minted

    def _own_ids(self, now_ms: int, count: int) -> bytes:
        """Request ids for a client that gave none: unique, but a retry of it is another write."""
        stamp = now_ms.to_bytes(6, "big")
        tag = self._rng.getrandbits(64) & ~0xFFFFFFFF
        return b"".join([stamp + b"\x00\x00" + (tag + index).to_bytes(8, "big") for index in range(count)])

    # --- replicating

    def _send(self, sub: SubBatch, minted: MintedColumns, deadline_s: float) -> Arrivals:
        """Sends the records to the others and to our own disk; where the answers arrive."""
        arrivals = Arrivals(asyncio.get_running_loop(), deadline_s)
        me = self._replicas.me
        ring_hash = sub.view.ring.hash
        self._replicas.store_at_others(sub.owners.nodes, minted.keys, minted.records, deadline_s, arrivals, ring_hash)
        self._store.commit(minted.pairs, lambda error: arrivals.add(LocalAnswer(me, error)))
        return arrivals

    async def _collect(self, sub: SubBatch, minted: MintedColumns, arrivals: Arrivals, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        tally = Tally(sub.owners.nodes, sub.need, len(minted.keys))
        notes: list[str] = []
        started_s = loop.time()
        while not tally.settled:
            answer = await arrivals.next()
            if answer is None:
                break
            if sub.group.explain:
                notes.append(_note(answer.node, answer.error, answer.refused, loop.time() - started_s))  # type: ignore[union-attr]
            if answer.error is not None:
                tally.fail(answer.node)
            else:
                tally.record(answer.node, answer.refused)  # type: ignore[union-attr]
            for outcome, positions in tally.settle():
                self._answer(sub, minted, tally, outcome, positions, notes, emit)
        arrivals.close()
        if not tally.settled:
            self._give_up(sub, minted, tally, emit)

    def _answer(
        self,
        sub: SubBatch,
        minted: MintedColumns,
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
        dots, contexts, counts = minted.dots, minted.contexts, minted.counts
        if positions is not None:
            dots = [dots[at] for at in positions]
            contexts = [contexts[at] for at in positions]
            counts = [counts[at] for at in positions]
        answered = tally.answered if positions is None else tally.answered_for(positions[0])
        now_ms = self._clock.now_ms()
        reply = GroupReply(
            sub.group_index,
            positions=self._original(sub, minted, positions),
            counts=() if max(counts) == 1 else counts,
            versions=b"".join(dots),
            contexts=contexts,
            receipt=receipt(sub, answered, now_ms=now_ms, durable=self._durable, explanation=notes),
        )
        emit(reply, count)

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

    async def _run_after_catching_up(self, sub: SubBatch, wanted: list[int], deadline_s: float, emit: Emit) -> None:
        """Merges what the other home replicas hold of these keys into our own records until it covers the contexts, then mints;
        dots that nobody reachable has seen are then no longer waited for: the write becomes a sibling of them, which loses
        nothing."""
        loop = asyncio.get_running_loop()
        # Half of the time that is left: the other half is for the write itself.
        arrivals = Arrivals(loop, (loop.time() + deadline_s) / 2)
        keys = [sub.store_keys[position] for position in wanted]
        tokens, original = list(sub.group.contexts), sub.at()
        contexts = [decode_context(tokens[original[position]]) for position in wanted]
        others = [node for node in sub.owners.nodes if node != self._replicas.me]
        self._replicas.fetch_from(others, keys, bytes(8 * len(keys)), deadline_s, arrivals, sub.view.ring.hash)
        for _ in others:
            answer = await arrivals.next()
            if answer is None:
                break
            if answer.error is None:
                assert isinstance(answer, FetchChunk)
                await self._take_in(keys, answer, arrivals.deadline_s)
                if not any(map(self._is_behind, keys, contexts)):
                    break  # a stalled peer has nothing more to tell
        arrivals.close()
        for position, context in zip(wanted, contexts, strict=True):
            gone = self._unseen_here(sub.store_keys[position], context)
            if gone:
                tokens[original[position]] = _without(context, gone)
        # A group of its own: the client's may be sent again, and other sub-batches read it.
        sub = replace(sub, group=replace(sub.group, contexts=tokens))
        minted = self._mint_or_refuse(sub, wanted, emit, caught_up=True)
        if minted is not None and minted.keys:
            await self._collect(sub, minted, self._send(sub, minted, deadline_s), emit)

    def _is_behind(self, store_key: bytes, context: Context) -> bool:
        try:
            return _names_more(self._store.latest(store_key), context)
        except RecordLost:
            return False  # minting will say so

    def _unseen_here(self, store_key: bytes, context: Context) -> set[bytes]:
        try:
            return set(unseen(self._store.latest(store_key), context))
        except RecordLost:
            return set()

    async def _take_in(self, keys: Sequence[bytes], answer: FetchChunk, until_s: float) -> None:
        """Merges what a replica holds differently into our own records; returns when that is durable or failed, or at `until_s`: a
        slow disk of ours is no reason to keep a client waiting beyond its deadline."""
        found = [(keys[at], record) for at, record in zip(answer.differing, answer.records, strict=True) if record]
        loop = asyncio.get_running_loop()
        merged: asyncio.Future[None] = loop.create_future()

        def done(*_: object) -> None:
            if not merged.done():  # the client may have gone away meanwhile; who else waits for this commit must not notice
                merged.set_result(None)

        try:
            self._store.admit(len(found), sum([len(record) for _, record in found]))
        except KvError:
            return  # minting will be refused for the same reason
        self._store.merge([key for key, _ in found], [record for _, record in found], done)
        timer = loop.call_at(until_s, done)
        try:
            await merged
        finally:
            timer.cancel()


def _names_more(base: bytes | None, context: Context) -> bool:
    """Whether `context` names writes that `base` has not seen."""
    return bool(unseen(base, context)) or is_blind(base, context)


def _without(context: Context, gone: set[bytes]) -> bytes:
    return encode_context(Context(context.vector, context.dots - gone, context.overwrite))


def _too_late(window_ms: int) -> RetryWindowPassed:
    return RetryWindowPassed(
        f"the request id is older than the retry window ({window_ms / 1000:g} s) or no longer remembered: "
        "read the key to see whether the write was applied",
        may_have_applied=True,
        limit=window_ms,
    )


def _renamed() -> Overloaded:
    return Overloaded("this node goes on under a new actor epoch: try again", retry_after_s=0.01, subject="actor-epoch")


def _too_many_siblings(count: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the key would have {count} siblings, at most {limit} are allowed: read it and write one value with its context",
        limit=limit,
        actual=count,
        subject="siblings",
    )


def _note(node: str, error: KvError | None, refused: Sequence[int], elapsed_s: float) -> str:
    said = f"failed: {error.message}" if error is not None else f"refused {len(refused)}" if refused else "stored"
    return f"{node} {said} after {elapsed_s * 1000:.1f} ms"
