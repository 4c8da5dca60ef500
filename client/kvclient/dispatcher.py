"""Sends operations, and decides with `retry` what becomes of those that fail. One for each client; belongs to one event loop.

The hot path is `read` and `write`: choose a link, make the operation, queue it. Everything else here is for when something went
wrong: a link went down, a node refused, the ring changed, a deadline passed. Deadlines are swept every few milliseconds while
anything is in flight instead of a timer an operation.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import _get_running_loop
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from random import Random
from typing import Any

from kvclient.batches import BulkPart, Part, SinglesPart
from kvclient.bulk import PIECES_OUT_MAX, BulkCall, BulkPiece, cut
from kvclient.conditions import has_consensus
from kvclient.errors import (
    ClientClosed,
    DeadlineExceeded,
    ForkedClient,
    KvError,
    NotOwner,
    Overloaded,
    RetryWindowPassed,
    UserError,
    WrongEpoch,
    WrongLoop,
)
from kvclient.gathering import Gathering
from kvclient.hedging import Hedging
from kvclient.membership import Membership
from kvclient.node_link import Flight, NodeLink
from kvclient.operations import Change, Conditional, History, SessionRead, Single, Write, deadline_error
from kvclient.request_ids import RequestIds
from kvclient.retry import Failure, RetryBudget, decide_delay_s
from kvclient.scanning import scan
from kvclient.shapes import Shape
from kvclient.slow_nodes import SlowNodes
from kvclient.stats import ClientStats
from kvclient.values import Entry
from kvproto.columns import ClusterInfo, Kind, ScanQuery

SWEEP_INTERVAL_S = 0.025


class Dispatcher:
    """Operations in, futures out."""

    def __init__(self, membership: Membership, ids: RequestIds, rng: Random, stats: ClientStats, *, hedge: bool) -> None:
        self.ids = ids
        self.stats = stats
        self._membership = membership
        self._rng = rng
        self._budget = RetryBudget()
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._create_future = self._loop.create_future
        self.hedging = Hedging(membership, self._loop, self.stats, self._move, is_on=hedge)
        self._gathering = Gathering(membership, self._loop, partial(self._move, None))
        self.slow_nodes = SlowNodes()
        self._sweeping: asyncio.TimerHandle | None = None
        self._delayed: dict[asyncio.TimerHandle, tuple[Any, tuple[Any, ...]]] = {}

    @property
    def is_sweeping(self) -> bool:
        """Whether a timer runs: only while something is queued, in flight or waiting for a retry."""
        return self._sweeping is not None

    # The hot path.

    def read(self, shape: Shape, key: bytes, timeout_s: float) -> asyncio.Future[Any]:
        """Queues a get; the future brings its `Entry`. Raises `Overloaded` when too much waits already."""
        if _get_running_loop() is not self._loop:
            raise elsewhere(self._pid)
        operation = Single(shape, key, self._loop.time() + timeout_s, self._create_future())
        self._membership.router.chooser(shape)(key).submit(operation)
        if self._sweeping is None:
            self._arm()
        return operation.future

    def read_seen(self, shape: Shape, key: bytes, timeout_s: float, seen: bytes) -> asyncio.Future[Any]:
        """Queues a get of a session, which has `seen` so much of the key; as `read`."""
        if _get_running_loop() is not self._loop:
            raise elsewhere(self._pid)
        operation = SessionRead(shape, key, self._loop.time() + timeout_s, self._create_future(), seen)
        self._membership.router.chooser(shape)(key).submit(operation)
        if self._sweeping is None:
            self._arm()
        return operation.future

    def write(
        self, shape: Shape, key: bytes, value: bytes, timeout_s: float, context: bytes | None, ttl_ms: int
    ) -> asyncio.Future[Any]:
        """Queues a put or delete; the future brings its `PutResult`. Raises `Overloaded` when too much waits already."""
        if _get_running_loop() is not self._loop:
            raise elsewhere(self._pid)
        future = self._create_future()
        operation = Write(shape, key, self._loop.time() + timeout_s, future, value=value, context=context, ttl_ms=ttl_ms)
        self._membership.router.chooser(shape)(key).submit(operation)
        if self._sweeping is None:
            self._arm()
        return future

    def change(
        self,
        shape: Shape,
        key: bytes,
        value: bytes,
        timeout_s: float,
        context: bytes | None,
        ttl_ms: int,
        *,
        field: bytes = b"",
        amount: int = 0,
        condition: bytes = b"",
    ) -> asyncio.Future[Any]:
        """Queues a write to a counter, a set or a field of a map, or any write that has a condition; as `write`."""
        if _get_running_loop() is not self._loop:
            raise elsewhere(self._pid)
        deadline_s, future = self._loop.time() + timeout_s, self._create_future()
        columns: dict[str, Any] = {"value": value, "context": context, "ttl_ms": ttl_ms, "field": field, "amount": amount}
        operation: Change
        if condition:
            operation = Conditional(shape, key, deadline_s, future, condition=condition, **columns)
        else:
            operation = Change(shape, key, deadline_s, future, **columns)
        self._membership.router.chooser(shape)(key).submit(operation)
        if self._sweeping is None:
            self._arm()
        return future

    # Many keys at once.

    def start_bulk(self, call: BulkCall) -> None:
        """Sends the first pieces of a *_many call, the links taking turns; each piece that is done lets another leave."""
        if _get_running_loop() is not self._loop:
            raise elsewhere(self._pid)
        by_link: dict[NodeLink, list[int]] = {}
        self._gathering.look(self._loop.time(), coming=len(call.keys))
        choose = self._membership.router.chooser(call.shape)
        for index, key in enumerate(call.keys):
            by_link.setdefault(choose(key), []).append(index)
        queues = [cut(call, indices) for indices in by_link.values()]
        for turn in range(max(len(queue) for queue in queues)):
            call.waiting.extend(queue[turn] for queue in queues if turn < len(queue))
        call.more = self._more_of_bulk
        for _ in range(min(PIECES_OUT_MAX, len(call.waiting))):
            self._more_of_bulk(call)
        if self._sweeping is None:
            self._arm()

    async def scan(self, query: ScanQuery, timeout_s: float) -> AsyncGenerator[Entry, None]:
        """The entries of `query` in key order; each page has `timeout_s`."""
        if _get_running_loop() is not self._loop:
            raise elsewhere(self._pid)
        async for entry in scan(self._membership, query, timeout_s, self._rng):
            yield entry

    def _more_of_bulk(self, call: BulkCall) -> None:
        """The next piece of `call`, if there is one and still a reason to send it."""
        if self._membership.closed:
            call.fail_waiting(ClientClosed("the client was closed"))
        elif self._loop.time() >= call.deadline_s or call.future.done():
            call.fail_waiting(deadline_error(None, was_sent=False))
        elif call.waiting:
            self._place(call, call.shape, call.waiting.popleft())

    def _place(self, call: BulkCall, shape: Shape, indices: Sequence[int]) -> None:
        """Sends these keys of a call, each where it belongs now."""
        if self._membership.closed:
            call.fail(indices, ClientClosed("the client was closed"))
            return
        by_link: dict[NodeLink, list[int]] = {}
        choose = self._membership.router.chooser(shape)
        for index in indices:
            by_link.setdefault(choose(call.keys[index], self._avoided(shape, call.histories.get(index))), []).append(index)
        for link, chosen in by_link.items():
            if shape.writes:
                self._issue(call, chosen)
            piece = BulkPiece(call, shape, chosen, sum(call.size_bytes(index) for index in chosen))
            try:
                link.submit(piece)
            except Overloaded as error:
                self._wait_for_room(call, shape, chosen, error)

    def _issue(self, call: BulkCall, indices: Sequence[int]) -> None:
        """Ids for those of `indices` that have none yet: as late as possible, since nodes refuse old ones."""
        fresh = [index for index in indices if not call.request_ids[index]]
        for index, request_id in zip(fresh, self.ids.issue(len(fresh)), strict=True):
            call.request_ids[index] = request_id

    def _wait_for_room(self, call: BulkCall, shape: Shape, indices: Sequence[int], error: Overloaded) -> None:
        """The link's queue is full. The caller waits for the call as a whole anyway, so the keys wait here instead of failing."""
        if self._loop.time() + error.retry_after_s < call.deadline_s:
            self._after(error.retry_after_s, self._place, call, shape, indices)
            return
        call.fail(indices, error)
        call.fail_waiting(error)

    # When something went wrong.

    def attempt_failed(self, link: NodeLink, part: Part, positions: Sequence[int], error: KvError) -> None:
        """These positions of a batch through `link` ended with `error`."""
        if isinstance(error, WrongEpoch | NotOwner):
            self._membership.refresh()
        if part.shape.is_hedge:
            return  # the first question is still open, and has its own retries
        if isinstance(part, SinglesPart):
            for at in positions:
                self._single_failed(link, part.operations[at], error)
        elif isinstance(part, BulkPart):
            for piece, indices, _ in part.by_piece(positions):
                unanswered = piece.take(indices)
                self._bulk_failed(link, piece, unanswered, error)
                piece.closed(len(unanswered))

    def never_sent(self, link: NodeLink, works: Sequence[Single | BulkPiece], error: KvError) -> None:
        """These were queued on a link that went down: certainly not applied, they go elsewhere."""
        unsent = type(error)(error.message, may_have_applied=False, subject=error.subject)
        for work in works:
            if work.shape.is_hedge:
                continue
            if isinstance(work, BulkPiece):
                self._bulk_failed(link, work, work.indices, unsent)
                work.closed(work.count)
            else:
                self._single_failed(link, work, unsent)

    def sent(self, flight: Flight, now_s: float) -> None:
        """A batch left: what is in it for the first time pays for the retries and the second questions of others."""
        operations = sum([part.open_count for part in flight.parts if part.shape.attempt == 0 and not part.shape.is_hedge])
        self.stats.batches += 1
        self.stats.operations += operations
        self._budget.pay_in(operations)
        self.hedging.sent(flight, now_s)
        self._gathering.look(now_s)

    def ended(self) -> None:
        """A batch got the last of its answer."""
        self._gathering.ended()

    def is_gathered(self, shape: Shape) -> bool:
        """Whether such operations may go through few of the owners."""
        return self._membership.router.is_gathered(shape)

    def _move(self, link: NodeLink | None, works: Sequence[Single | BulkPiece]) -> None:
        """These were queued, behind a batch of `link` whose answer is late, or where they do not belong any more: they leave
        through another owner."""
        for work in works:
            if isinstance(work, BulkPiece):
                self._place(work.call, work.shape, work.indices)
                work.closed(work.count)
                continue
            if self._membership.closed:
                work.fail(ClientClosed("the client was closed"))
                continue
            try:
                self._membership.router.chooser(work.shape)(work.key, link).submit(work)
            except Overloaded as error:
                self._single_failed(link, work, error)

    def learn(self, info: ClusterInfo, sent_s: float, received_s: float) -> None:
        """A node described the ring."""
        self._membership.learn(info, sent_s, received_s)

    def _single_failed(self, link: NodeLink | None, operation: Single, error: KvError) -> None:
        if operation.future.done():
            return
        history = operation.history
        maybe_before = history is not None and history.maybe_applied
        request_id = operation.request_id if isinstance(operation, Write) else b""
        failure = self._failure(operation.shape, operation.deadline_s, error, maybe_before, request_id)
        failure.elsewhere = self._membership.router.other_owner(operation.key, link) is not None
        delay_s = self._decide(failure)
        if delay_s is None:
            self._after(failure.pause_s, operation.fail, _final(failure))
            return
        operation.note(error, _to_avoid(link, error))
        is_new = bool(request_id) and self._is_stale(failure)
        if is_new and isinstance(operation, Write):
            operation.request_id = b""
        operation.shape = operation.shape.retried(is_unknown=failure.maybe_applied, is_new=is_new)
        self.stats.retries += 1
        self._after(delay_s, self._resubmit, operation)

    def _resubmit(self, operation: Single) -> None:
        if operation.future.done():
            return
        if self._membership.closed:
            operation.fail(ClientClosed("the client was closed"))
            return
        history = operation.history
        router = self._membership.router
        link = router.chooser(operation.shape)(operation.key, self._avoided(operation.shape, history))
        try:
            link.submit(operation)
        except Overloaded as error:
            self._single_failed(link, operation, error)

    def _bulk_failed(self, link: NodeLink, piece: BulkPiece, indices: Sequence[int], error: KvError) -> None:
        """Keys of a piece, all failed with one error: one decision and one retry for those that share a past."""
        call = piece.call
        by_past: dict[bool, list[int]] = {}
        for index in indices:
            history = call.histories.get(index)
            by_past.setdefault(history is not None and history.maybe_applied, []).append(index)
        for maybe_before, chosen in by_past.items():
            ids = filter(None, (call.request_ids[index] for index in chosen)) if piece.shape.writes else ()
            request_id = min(ids, default=b"")  # the oldest: an id begins with its time
            failure = self._failure(piece.shape, call.deadline_s, error, maybe_before, request_id)
            failure.elsewhere = self._membership.router.other_owner(call.keys[chosen[0]], link) is not None
            delay_s = self._decide(failure)
            if delay_s is None:
                self._after(failure.pause_s, call.fail, chosen, _final(failure))
                continue
            is_new = bool(request_id) and self._is_stale(failure)
            for index in chosen:
                call.history(index).note(error, _to_avoid(link, error))
                if is_new:
                    call.request_ids[index] = b""
            self.stats.retries += len(chosen)
            shape = piece.shape.retried(is_unknown=failure.maybe_applied, is_new=is_new)
            self._after(delay_s, self._place, call, shape, chosen)

    def _avoided(self, shape: Shape, history: History | None) -> object:
        """The link that the next attempt avoids: the one that failed last. But of an increment that may have been counted nobody
        knows more than who was asked to count it (safety rule 8); where there is consensus everybody does."""
        if history is None:
            return None
        if shape.attempt_told and shape.kind is Kind.INCREMENT and not has_consensus(self._membership.router.info, shape.namespace):
            return None
        return history.avoid

    def _failure(self, shape: Shape, deadline_s: float, error: KvError, maybe_before: bool, request_id: bytes) -> Failure:
        return Failure(
            error=error,
            attempt=shape.attempt,
            now_s=self._loop.time(),
            deadline_s=deadline_s,
            maybe_applied=shape.writes and (maybe_before or error.may_have_applied),
            id_age_ms=self.ids.age_ms(request_id) if request_id else 0,
        )

    def _decide(self, failure: Failure) -> float | None:
        if self._membership.closed:
            return None
        window_ms = self._membership.router.info.retry_window_ms
        return decide_delay_s(failure, self._budget, self._rng, retry_window_ms=window_ms)

    def _is_stale(self, failure: Failure) -> bool:
        """Certainly not applied, and its id was, or is soon, too old to be accepted: the next attempt is a new write."""
        if failure.maybe_applied:
            return False
        is_refused = isinstance(failure.error, RetryWindowPassed)
        return is_refused or failure.id_age_ms * 2 > self._membership.router.info.retry_window_ms

    # Time.

    def _after(self, delay_s: float, act: Any, *args: Any) -> None:
        if delay_s <= 0:
            act(*args)
            return

        def run() -> None:
            del self._delayed[handle]
            act(*args)

        handle = self._loop.call_later(delay_s, run)
        self._delayed[handle] = (act, args)

    def _arm(self) -> None:
        self._sweeping = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        """Goes on as long as there is something to watch; an idle client has no timer."""
        now_s = self._loop.time()
        self._sweeping = None
        try:
            links = self._membership.all_links()
            for link in links:
                link.sweep(now_s)
            self.slow_nodes.look(links, now_s)
        finally:
            if self._delayed or any(link.busy for link in self._membership.all_links()):
                self._arm()

    def close(self) -> None:
        """Ends what waits for a retry; the membership, closed before, ends what is queued or in flight."""
        self.hedging.close()
        self._gathering.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        delayed, self._delayed = self._delayed, {}
        for handle, (act, args) in delayed.items():
            handle.cancel()
            act(*args)


def elsewhere(pid: int) -> UserError:
    """Why a client that was made by process `pid` cannot be used here and now."""
    if pid != os.getpid():
        return ForkedClient("the process was forked after this client was made: make one after the fork")
    return WrongLoop(
        "an AsyncClient belongs to the event loop it was first used on, and this is another: make one for each loop, "
        "or use Client, which threads may share"
    )


def _to_avoid(link: NodeLink | None, error: KvError) -> NodeLink | None:
    """The link that the next attempt should not take; one that has just told us its clock is as good as any."""
    return None if isinstance(error, RetryWindowPassed) else link


def _final(failure: Failure) -> KvError:
    """The error a caller gets: the one that was met, or the deadline's when time ran out before a node could be reached."""
    error = failure.error
    # A definite answer is the answer, however late it came: a condition that failed has not become unknown.
    if failure.now_s >= failure.deadline_s and error.retryable and not isinstance(error, DeadlineExceeded):
        return deadline_error(error, was_sent=True, may_have_applied=failure.maybe_applied)
    return error
