"""The front door of a node's data: batches in, replies in parts out. Plans, forwards what is not ours, runs rounds side by side.

Nothing is decided here: batch.py plans, put.py and get.py coordinate. What this file owns is the batch's end: which operations are
still unanswered, the part that says so last, and how much work a node takes in before it says `Overloaded`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from kvproto.columns import GroupReply, Kind, OperationGroup, ScanPage, ScanQuery
from kvproto.errors import Code, DeadlineExceeded, KvError, NotOwner, Overloaded, QuorumUnreachable, ShuttingDown, UnknownNamespace
from kvstore.cluster.view import RingHolder
from kvstore.coordinator.allowance import UNLIMITED, Allowance
from kvstore.coordinator.batch import Limits, SubBatch, part_of, plan, subset
from kvstore.coordinator.dial import LINEARIZABLE
from kvstore.coordinator.get import GetCoordinator
from kvstore.coordinator.linearizable.coordinator import RegisterCoordinator
from kvstore.coordinator.put import PutCoordinator
from kvstore.coordinator.scan import ScanCoordinator
from kvstore.coordinator.slow import Forwarding, SlowLog
from kvstore.coordinator.touch import TouchCoordinator
from kvstore.core.catalog.catalog import CLUSTER_NAMESPACE
from kvstore.core.membership.opinions import Opinions
from kvstore.telemetry.meters import RequestMeter, Timer
from kvstore.transport.peers import PeerTransport

Reply = Callable[[list[GroupReply], bool], None]
"""Takes one part of a batch's answer, and whether it is the last."""

DEFAULT_TIMEOUT_MS = 5000
ROUND_OPERATIONS_MAX = 1024
"""More than these are begun one part after the other: whoever else waits for the processor must not wait for all of them."""


DEAD, UNREACHABLE = 2, 3


class BatchAnswer:
    """Gathers the replies of one batch: those of one turn of the loop leave together, the one that completes it says so."""

    __slots__ = ("_groups", "_loop", "_meter", "_operations", "_replies", "_reply", "_scheduled", "started_s", "unanswered")

    def __init__(
        self,
        reply: Reply,
        groups: Sequence[OperationGroup],
        operations: int,
        loop: asyncio.AbstractEventLoop,
        meter: RequestMeter | None,
        started_s: float,
    ) -> None:
        """`started_s`: when the batch came, by the meter's timer."""
        self._reply = reply
        self._groups = groups
        self._replies: list[GroupReply] = []
        self._loop = loop
        self._scheduled = False
        self._meter = meter
        self.started_s = started_s
        self._operations = self.unanswered = operations

    def emit(self, reply: GroupReply, count: int) -> None:
        """`reply` answers `count` operations."""
        self._replies.append(reply)
        self.unanswered -= count
        assert self.unanswered >= 0, "an operation is answered once"
        if self._meter is not None:
            self._meter.answered(self._groups[reply.group], reply, count, self.started_s)
            if not self.unanswered:
                self._meter.batch_done(self._operations, self.started_s)
        if not self.unanswered:
            self._send()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        if self._replies:
            replies, self._replies = self._replies, []
            self._reply(replies, self.unanswered == 0)


class RoundAnswer:
    """What one round has told; if it breaks, the rest of its operations are answered all the same."""

    __slots__ = ("_answer", "_left", "_slow", "_sub", "_told", "may_have_applied")

    def __init__(self, answer: BatchAnswer, sub: SubBatch, slow: SlowLog) -> None:
        self.may_have_applied = False
        """Somebody was asked to write and has not said what came of it: from now on no error is a definite one."""
        self._answer = answer
        self._sub = sub
        self._slow = slow
        self._told: list[Sequence[int] | None] = []
        self._left = len(sub.store_keys)

    def emit(self, reply: GroupReply, count: int) -> None:
        """`reply` answers `count` operations of the round."""
        if self.may_have_applied and reply.error is not None and reply.error.code is not Code.CONDITION_FAILED:
            reply.error.may_have_applied = True  # that a condition failed is certain: who says so knows the write by its id
        self._told.append(reply.positions)
        self._left -= count
        self._answer.emit(reply, count)
        if not self._left:
            self._slow.round_done(self._sub, self._answer.started_s)

    def break_off(self, error: KvError) -> None:
        """Answers whatever is open with `error`."""
        if not self._left:
            return
        told = {position for positions in self._told for position in positions or ()}
        rest = [position for position in self._sub.at() if position not in told]
        self._left -= len(rest)
        self._answer.emit(GroupReply(self._sub.group_index, positions=rest, error=error), len(rest))


