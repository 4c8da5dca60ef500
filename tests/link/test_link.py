"""Laws of the coalescer, with a fake `send` on a real event loop.

Nothing is lost, nothing is sent twice, bounds are kept, expired work is never sent, at most one partial batch is in flight, a full
one passes it, order is kept, and `check` holds after every step.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvproto.errors import Overloaded
from kvproto.link import Coalescer, LinkBounds, Ticket

BOUNDS = LinkBounds(batch_count_max=8, batch_bytes_max=100, window_bytes=250, queue_count_max=40, queue_bytes_max=600)


@dataclass(eq=False)
class Item:
    """Work that knows what became of it."""

    number: int
    count: int = 1
    size_bytes: int = 10
    deadline_s: float = float("inf")
    expired: int = 0

    def expire(self) -> None:
        self.expired += 1


@dataclass
class Sender:
    """Takes batches and keeps their tickets."""

    bounds: LinkBounds = BOUNDS
    batches: list[list[Item]] = field(default_factory=list)
    open: list[tuple[list[Item], Ticket]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link: Coalescer[Item] = Coalescer(self.send, name="test", bounds=self.bounds)

    def send(self, batch: list[Item], ticket: Ticket) -> None:
        assert all(item.expired == 0 for item in batch)
        self.batches.append(batch)
        self.open.append((batch, ticket))

    def is_full(self, batch: list[Item]) -> bool:
        return (
            sum(item.count for item in batch) >= self.bounds.batch_count_max
            or sum(item.size_bytes for item in batch) >= self.bounds.batch_bytes_max
        )

    def release(self, which: int = 0) -> None:
        _, ticket = self.open.pop(which)
        self.link.release(ticket)

    @property
    def sent(self) -> list[int]:
        return [item.number for batch in self.batches for item in batch]


async def turn() -> None:
    """One turn of the loop."""
    await asyncio.sleep(0)


async def test_an_idle_link_sends_at_the_end_of_the_turn() -> None:
    sender = Sender()
    for number in range(3):
        sender.link.submit(Item(number))
    assert sender.batches == []
    await turn()
    assert sender.sent == [0, 1, 2] and len(sender.batches) == 1


async def test_what_comes_while_a_batch_is_in_flight_leaves_together() -> None:
    sender = Sender()
    sender.link.submit(Item(0))
    await turn()
    for number in range(1, 6):
        sender.link.submit(Item(number))
        await turn()
    assert len(sender.batches) == 1
    sender.release()
    assert [len(batch) for batch in sender.batches] == [1, 5]


async def test_releasing_twice_frees_one_place() -> None:
    sender = Sender()
    sender.link.submit(Item(0))
    await turn()
    _, ticket = sender.open[0]
    sender.link.release(ticket)
    sender.link.submit(Item(1))
    await turn()
    sender.link.release(ticket)
    sender.link.submit(Item(2))
    await turn()
    assert sender.sent == [0, 1], "the second batch still holds the place"
    sender.link.check()


async def test_a_full_batch_passes_the_partial_one_until_the_window_is_full() -> None:
    sender = Sender()
    sender.link.submit(Item(0))
    await turn()
    for number in range(1, 6):
        sender.link.submit(Item(number, size_bytes=100))
    await turn()
    assert [len(batch) for batch in sender.batches] == [1, 1, 1, 1], "10 + 100 + 100 in flight left room for one more"
    sender.release(1)
    await turn()
    assert len(sender.batches) == 5


async def test_one_large_value_does_not_hold_up_small_ones() -> None:
    sender = Sender()
    sender.link.submit(Item(0, size_bytes=200))
    await turn()
    sender.link.submit(Item(1))
    await turn()
    assert sender.sent == [0, 1]


async def test_past_its_bounds_the_queue_refuses_and_keeps_nothing() -> None:
    sender = Sender()
    sender.link.submit(Item(-1))
    await turn()
    for number in range(7):
        sender.link.submit(Item(number, count=1, size_bytes=1))
    sender.link.pause()
    for number in range(7, 40):
        sender.link.submit(Item(number, size_bytes=1))
    with pytest.raises(Overloaded) as raised:
        sender.link.submit(Item(40))
    assert raised.value.limit == 40 and raised.value.retry_after_s > 0
    assert sender.link.overloaded == 1 and sender.link.queued_count == 40
    sender.link.check()


async def test_one_piece_of_work_larger_than_the_queue_is_taken_when_it_is_empty() -> None:
    sender = Sender()
    sender.link.submit(Item(0, count=1000, size_bytes=10_000))
    await turn()
    assert sender.sent == [0]


async def test_expired_work_is_told_so_and_never_sent() -> None:
    sender = Sender()
    now_s = asyncio.get_running_loop().time()
    items = [Item(0, deadline_s=now_s - 1), Item(1), Item(2, deadline_s=now_s - 1)]
    for item in items:
        sender.link.submit(item)
    await turn()
    assert sender.sent == [1] and [item.expired for item in items] == [1, 0, 1]


async def test_shedding_expires_what_waits_behind_a_stuck_batch() -> None:
    sender = Sender()
    sender.link.submit(Item(0))
    await turn()
    now_s = asyncio.get_running_loop().time()
    items = [Item(1, deadline_s=now_s - 1), Item(2), Item(3, deadline_s=now_s - 1)]
    for item in items:
        sender.link.submit(item)
    sender.link.shed()
    assert [item.expired for item in items] == [1, 0, 1] and sender.link.queued_count == 1
    sender.link.check()
    sender.release()
    assert sender.sent == [0, 2]


async def test_shedding_looks_at_the_queue_only_when_a_deadline_may_have_passed() -> None:
    """It is called 40 times a second, whatever waits."""
    sender, now_s = Sender(), asyncio.get_running_loop().time()

    class Watched(Item):
        looks = 0

        @property
        def deadline_s(self) -> float:
            Watched.looks += 1
            return now_s + 1000

        @deadline_s.setter
        def deadline_s(self, value: float) -> None: ...

    sender.link.submit(Item(0))
    await turn()
    for number in range(1, 5):
        sender.link.submit(Watched(number))
    before = Watched.looks
    for _ in range(100):
        sender.link.shed()
    assert Watched.looks == before
    late = Item(5, deadline_s=now_s)
    sender.link.submit(late)
    sender.link.shed()
    assert late.expired == 1 and sender.link.queued_count == 4
    sender.link.check()


async def test_bug_batches_that_took_long_let_any_number_of_others_leave() -> None:
    """Each gave up its place after a while, and the next one left, up to no bound: what a node cannot take stood in sockets."""
    sender = Sender()
    for number in range(100):
        if sender.link.queued_count < 5:
            sender.link.submit(Item(number, size_bytes=40))
        await turn()
        for _, ticket in sender.open:
            sender.link.yield_slot(ticket)
            sender.link.yield_slot(ticket)
        sender.link.check()
    assert sum(item.size_bytes for batch, _ in sender.open for item in batch) <= BOUNDS.window_bytes + 40
    before = len(sender.sent)
    sender.release(0)
    sender.link.check()
    assert len(sender.sent) > before
    while sender.open:
        sender.release(0)
    assert sender.link.in_flight_bytes == 0


async def test_a_smaller_window_holds_back_what_is_not_on_its_way_yet() -> None:
    sender = Sender()
    sender.link.window_bytes = 100
    for number in range(30):
        sender.link.submit(Item(number, size_bytes=50))
        if number >= 10:
            break
    await turn()
    for _, ticket in sender.open:
        sender.link.yield_slot(ticket)
    assert sender.link.in_flight_bytes <= 200
    sender.link.check()


WAITING = LinkBounds(batch_count_max=2, batch_bytes_max=1000, window_bytes=1, wait_share_max=0.25)


async def test_work_that_would_wait_for_much_of_its_time_is_refused_at_once() -> None:
    """A queue stands: what leaves has waited for 50 ms. Whoever has 100 ms is refused, and whoever has a second is not."""
    sender = Sender(WAITING)
    loop = asyncio.get_running_loop()
    for number in range(9):
        sender.link.submit(Item(number, deadline_s=loop.time() + 60))
        await turn()
    await asyncio.sleep(0.05)
    sender.release(0)
    assert sender.link.wait_s >= 0.04
    with pytest.raises(Overloaded) as caught:
        sender.link.submit(Item(20, deadline_s=loop.time() + 0.1))
    assert caught.value.retry_after_s == sender.link.wait_s and sender.link.overloaded == 1
    sender.link.submit(Item(21, deadline_s=loop.time() + 60))
    while sender.open:
        sender.release(0)
        sender.link.check()
    assert sender.link.wait_s == 0.0, "nothing stands any more"
    sender.link.submit(Item(22, deadline_s=loop.time() + 0.01))


async def test_bug_work_that_never_left_in_time_told_nobody_how_long_it_had_waited() -> None:
    """1. More comes than leaves, and what waits expires before it is sent. 2. The piece that was followed expires with it, so that
    nothing was known of the wait. 3. Everything was queued, and what did leave was too old to be of use: a flood of large values
    left 3 % of the throughput."""
    sender = Sender(WAITING)
    loop = asyncio.get_running_loop()
    for number in range(12):
        sender.link.submit(Item(number, deadline_s=loop.time() + 60))
        await turn()
    sender.release(0)
    sender.link.submit(Item(20, deadline_s=loop.time() + 0.06))
    assert sender.link.wait_s == 0.0, "it is this one that is followed now"
    await asyncio.sleep(0.03)
    sender.release(0)
    sender.link.shed()
    assert sender.link.wait_s >= 0.025, "it has waited so long by now"
    with pytest.raises(Overloaded):
        sender.link.submit(Item(21, deadline_s=loop.time() + 0.06))
    await asyncio.sleep(0.05)
    sender.link.shed()
    assert sender.link.expired == 1 and sender.link.wait_s >= 0.025, "nor is it forgotten with the one that was followed"


async def test_a_link_without_any_answer_refuses_nothing_for_having_to_wait() -> None:
    """Whether its node stands still is found out by asking it; then what waits here goes elsewhere."""
    sender = Sender(WAITING)
    loop = asyncio.get_running_loop()
    for number in range(9):
        sender.link.submit(Item(number, deadline_s=loop.time() + 60))
        await turn()
    await asyncio.sleep(0.03)
    sender.link.shed()
    assert sender.link.wait_s == 0.0
    sender.link.submit(Item(20, deadline_s=loop.time() + 0.06))


async def test_without_a_share_nothing_is_refused_for_having_to_wait() -> None:
    sender = Sender()
    loop = asyncio.get_running_loop()
    for number in range(20):
        sender.link.submit(Item(number))
    await turn()
    await asyncio.sleep(0.03)
    sender.release(0)
    sender.link.submit(Item(20, deadline_s=loop.time() + 0.001))


async def test_a_batch_that_only_looked_full_does_not_pass_the_one_in_flight() -> None:
    """1. A partial batch is in flight. 2. A batch's worth waits, but most of it has expired. 3. What is left has to wait."""
    sender = Sender()
    sender.link.submit(Item(0))
    await turn()
    now_s = asyncio.get_running_loop().time()
    for number in range(1, 8):
        sender.link.submit(Item(number, deadline_s=now_s - 1))
    sender.link.submit(Item(8))
    await turn()
    assert sender.sent == [0]
    sender.link.check()
    sender.release()
    assert sender.sent == [0, 8]


