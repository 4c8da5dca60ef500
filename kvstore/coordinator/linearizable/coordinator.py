"""Where a batch on registers is proposed, and what it is told when it cannot be.

By convention the first healthy home replica of a partition proposes for it, so that proposers do not pass each other; any other
node hands its operations there. Safety never rests on that: a batch that was handed on is proposed where it arrives. Without a
majority in reach nothing is begun; what was begun ends as soon as that is known, and says whether it may have been applied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from kvproto.columns import REQUEST_ID_BYTES, GroupReply, Kind, OperationGroup
from kvproto.errors import AvailabilityError, DeadlineExceeded, KvError, NotOwner, QuorumUnreachable
from kvstore.cluster.view import RingView
from kvstore.coordinator.batch import SubBatch, part_of, subset
from kvstore.coordinator.linearizable.batches import Answered, operations_of, tell
from kvstore.coordinator.linearizable.local_reads import LocalReads
from kvstore.coordinator.linearizable.proposing import Proposing
from kvstore.coordinator.outcomes import Emit
from kvstore.coordinator.too_late import too_late
from kvstore.core.membership.opinions import Opinions
from kvstore.core.register.changes import Operation
from kvstore.runtime import Clock
from kvstore.transport.peers import PeerTransport

LOOK_S = 0.05
"""So often operations that wait look whether a majority can be reached still."""


class _Run:
    """The operations of one sub-batch while they are proposed here: what they are told, in parts as it is decided."""

    __slots__ = ("_began_s", "_clock", "_emit", "_sub", "changed", "open", "unreachable")

    def __init__(self, sub: SubBatch, clock: Clock, emit: Emit) -> None:
        self._sub = sub
        self._clock = clock
        self._emit = emit
        self._began_s = asyncio.get_running_loop().time()
        self.open: dict[int, Operation] = {}
        self.unreachable: list[Operation] = []
        self.changed = asyncio.Event()

    def take(self, answered: Sequence[Answered], failed: Sequence[Operation]) -> None:
        """Some operations are decided."""
        for operation, _ in answered:
            del self.open[operation.position]
        if answered:
            tell(self._sub, answered, self._clock, self._emit, asyncio.get_running_loop().time() - self._began_s)
        for operation in failed:
            del self.open[operation.position]
        self.unreachable += failed
        if not self.open or failed:
            self.changed.set()


class RegisterCoordinator:
    """Coordinates operations of linearizable namespaces."""

    def __init__(
        self,
        *,
        me: str,
        proposing: Proposing,
        peers: PeerTransport,
        opinions: Opinions,
        clock: Clock,
        tag: bytes,
        retry_window_ms: int,
        reads: LocalReads,
    ) -> None:
        """`tag`: 5 random bytes of this process, for the ids of requests that came without one."""
        self._me = me
        self._proposing = proposing
        self._peers = peers
        self._opinions = opinions
        self._clock = clock
        self._tag = tag
        self._retry_window_ms = retry_window_ms
        self._ids = 0
        self._turn = 0
        self.reads = reads

    async def run(self, sub: SubBatch, deadline_s: float, emit: Emit, *, hops: int) -> None:
        """Answers every operation of the sub-batch, in parts as they are decided."""
        bound_s = self.reads.bound_s(sub)
        if bound_s is not None and sub.owners.includes_me:
            rest = self.reads.answer(sub, bound_s, emit)
            if rest is None:
                return
            sub = rest
        if hops:
            if sub.owners.includes_me:
                await self._propose(sub, deadline_s, emit)
            else:
                homes = ", ".join(sub.owners.nodes)
                self._refuse(sub, NotOwner(f"{self._me} is no home replica of the key, {homes} are", subject=self._me), emit)
            return
        if bound_s is not None and not sub.owners.includes_me:
            leaders = [self._home(sub, partition) for partition in sub.partitions]
        else:
            leaders = [self._leader(sub, partition) for partition in sub.partitions]
        names = sorted(set(leaders))
        if names == [self._me]:
            await self._propose(sub, deadline_s, emit)
            return
        async with asyncio.TaskGroup() as tasks:
            for leader in names:
                part = part_of(sub, [at for at, one in enumerate(leaders) if one == leader])
                if leader == self._me:
                    tasks.create_task(self._propose(part, deadline_s, emit))
                else:
                    tasks.create_task(self._hand_on(part, leader, deadline_s, emit))

    def _leader(self, sub: SubBatch, partition: int) -> str:
        """Who proposes for a partition: its first home replica that is there, as far as we know."""
        homes = sub.view.preference[partition][: sub.space.info.n]
        for node in homes:
            if self._is_there(node):
                return node
        return self._me if sub.owners.includes_me else homes[0]

    def leader_of(self, view: RingView, group: bytes) -> str | None:
        """Who proposes for a group, as far as we know; None: there is nobody."""
        return next((node for node in view.homes_of(group) if self._is_there(node)), None)

    def _home(self, sub: SubBatch, partition: int) -> str:
        """A home replica that may answer alone: those that are there and owe nothing take turns."""
        homes = [node for node in sub.view.preference[partition][: sub.space.info.n] if self._is_there(node)]
        if not homes:
            return sub.view.preference[partition][0]
        least_s = min(self._peers.lag_s(node) for node in homes)
        homes = [node for node in homes if self._peers.lag_s(node) <= least_s]
        self._turn += 1
        return homes[self._turn % len(homes)]

    def _is_there(self, node: str) -> bool:
        return node == self._me or (self._peers.reachable(node) and node not in self._opinions.dead)

    # --- here

    async def _propose(self, sub: SubBatch, deadline_s: float, emit: Emit) -> None:
        refusal = self._out_of_reach(sub, may_have_applied=False)
        if refusal is not None:
            self._refuse(sub, refusal, emit)
            return
        late = self._late(sub)
        if late and not sub.group.attempt:  # an attempt after it may have been executed, and forgotten: this one never is
            error = too_late(sub.group, self._retry_window_ms)
            emit(GroupReply(sub.group_index, positions=sub.original(sorted(late)), error=error), len(late))
            sub = part_of(sub, [at for at in range(len(sub.store_keys)) if at not in late])
            late = set()
            if not sub.store_keys:
                return
        run = _Run(sub, self._clock, emit)
        try:
            operations = operations_of(sub, run, deadline_s, self._clock.now_ms(), self._new_id(), late)
        except KvError as error:
            self._refuse(sub, error, emit)
            return
        run.open = {operation.position: operation for operation in operations}
        self._proposing.submit(operations)
        loop = asyncio.get_running_loop()
        try:
            while run.open or run.unreachable:
                run.changed.clear()
                timer = loop.call_at(min(deadline_s, loop.time() + LOOK_S), run.changed.set)
                await run.changed.wait()
                timer.cancel()
                self._end_unreachable(run, sub, emit)
                if run.open and loop.time() >= deadline_s:
                    self._end(run, sub, emit, None)
                elif run.open:
                    unreachable = self._out_of_reach(sub, may_have_applied=True)
                    if unreachable is not None:
                        self._end(run, sub, emit, unreachable)
        finally:
            self._proposing.abandon(run.open.values())

    def _end_unreachable(self, run: _Run, sub: SubBatch, emit: Emit) -> None:
        """Of these a round has failed: too few could be asked, or could answer."""
        failed, run.unreachable = run.unreachable, []
        if failed:
            need, contacted = sub.need, len(sub.owners.nodes)
            text = f"fewer than the {need} replicas needed can answer ({contacted} were asked)"
            self._tell_unknown(failed, sub, emit, QuorumUnreachable(text, needed=need, contacted=contacted))

    def _end(self, run: _Run, sub: SubBatch, emit: Emit, error: KvError | None) -> None:
        """Nobody waits for the rest any longer. None: the deadline has passed."""
        rest, run.open = list(run.open.values()), {}
        self._proposing.abandon(rest)
        if error is None:
            text = f"fewer than the {sub.need} replicas needed did answer before the deadline"
            error = DeadlineExceeded(text, needed=sub.need, contacted=len(sub.owners.nodes))
        self._tell_unknown(rest, sub, emit, error)

    def _tell_unknown(self, operations: Sequence[Operation], sub: SubBatch, emit: Emit, error: KvError) -> None:
        """`error` to all; of those of which an accept was sent it is unknown. What an earlier attempt may have done is its sender's
        to know."""
        for unknown in (False, True):
            some = [one for one in operations if one.was_sent is unknown]
            if some:
                told = type(error)(
                    error.message, may_have_applied=unknown, needed=error.needed, received=error.received, contacted=error.contacted
                )
                positions = sub.original([one.position for one in some])
                emit(GroupReply(sub.group_index, positions=positions, error=told), len(some))

    def _out_of_reach(self, sub: SubBatch, *, may_have_applied: bool) -> KvError | None:
        """Why no majority can answer, if none can as far as we know."""
        nodes = sub.owners.nodes
        away = [node for node in nodes if not self._is_there(node)]
        if len(nodes) - len(away) >= sub.need:
            return None
        said = "" if may_have_applied else ": nothing was begun"
        text = f"{len(nodes) - len(away)} of the {sub.need} replicas needed can be reached (not {', '.join(away)}){said}"
        return QuorumUnreachable(text, needed=sub.need, received=0, contacted=len(nodes))

    def _late(self, sub: SubBatch) -> set[int]:
        """The positions whose request ids are older than the retry window: by the clock that issued them where it is known how far
        that is from ours (docs/adr/0015). Where it is not, a first attempt is executed: its age is anybody's guess."""
        group, window_ms = sub.group, self._retry_window_ms
        if not group.request_ids or group.kind is Kind.GET or (group.ids_ahead_ms is None and not group.attempt):
            return set()
        now_ms = self._clock.now_ms()
        if group.ids_ahead_ms is not None:
            now_ms = int(asyncio.get_running_loop().time() * 1000) + group.ids_ahead_ms
        cutoff = max(0, now_ms - window_ms).to_bytes(8, "big")[2:]
        ids, size = group.request_ids, REQUEST_ID_BYTES
        return {place for place, index in enumerate(sub.at()) if ids[size * index : size * index + 6] <= cutoff}

    def _new_id(self) -> bytes:
        """The beginning of the ids of a batch: 14 bytes that no other batch has."""
        self._ids = (self._ids + 1) & 0xFF_FFFF
        return self._clock.now_ms().to_bytes(6, "big") + self._tag + self._ids.to_bytes(3, "big")

    def _refuse(self, sub: SubBatch, error: KvError, emit: Emit) -> None:
        emit(GroupReply(sub.group_index, positions=sub.original(None), error=error), len(sub.store_keys))

    # --- elsewhere

    async def _hand_on(self, sub: SubBatch, leader: str, deadline_s: float, emit: Emit) -> None:
        """Has `leader` propose; another home replica if it cannot be asked, ourselves at last if we are one."""
        loop = asyncio.get_running_loop()
        homes = sub.view.preference[sub.partitions[0]][: sub.space.info.n]
        others = [node for node in homes if node not in (leader, self._me) and self._is_there(node)]
        group = self._with_ids(subset(sub.group, sub.at()))
        unknown = False
        error: KvError = QuorumUnreachable("no home replica of the key can be reached", needed=sub.need, contacted=len(homes))
        for node in [leader, *([self._me] if sub.owners.includes_me else []), *others]:
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                break
            if node == self._me:
                mine = replace(sub, group=group, positions=None)
                at = sub.at()

                def emit_here(reply: GroupReply, count: int, at: Sequence[int] = at, unknown: bool = unknown) -> None:
                    reply.positions = list(at) if reply.positions is None else [at[one] for one in reply.positions]
                    emit(_after(reply, unknown), count)

                await self._propose(mine, deadline_s, emit_here)
                return
            group.timeouts_ms = (max(1, int(left_s * 1000)),)
            try:
                replies = await self._peers.forward(node, group, left_s, sub.trace)
            except KvError as failure:
                error = failure
                if failure.may_have_applied and group.kind is not Kind.GET:
                    unknown = True
                    group.attempt += 1
                continue
            at = sub.at()
            for reply in replies:
                told = list(at) if reply.positions is None else [at[one] for one in reply.positions]
                reply.group, reply.positions = sub.group_index, told
                emit(_after(reply, unknown), len(told))
            return
        error.may_have_applied = unknown
        emit(GroupReply(sub.group_index, positions=sub.original(None), error=error), len(sub.store_keys))

    def _with_ids(self, group: OperationGroup) -> OperationGroup:
        """Another attempt must be the same request."""
        if group.kind is not Kind.GET and not group.request_ids:
            start = self._new_id()
            group.request_ids = b"".join([start + at.to_bytes(2, "big") for at in range(len(group.keys))])
        return group


def _after(reply: GroupReply, unknown: bool) -> GroupReply:
    """The reply to an attempt of ours, when one before it may have been executed: not reaching anybody the second time says
    nothing of the first. An answer from the register does, for that remembers the request."""
    if unknown and isinstance(reply.error, AvailabilityError):
        reply.error.may_have_applied = True
    return reply