class Coordinator:
    """Executes batches on behalf of clients and forwarding nodes."""

    def __init__(
        self,
        *,
        me: str,
        ring: RingHolder,
        puts: PutCoordinator,
        touches: TouchCoordinator,
        gets: GetCoordinator,
        scans: ScanCoordinator,
        registers: RegisterCoordinator,
        peers: PeerTransport,
        opinions: Opinions,
        limits: Limits,
        in_flight_max: int,
        timer: Timer,
        slow: SlowLog,
        meter: RequestMeter | None,
    ) -> None:
        self._timer = timer
        self._slow = slow
        self._meter = meter
        self._me = me
        self._ring = ring
        self._puts = puts
        self._touches = touches
        self._gets = gets
        self._scans = scans
        self._registers = registers
        self._peers = peers
        self._opinions = opinions
        self._limits = limits
        self._in_flight_max = in_flight_max
        self.in_flight = 0
        self.overloaded = 0
        self.expired = 0
        """Operations whose deadline had passed when their turn came."""
        self.stopped: KvError | None = None
        self.look: Callable[[], Awaitable[None]] | None = None
        """Asks others for namespaces that this node has not heard of; not too often, whoever calls it."""

    async def execute(
        self,
        groups: Sequence[OperationGroup],
        reply: Reply,
        *,
        hops: int = 0,
        trace: bytes = b"",
        allowance: Allowance = UNLIMITED,
        came_s: float | None = None,
        inside: bool = False,
    ) -> None:
        """Answers every operation of `groups` through `reply`, in parts. Never raises for what a client sent. `trace`: the batch's
        id, which goes with it to the replicas and into what is logged of it. `allowance`: what the batch may make the node hold.
        `came_s`: from when on its deadlines count, by the loop's clock; None: from now. `inside`: a node asks, which may ask about
        what nodes keep for themselves."""
        if not groups:
            reply([], True)
            return
        loop = asyncio.get_running_loop()
        came_s = loop.time() if came_s is None else came_s
        operations = sum([max(1, len(group.keys)) for group in groups])
        answer = BatchAnswer(reply, groups, operations, loop, self._meter, self._timer())
        refusal = self._refusal(operations)
        if refusal is not None:
            for index, group in enumerate(groups):
                answer.emit(GroupReply(index, error=refusal), max(1, len(group.keys)))
            return
        self.in_flight += operations
        try:
            await self._look_for(group.namespace for group in groups)
            rounds = self._rounds(groups, answer, hops, came_s, trace, allowance, inside=inside)
            if len(rounds) == 1:
                await rounds[0]
            elif rounds:
                async with asyncio.TaskGroup() as tasks:
                    for round_ in rounds:
                        tasks.create_task(round_)
        finally:
            self.in_flight -= operations

    async def scan(self, query: ScanQuery, *, trace: bytes = b"") -> AsyncIterator[ScanPage]:
        """Pages of live keys in order; a failure is the last page. `trace` as in `execute`."""
        meter, started_s = self._meter, self._timer()
        if query.namespace == CLUSTER_NAMESPACE:
            yield ScanPage(error=_not_for_clients())
            return
        await self._look_for([query.namespace])
        async with aclosing(self._scans.run(query, self._read_registers)) as pages:
            async for page in pages:
                self._slow.page_done(query, page, trace, started_s)
                if meter is not None:
                    meter.page_done(query.level, page.error, started_s)
                yield page
                started_s = self._timer()  # what the client took to read it is not ours

    async def _read_registers(self, group: OperationGroup) -> list[GroupReply]:
        """The answers to a group of gets of registers, for a scan."""
        gathered: list[GroupReply] = []
        await self.execute([group], lambda replies, last: gathered.extend(replies))
        return gathered

    async def _look_for(self, names: Iterable[str]) -> None:
        """A name that this node does not know may be one that it has not heard of yet."""
        spaces = self._ring.view.spaces
        if self.look is not None and any(name not in spaces and name != CLUSTER_NAMESPACE for name in names):
            await self.look()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert self.in_flight >= 0, "an operation ended twice"

    def _refusal(self, operations: int) -> KvError | None:
        if self.stopped is not None:
            return self.stopped
        if self.in_flight and self.in_flight + operations > self._in_flight_max:
            self.overloaded += operations
            return Overloaded(
                f"{self._me} has {self.in_flight} operations in flight, at most {self._in_flight_max} are taken",
                retry_after_s=0.05,
                limit=self._in_flight_max,
                actual=self.in_flight,
                subject=self._me,
            )
        return None

    def _rounds(
        self,
        groups: Sequence[OperationGroup],
        answer: BatchAnswer,
        hops: int,
        came_s: float,
        trace: bytes,
        allowance: Allowance,
        *,
        inside: bool,
    ) -> list[Coroutine[None, None, None]]:
        view = self._ring.view
        rounds: list[Coroutine[None, None, None]] = []
        for index, group in enumerate(groups):
            if group.namespace == CLUSTER_NAMESPACE and not inside:
                answer.emit(GroupReply(index, error=_not_for_clients()), max(1, len(group.keys)))
                continue
            subs, refused = plan(view, index, group, self._limits)
            for reply in refused:
                answer.emit(reply, len(reply.positions or group.keys) or 1)
            timeout_ms = max(group.timeouts_ms, default=DEFAULT_TIMEOUT_MS) or DEFAULT_TIMEOUT_MS
            deadline_s = came_s + timeout_ms / 1000
            for sub in subs:
                sub.trace = trace
                if len(sub.store_keys) <= ROUND_OPERATIONS_MAX:
                    rounds.append(self._guarded(sub, deadline_s, answer, hops, allowance))
                else:
                    rounds.append(self._in_parts(sub, deadline_s, answer, hops, allowance))
        return rounds

    async def _in_parts(self, sub: SubBatch, deadline_s: float, answer: BatchAnswer, hops: int, allowance: Allowance) -> None:
        """Begins a large round in parts, in order, each in a turn of its own; they go on side by side."""
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, len(sub.store_keys), ROUND_OPERATIONS_MAX):
                part = part_of(sub, range(first, min(first + ROUND_OPERATIONS_MAX, len(sub.store_keys))))
                if first:
                    await allowance.turn(len(part.store_keys))
                tasks.create_task(self._guarded(part, deadline_s, answer, hops, allowance))

    async def _guarded(self, sub: SubBatch, deadline_s: float, answer: BatchAnswer, hops: int, allowance: Allowance) -> None:
        """Runs one round. A defect in it is its own: it is logged, its operations are answered as unknown, the others go on."""
        told = RoundAnswer(answer, sub, self._slow)
        reading = sub.group.kind is Kind.GET
        try:
            if asyncio.get_running_loop().time() >= deadline_s:  # it waited for its turn for too long: nobody waits for it any more
                self.expired += len(sub.store_keys)
                late = DeadlineExceeded("the deadline had passed when its turn came: it was not executed", subject=self._me)
                told.emit(GroupReply(sub.group_index, positions=sub.original(None), error=late), len(sub.store_keys))
            elif sub.space.info.mode == LINEARIZABLE:
                await self._registers.run(sub, deadline_s, told.emit, hops=hops)
            elif not sub.owners.includes_me:
                await self._forward(sub, deadline_s, told, hops, allowance)
            else:
                await self._coordinate(sub, deadline_s, told, allowance)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting for it
            facts = {"trace": sub.trace.hex(), "operation": sub.group.kind.name.lower(), "operations": len(sub.store_keys)}
            self._slow.logs.tell("exception", "round_failed", **facts)
            told.break_off(KvError(f"an internal error of {self._me}: {error!r}", may_have_applied=not reading))

    async def _coordinate(self, sub: SubBatch, deadline_s: float, answer: RoundAnswer, allowance: Allowance) -> None:
        """Runs one round here, as a home replica or in the place of one."""
        if sub.group.kind is Kind.GET:
            await self._gets.run(sub, deadline_s, answer.emit, allowance)
        elif sub.group.kind is Kind.TOUCH:
            await self._touches.run(sub, deadline_s, answer.emit)
        else:
            await self._puts.run(sub, deadline_s, answer.emit)

    async def _forward(self, sub: SubBatch, deadline_s: float, answer: RoundAnswer, hops: int, allowance: Allowance) -> None:
        """Has a home replica coordinate, the first reachable one of the preference list; the next if it was certainly not asked."""
        count = len(sub.store_keys)
        owners = sub.owners.nodes
        if hops:
            error: KvError = NotOwner(f"{self._me} is no home replica of the key, {', '.join(owners)} are", subject=self._me)
            answer.emit(GroupReply(sub.group_index, positions=sub.original(None), error=error), count)
            return
        positions = list(sub.at())
        group = subset(sub.group, positions)
        reading = group.kind is Kind.GET
        if self._meter is not None:
            self._meter.forwarded += count
        preferred = sub.view.preference[sub.partitions[0]][: sub.space.info.n]
        loop = asyncio.get_running_loop()
        error = QuorumUnreachable("no home replica of the key can be reached", needed=sub.need, contacted=len(owners))
        candidates = sorted(preferred, key=self._reluctance)
        if sub.sloppy:
            candidates = [node for node in candidates if self._reluctance(node) < DEAD]  # no time is lost on the others: see below
        for node in candidates:
            left_s = deadline_s - loop.time()
            group.timeouts_ms = (max(1, int(left_s * 1000)),)
            sub.story = Forwarding(node)
            try:
                replies = await self._peers.forward(node, group, left_s, sub.trace)
            except KvError as failure:
                error = failure
                answer.may_have_applied = not reading and (answer.may_have_applied or failure.may_have_applied)
                if answer.may_have_applied and not group.request_ids:
                    break  # without a request id a second attempt could be a second write
                if failure.may_have_applied or group.kind is not Kind.INCREMENT:
                    group.attempt += 1  # of an increment it says that it may have been executed
                continue
            for reply in replies:
                told = positions if reply.positions is None else [positions[at] for at in reply.positions]
                reply.group, reply.positions = sub.group_index, told
                reply.alone = False  # so it is there: of us nothing is said
                answer.emit(reply, len(told))
            return
        if sub.sloppy and (not answer.may_have_applied or group.request_ids):
            # No home replica answers: we take the place of one. A write that one of them may have applied keeps its request id.
            if answer.may_have_applied:
                sub = replace(sub, group=replace(sub.group, attempt=sub.group.attempt + 1))
            await self._coordinate(sub, deadline_s, answer, allowance)
            return
        error.may_have_applied = False
        answer.emit(GroupReply(sub.group_index, positions=positions, error=error), count)

    def _reluctance(self, node: str) -> int:
        """The higher it is, the later `node` is asked to coordinate: the slow after others, then the dead, then the unreachable."""
        if not self._peers.reachable(node):
            return UNREACHABLE
        return DEAD if node in self._opinions.dead else int(node in self._opinions.slow)

    def stop(self) -> None:
        """Refuses whatever comes from now on; what is in flight goes on."""
        if self.stopped is None:
            self.stopped = ShuttingDown(f"{self._me} is shutting down", subject=self._me)


def _not_for_clients() -> KvError:
    return UnknownNamespace(f"there is no namespace {CLUSTER_NAMESPACE!r} for clients", subject=CLUSTER_NAMESPACE)