async def test_a_paused_link_keeps_everything_until_it_is_resumed_or_drained() -> None:
    sender = Sender()
    sender.link.pause()
    for number in range(3):
        sender.link.submit(Item(number))
    await turn()
    assert sender.batches == []
    assert [item.number for item in sender.link.drain()] == [0, 1, 2]
    sender.link.submit(Item(3))
    sender.link.resume()
    await turn()
    assert sender.sent == [3] and sender.link.queued_bytes == 0
    sender.link.check()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from([1, 5, 10, 60, 100, 130]), st.sampled_from([1, 1, 1, 3, 9])),
        st.tuples(st.just("expired"), st.sampled_from([1, 50, 100]), st.just(1)),
        st.tuples(st.just("release"), st.integers(0, 5), st.just(0)),
        st.tuples(st.sampled_from(["turn", "turn", "shed", "pause", "resume"]), st.just(0), st.just(0)),
    ),
    max_size=80,
)


@given(STEPS)
def test_the_laws_hold_on_any_schedule(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(_run_schedule(steps))


async def _run_schedule(steps: list[tuple[str, int, int]]) -> None:
    sender = Sender()
    loop = asyncio.get_running_loop()
    submitted: list[Item] = []
    refused = 0
    for step, first, second in steps:
        if step in ("submit", "expired"):
            deadline_s = float("inf") if step == "submit" else loop.time() - 1
            item = Item(len(submitted), count=second, size_bytes=first, deadline_s=deadline_s)
            try:
                sender.link.submit(item)
                submitted.append(item)
            except Overloaded:
                refused += 1
        elif step == "release" and sender.open:
            sender.release(first % len(sender.open))
        elif step == "turn":
            await turn()
        elif step == "shed":
            sender.link.shed()
        elif step == "pause":
            sender.link.pause()
        elif step == "resume":
            sender.link.resume()
        _check_laws(sender)
    sender.link.resume()
    await turn()
    while sender.open:
        sender.release()
        await turn()
        _check_laws(sender)
    assert sender.link.queued_count == sender.link.queued_bytes == 0
    sent = set(sender.sent)
    assert len(sent) == len(sender.sent), "nothing is sent twice"
    assert sender.sent == sorted(sender.sent), "order is kept"
    for item in submitted:
        assert (item.number in sent) + item.expired == 1, "nothing is lost"
    event(f"refused: {refused > 0}, full passed: {any(len(batch) == 1 for batch in sender.batches)}")


def _check_laws(sender: Sender) -> None:
    sender.link.check()
    held = [batch for batch, ticket in sender.open if ticket.holds_slot]
    assert len(held) <= 1, "at most one batch holds the place"
    partial = [batch for batch, _ in sender.open if not sender.is_full(batch) and not _closed_by_next(sender, batch)]
    assert len(partial) <= 1, "at most one partial batch is in flight"
    in_flight_bytes = sum(ticket.size_bytes for _, ticket in sender.open)
    assert in_flight_bytes < BOUNDS.window_bytes + 2 * max(BOUNDS.batch_bytes_max, 130)
    for batch in sender.batches:
        over = (
            sum(item.count for item in batch) > BOUNDS.batch_count_max
            or sum(item.size_bytes for item in batch) > BOUNDS.batch_bytes_max
        )
        assert not over or len(batch) == 1, "only a single piece of work may be over a cap"
    assert sender.link.queued_count <= max(BOUNDS.queue_count_max, 9)
    assert sender.link.queued_bytes <= max(BOUNDS.queue_bytes_max, 130)


def _closed_by_next(sender: Sender, batch: list[Item]) -> bool:
    """Whether the work that came next would not have fitted: such a batch is as full as it could be."""
    at = next(index for index, one in enumerate(sender.batches) if one is batch)
    follower = sender.batches[at + 1][0] if at + 1 < len(sender.batches) else None
    if follower is None:
        return sender.link.queued_count > 0
    return (
        sum(item.count for item in batch) + follower.count > BOUNDS.batch_count_max
        or sum(item.size_bytes for item in batch) + follower.size_bytes > BOUNDS.batch_bytes_max
    )
