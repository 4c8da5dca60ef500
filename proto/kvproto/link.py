"""The self-clocking coalescer: one component for the client's link, the peer's link and the commit thread.

At most one partial batch is in flight; whatever is submitted meanwhile leaves together as the next one. No timers and no linger:
an idle link sends at the end of the current turn of the event loop, a busy one batches by itself (docs/performance.md). A batch
that is full in count or bytes does not occupy the only slot: further ones may follow until `window_bytes` are in flight, so that
one large value never holds up small ones. Every bound is in the constructor, and past it `submit` raises `Overloaded`. Work whose
deadline has passed is dropped before it is sent. Where that is asked for (`wait_share_max`), work that would have to wait for much
of the time it has is refused at once: a queue in front of an overloaded node, in which everything grows old before it is sent,
makes all of it worthless. How long work waits now is known from one piece after the other that is followed through the queue, and
while it is in there from how long it has been, if answers come meanwhile: a link that is silent is somebody else's matter.

The coalescer knows nothing of what it carries: the owner's `send` takes the items of one batch and a ticket, and calls `release`
with the ticket when the first part of the reply has come (or the commit is done).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from kvproto.errors import Overloaded


class Work(Protocol):
    """What a coalescer carries: `count` operations of about `size_bytes`, worthless after `deadline_s` of the loop's clock."""

    count: int
    size_bytes: int
    deadline_s: float

    def expire(self) -> None:
        """The deadline passed before it was sent: it was certainly not executed."""


WorkT = TypeVar("WorkT", bound=Work)


@dataclass(slots=True, frozen=True)
class LinkBounds:
    """A batch's caps, the window of bytes in flight, and what may wait. `wait_share_max`: of the time that work has left, it may
    spend so much in the queue; 0: all of it."""

    batch_count_max: int = 2048
    batch_bytes_max: int = 256 * 1024
    window_bytes: int = 4 * 1024 * 1024
    queue_count_max: int = 65_536
    queue_bytes_max: int = 64 * 1024 * 1024
    wait_share_max: float = 0.0


NEVER = float("inf")
WAIT_S_MIN = 0.02
"""A shorter wait is none: the next batch leaves when the answer to the one before has come."""


class Ticket:
    """One batch in flight."""

    __slots__ = ("has_yielded", "holds_slot", "released", "size_bytes")

    def __init__(self, size_bytes: int, holds_slot: bool) -> None:
        self.size_bytes = size_bytes
        self.holds_slot = holds_slot
        self.has_yielded = False
        self.released = False


