"""Failures that a test asks for: calls that fail, and times in which nothing can be reached.

They are what the *caller* meets, after whatever retries and failover would have done: an injected error is raised as it is, and
at once.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from kvclient.bulk import BulkCall
from kvclient.dispatcher import Dispatcher
from kvclient.errors import BadRequest, KvError, NodeUnreachable, copy_error
from kvclient.membership import Membership
from kvclient.request_ids import RequestIds
from kvclient.shapes import Shape
from kvclient.stats import ClientStats
from kvclient.values import Entry
from kvproto.columns import ScanQuery


@dataclass(slots=True, frozen=True)
class _Fault:
    error: KvError
    applied: bool

    def raised(self, *, writes: bool) -> KvError:
        """The error of one call; `applied` writes leave their outcome unknown."""
        return copy_error(self.error, may_have_applied=writes and (self.applied or self.error.may_have_applied))


class Faults:
    """What the next calls of one client meet."""

    def __init__(self) -> None:
        self._next: deque[_Fault] = deque()
        self._outages = 0

    def fail_next(self, error: KvError | type[KvError], *, times: int = 1, applied: bool = False) -> None:
        """The next `times` calls raise `error`, each a copy; a *_many call raises it for every key.

        `applied`: writes are executed all the same, and the error says that they may have been, as after a lost answer.
        """
        made = error("a fault that the test asked for") if isinstance(error, type) else error
        if not isinstance(made, KvError):
            raise BadRequest(f"a call fails with a KvError, not {made!r}", subject="error")
        self._next.extend([_Fault(made, applied)] * times)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Within the block no node can be reached: every call raises `NodeUnreachable`, certainly not applied."""
        self._outages += 1
        try:
            yield
        finally:
            self._outages -= 1

    @property
    def is_unreachable(self) -> bool:
        """Whether nothing can be reached now."""
        return self._outages > 0

    def take(self) -> _Fault | None:
        """What the call that begins now meets."""
        if self._outages:
            return _Fault(NodeUnreachable("no node can be reached: the test wants it so"), applied=False)
        return self._next.popleft() if self._next else None


class FaultyDispatcher(Dispatcher):
    """A dispatcher that fails calls when told so."""

    def __init__(
        self, membership: Membership, ids: RequestIds, rng: Random, stats: ClientStats, *, hedge: bool, faults: Faults
    ) -> None:
        super().__init__(membership, ids, rng, stats, hedge=hedge)
        self._faults = faults

    def read(self, shape: Shape, key: bytes, timeout_s: float) -> Future[Any]:
        """See `Dispatcher.read`."""
        return self._begin(partial(super().read, shape, key, timeout_s), writes=False)

    def read_seen(self, shape: Shape, key: bytes, timeout_s: float, seen: bytes) -> Future[Any]:
        """See `Dispatcher.read_seen`."""
        return self._begin(partial(super().read_seen, shape, key, timeout_s, seen), writes=False)

    def write(self, shape: Shape, key: bytes, value: bytes, timeout_s: float, context: bytes | None, ttl_ms: int) -> Future[Any]:
        """See `Dispatcher.write`."""
        return self._begin(partial(super().write, shape, key, value, timeout_s, context, ttl_ms), writes=True)

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
    ) -> Future[Any]:
        """See `Dispatcher.change`."""
        call = partial(super().change, shape, key, value, timeout_s, context, ttl_ms)
        return self._begin(partial(call, field=field, amount=amount, condition=condition), writes=True)

    def _begin(self, call: Callable[[], Future[Any]], *, writes: bool) -> Future[Any]:
        """Makes one call, unless it is to fail; one that is executed all the same answers with the error when it is done."""
        fault = self._faults.take()
        if fault is None:
            return call()
        error = fault.raised(writes=writes)
        if not (writes and fault.applied):
            raise error
        told: Future[Any] = get_running_loop().create_future()

        def done(real: Future[Any]) -> None:
            real.exception()  # looked at, also where it failed: nobody else hears of it
            if not told.done():
                told.set_exception(error)

        call().add_done_callback(done)
        return told

    def start_bulk(self, call: BulkCall) -> None:
        """See `Dispatcher.start_bulk`."""
        fault = self._faults.take()
        if fault is None:
            super().start_bulk(call)
            return
        error = fault.raised(writes=call.shape.writes)
        everything = range(len(call.keys))
        if not fault.applied:
            call.fail(everything, error)
            return
        done: Future[None] = get_running_loop().create_future()
        unheard = BulkCall(
            call.shape,
            call.keys,
            values=call.values,
            ttl_ms=call.ttl_ms,
            deadline_s=call.deadline_s,
            future=done,
            fields=call.fields,
            amounts=call.amounts,
            context=call.context,
            seen=call.seen,
        )
        super().start_bulk(unheard)
        done.add_done_callback(lambda _: call.fail(everything, error))

    async def scan(self, query: ScanQuery, timeout_s: float) -> AsyncGenerator[Entry, None]:
        """See `Dispatcher.scan`."""
        fault = self._faults.take()
        if fault is not None:
            raise fault.raised(writes=False)
        async for entry in super().scan(query, timeout_s):
            yield entry