class Coalescer(Generic[WorkT]):
    """Gathers work into batches by itself. Belongs to one event loop; not thread-safe."""

    __slots__ = (
        "_bounds",
        "_eager",
        "_earliest_s",
        "_followed",
        "_followed_from",
        "_followed_s",
        "_in_flight_bytes",
        "_loop",
        "_paused",
        "_queue",
        "_releases",
        "_scheduled",
        "_send",
        "_slot_taken",
        "_yielded_bytes",
        "expired",
        "name",
        "overloaded",
        "queued_bytes",
        "queued_count",
        "wait_s",
        "window_bytes",
    )

    def __init__(
        self,
        send: Callable[[list[WorkT], Ticket], None],
        *,
        name: str,
        bounds: LinkBounds | None = None,
        eager: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """`eager`: an idle link sends within `submit` instead of at the end of the turn. For links whose work comes in batches
        already, where waiting for company costs a turn and finds nobody."""
        self._send = send
        self._eager = eager
        self._bounds = bounds or LinkBounds()
        self._loop = loop or asyncio.get_running_loop()
        self._queue: deque[WorkT] = deque()
        self._earliest_s = NEVER  # no deadline in the queue is earlier
        self._followed: WorkT | None = None
        self._followed_s = 0.0
        self._followed_from = self._releases = 0  # batches that were answered, by then and by now
        self.wait_s = 0.0
        """How long what leaves now has waited in the queue; 0: not for long."""
        self._slot_taken = False
        self._in_flight_bytes = 0
        self._yielded_bytes = 0
        self.window_bytes = self._bounds.window_bytes
        """As of now; the owner may set it lower and raise it again."""
        self._scheduled = False
        self._paused = False
        self.name = name
        self.queued_count = 0
        self.queued_bytes = 0
        self.overloaded = 0
        self.expired = 0

    def submit(self, work: WorkT) -> None:
        """Queues `work`; it leaves with the next batch. Raises `Overloaded` past the queue's bounds: nothing was queued."""
        if self.wait_s and self._bounds.wait_share_max * (work.deadline_s - self._loop.time()) < self.wait_s:
            self._refuse_wait(work)
        self.admit(work.count, work.size_bytes)
        self.push(work)

    def admit(self, count: int, size_bytes: int) -> None:
        """Raises `Overloaded` if so much more may not wait here. For owners that must know before they do what cannot be undone."""
        bounds = self._bounds
        if self.queued_count and (
            self.queued_count + count > bounds.queue_count_max or self.queued_bytes + size_bytes > bounds.queue_bytes_max
        ):
            self.overloaded += count
            raise Overloaded(
                f"{self.name}: {self.queued_count} operations ({self.queued_bytes} bytes) already wait",
                retry_after_s=0.05,
                limit=bounds.queue_count_max,
                actual=self.queued_count,
                subject=self.name,
            )

    def push(self, work: WorkT) -> None:
        """Queues `work` that was admitted."""
        self._queue.append(work)
        self.queued_count += work.count
        self.queued_bytes += work.size_bytes
        if work.deadline_s < self._earliest_s:  # noqa: PLR1730 - once for each operation: `min` is a call
            self._earliest_s = work.deadline_s
        if self._followed is None and self._bounds.wait_share_max:
            self._followed, self._followed_s, self._followed_from = work, self._loop.time(), self._releases
        if not self._scheduled and not self._paused and (self._has_slot() or self._full()):
            if self._eager:
                self._flush()
            else:
                self._scheduled = True
                self._loop.call_soon(self._flush)

    def release(self, ticket: Ticket) -> None:
        """The batch of `ticket` no longer occupies its place; idempotent."""
        if ticket.released:
            return
        ticket.released = True
        self._releases += 1
        self._in_flight_bytes -= ticket.size_bytes
        if ticket.has_yielded:
            self._yielded_bytes -= ticket.size_bytes
        if ticket.holds_slot:
            self._slot_taken = False
        if self._queue and not self._scheduled and not self._paused:
            self._flush()

    def yield_slot(self, ticket: Ticket) -> None:
        """The batch of `ticket` takes long: others need not wait for it, as long as what is in flight in that way is less than the
        window. It still has to be released."""
        if ticket.released or ticket.has_yielded:
            return
        ticket.has_yielded = True
        self._yielded_bytes += ticket.size_bytes
        if ticket.holds_slot:
            ticket.holds_slot = False
            self._slot_taken = False
            if self._queue and not self._scheduled and not self._paused:
                self._flush()

    def pause(self) -> None:
        """Keeps everything queued until `resume`; deadlines still count."""
        self._paused = True

    def resume(self) -> None:
        """Sends again."""
        self._paused = False
        if self._queue:
            self._flush()

    def drain(self) -> list[WorkT]:
        """Takes everything queued away, for the owner to fail."""
        waiting = list(self._queue)
        self._queue.clear()
        self.queued_count = self.queued_bytes = 0
        self._forget_wait()
        return waiting

    def take(self, wanted: Callable[[WorkT], bool]) -> list[WorkT]:
        """Takes those back that are `wanted`, in their order; the rest stays queued."""
        taken: list[WorkT] = []
        kept: deque[WorkT] = deque()
        for work in self._queue:
            (taken if wanted(work) else kept).append(work)
        self._queue = kept
        self.queued_count -= sum(work.count for work in taken)
        self.queued_bytes -= sum(work.size_bytes for work in taken)
        self._forget_wait()
        return taken

    def shed(self) -> None:
        """Expires queued work whose deadline has passed; for the owner to call now and then, as a stuck link takes no batch."""
        now = self._loop.time()
        if self._followed is not None and self._releases > self._followed_from and now - self._followed_s > self.wait_s:
            self._note_wait(now, followed=self._followed)  # it has waited so long at least, and may never leave
        if now < self._earliest_s:
            return
        expired = [work for work in self._queue if work.deadline_s <= now]
        self._queue = deque([work for work in self._queue if work.deadline_s > now])
        self._earliest_s = min([work.deadline_s for work in self._queue], default=NEVER)
        self._followed = None
        self.queued_count -= sum(work.count for work in expired)
        self.queued_bytes -= sum(work.size_bytes for work in expired)
        for work in expired:
            self.expired += work.count
            work.expire()

    @property
    def in_flight_bytes(self) -> int:
        """About what the batches in flight hold."""
        return self._in_flight_bytes

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert self.queued_count == sum(work.count for work in self._queue)
        assert self.queued_bytes == sum(work.size_bytes for work in self._queue)
        assert self._in_flight_bytes >= 0
        assert not (self._queue and self._has_slot() and not self._scheduled and not self._paused), "work waits on an idle link"

    def _has_slot(self) -> bool:
        """Whether a batch may leave that is not full."""
        return not self._slot_taken and (not self._yielded_bytes or self._yielded_bytes < self.window_bytes)

    def _full(self) -> bool:
        """A full batch is waiting and the window has room for it."""
        bounds = self._bounds
        return (
            self.queued_bytes >= bounds.batch_bytes_max or self.queued_count >= bounds.batch_count_max
        ) and self._in_flight_bytes < self.window_bytes

    def _flush(self) -> None:
        self._scheduled = False
        while self._queue and not self._paused and (self._has_slot() or self._full()):
            has_room = self._in_flight_bytes < self.window_bytes
            batch, size_bytes, full = self._take()
            if not batch:
                continue
            passes = full and has_room
            if not passes and not self._has_slot():  # it only looked full: part of what waited had expired
                self._put_back(batch)
                return
            ticket = Ticket(size_bytes, holds_slot=not passes)
            self._slot_taken = self._slot_taken or not passes
            self._in_flight_bytes += size_bytes
            self._send(batch, ticket)

    def _take(self) -> tuple[list[WorkT], int, bool]:
        """The next batch, expired work dropped: its items, bytes, and whether it is full. A partial one needs the slot."""
        bounds, queue, now = self._bounds, self._queue, self._loop.time()
        batch: list[WorkT] = []
        count = size_bytes = 0
        while queue:
            work = queue[0]
            is_late = work.deadline_s <= now
            if (
                not is_late
                and batch
                and (count + work.count > bounds.batch_count_max or size_bytes + work.size_bytes > bounds.batch_bytes_max)
            ):
                return batch, size_bytes, True
            queue.popleft()
            self.queued_count -= work.count
            self.queued_bytes -= work.size_bytes
            if work is self._followed:
                self._note_wait(now)
            if is_late:
                self.expired += work.count
                work.expire()
                continue
            batch.append(work)
            count += work.count
            size_bytes += work.size_bytes
        self._forget_wait()  # all of it leaves: nothing stands
        self._earliest_s = NEVER
        return batch, size_bytes, count >= bounds.batch_count_max or size_bytes >= bounds.batch_bytes_max

    def _put_back(self, batch: list[WorkT]) -> None:
        """Undoes `_take`: `batch` is at the head of the queue again, in its order."""
        self._queue.extendleft(reversed(batch))
        self._earliest_s = min([self._earliest_s, *[work.deadline_s for work in batch]])
        self.queued_count += sum(work.count for work in batch)
        self.queued_bytes += sum(work.size_bytes for work in batch)

    def _note_wait(self, now: float, followed: WorkT | None = None) -> None:
        """What is followed leaves now; or it does not, and stays `followed`."""
        waited_s = now - self._followed_s
        self.wait_s = waited_s if waited_s >= WAIT_S_MIN else 0.0
        self._followed = followed

    def _forget_wait(self) -> None:
        self._followed = None
        self.wait_s = 0.0

    def _refuse_wait(self, work: WorkT) -> None:
        self.overloaded += work.count
        raise Overloaded(
            f"{self.name}: {self.queued_count} operations already wait, for {self.wait_s:.2f} s by now",
            retry_after_s=self.wait_s,
            actual=self.queued_count,
            subject=self.name,
        )
