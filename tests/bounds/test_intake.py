"""The budget of a node: what a connection may hold beside others, who waits, who is refused, and that nothing is left over."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.errors import Overloaded
from kvstore.coordinator.intake import Intake
from kvstore.coordinator.turns import OPERATIONS_MAX, Line, Turns
from kvstore.seams import sockets_allowed
from tests.support.waiting import turns

MIB = 1 << 20


def intake(bytes_max: int = 1000, *, operations_max: int = 1000, connections_max: int = 100, target_s: float = 0.0) -> Intake:
    return Intake("n1", bytes_max=bytes_max, operations_max=operations_max, connections_max=connections_max, target_s=target_s)


def test_one_connection_alone_may_hold_half_and_the_next_a_third() -> None:
    budget = intake()
    first, second = budget.join("a"), budget.join("b")
    for call, share in ((first, 500), (second, 250)):
        while call.has_room:
            call.charge(1)
        assert call.held_bytes == share
    first.release(500)
    while first.has_room:
        first.charge(1)
    assert first.held_bytes == 375, "what the other does not hold is shared"
    budget.check()


def test_whoever_holds_little_may_go_on_when_nothing_is_free() -> None:
    budget = intake()
    greedy, modest = budget.join("a"), budget.join("b")
    greedy.charge(1000)
    assert modest.has_room
    assert modest.admit(4, 5) == 9
    with pytest.raises(Overloaded) as caught:
        modest.admit(2, 0)
    assert (caught.value.limit, caught.value.actual) == (1000, 1009) and caught.value.retry_after_s > 0
    assert not modest.may_read or modest.held_bytes < budget.share_bytes_min


def test_all_calls_of_a_connection_share_what_it_may_hold() -> None:
    budget = intake()
    calls = [budget.join("a") for _ in range(3)]
    for call in calls:
        call.charge(200)
    assert budget.connections == 1 and not any(call.has_room for call in calls)
    calls[0].end()
    assert budget.held_bytes == 400 and calls[1].has_room and calls[2].has_room
    calls[1].charge(100)
    assert not calls[2].has_room


def test_the_largest_batch_fits_when_half_is_free() -> None:
    budget = intake()
    call = budget.join("a")
    assert call.admit(100_000, 100_000) == 500
    assert call.admit(501, 0) == 500
    with pytest.raises(Overloaded):
        call.admit(1, 0)


async def test_who_waits_for_room_goes_on_as_soon_as_there_is() -> None:
    budget = intake()
    call, other = budget.join("a"), budget.join("b")
    call.charge(600)
    waiting = asyncio.ensure_future(call.room())
    other.charge(1)
    other.release(1)
    await turns()
    assert not waiting.done()
    call.release(200)
    await waiting


async def test_a_disk_that_is_behind_stops_the_reading_of_those_who_hold_much() -> None:
    behind = True
    budget = Intake("n1", bytes_max=1000, operations_max=1000, connections_max=100, is_behind=lambda: behind)
    heavy, light = budget.join("a"), budget.join("b")
    heavy.charge(100)
    light.charge(5)
    assert heavy.has_room and not heavy.may_read and light.may_read
    waiting = asyncio.ensure_future(heavy.until_may_read())
    await turns()
    assert not waiting.done()
    behind = False
    heavy.release(10)
    await waiting


async def test_a_disk_that_stays_behind_stops_reading_only_for_as_long_as_a_queue_may_stand() -> None:
    """What is sent after that is read, to be taken on or refused: in the client's window nobody would tell it anything."""
    behind = True
    budget = Intake("n1", bytes_max=1000, operations_max=1000, connections_max=100, target_s=0.02, is_behind=lambda: behind)
    call = budget.join("a")
    call.charge(100)
    assert not call.may_read
    await asyncio.wait_for(call.until_may_read(), 5)
    assert not call.may_read, "nothing has changed but the time"
    await asyncio.wait_for(call.until_may_read(), 5)
    call.charge(900)
    waiting = asyncio.ensure_future(call.until_may_read())
    await asyncio.sleep(0.05)
    assert not waiting.done(), "for room it waits as long as it takes"
    call.release(900)
    await asyncio.wait_for(waiting, 5)
    behind = False
    call.release(100)
    call.admit(1, 1)
    behind = True
    assert not call._has_waited, "the disk had caught up: next time it is waited for again"


def test_more_connections_than_are_taken_are_told_so() -> None:
    budget = intake(connections_max=2)
    first, _ = budget.join("a"), budget.join("b")
    budget.join("a")
    with pytest.raises(Overloaded) as caught:
        budget.join("c")
    assert (caught.value.subject, caught.value.limit, caught.value.actual) == ("connections", 2, 2)
    first.end()
    with pytest.raises(Overloaded):
        budget.join("c")


def test_what_an_ended_call_still_charges_and_releases_counts_for_nobody() -> None:
    budget = intake()
    call, other = budget.join("a"), budget.join("a")
    call.charge(10)
    call.end()
    call.charge(5)
    call.release(15)
    assert budget.held_bytes == 0
    budget.check()
    other.end()
    assert budget.connections == 0


def test_past_the_limit_only_those_are_taken_on_who_have_less_than_an_equal_part() -> None:
    budget = intake(bytes_max=1 << 30, operations_max=3000, target_s=0.2)
    greedy, modest = budget.join("a"), budget.join("b")
    budget.limit.limit = 300
    greedy.admit(0, 500)  # taken as a whole, as long as there is any room
    with pytest.raises(Overloaded) as caught:
        greedy.admit(0, 1)
    assert (caught.value.limit, caught.value.actual) == (300, 500) and 0 < caught.value.retry_after_s <= 1
    for _ in range(15):
        modest.admit(0, 10)
    with pytest.raises(Overloaded):
        modest.admit(0, 10)
    assert budget.shed == 11 and budget.operations == 650
    modest.finish(10)
    modest.admit(0, 10)
    budget.check()


def test_a_client_alone_may_have_all_of_the_limit() -> None:
    budget = intake(bytes_max=1 << 30, operations_max=300, target_s=0.2)
    budget.join("an idle one")
    alone = budget.join("a")
    for _ in range(30):
        alone.admit(0, 10)
    assert budget.operations == 300 and budget.busy == 1
    with pytest.raises(Overloaded):
        alone.admit(0, 10)


def test_late_answers_lower_the_limit_and_refusals_cost_nothing_of_it() -> None:
    budget = intake(bytes_max=1 << 30, operations_max=10_000, target_s=0.2)
    call, before = budget.join("a"), budget.limit.limit
    call.admit(0, before)
    for at in range(20):
        call.answered(True, 100, 2.0, at * 0.1)
    assert budget.limit.limit < before // 4 and budget.load > 1
    with pytest.raises(Overloaded) as caught:
        call.admit(0, 1)
    assert caught.value.retry_after_s == 1.0 and budget.operations == before
    call.end()
    assert budget.operations == budget.busy == 0 and budget.load == 0.0
    budget.check()


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["charge", "release", "admit", "finish", "end"]), st.integers(0, 400)))
)
def test_whatever_calls_do_the_sums_agree_and_what_is_admitted_stays_within_bounds(steps: list[tuple[int, str, int]]) -> None:
    budget = intake()
    calls = [budget.join("abc"[at % 3]) for at in range(5)]
    ended: set[int] = set()
    for at, what, amount in steps:
        if at in ended:
            continue
        if what == "end":
            calls[at].end()
            ended.add(at)
        elif what == "admit":
            before = budget.held_bytes
            try:
                calls[at].admit(amount, 1 + amount % 3)
            except Overloaded:
                assert budget.held_bytes == before
            else:
                assert budget.held_bytes <= max(before, budget.bytes_max) + budget.share_bytes_min
        elif what == "finish":
            calls[at].finish(amount % 3)
        else:
            getattr(calls[at], what)(amount)
        budget.check()
    for at, call in enumerate(calls):
        if at not in ended:
            call.end()
    assert budget.held_bytes == 0 and budget.connections == 0


@pytest.mark.parametrize(
    ("connections_max", "files_max", "allowed"),
    [(4096, 65_536, (5184, 4096)), (4096, 4096, (2317, 579)), (4096, 1024, (205, 51)), (10, 1024, (76, 10))],
)
def test_sockets_leave_the_files_that_the_disk_needs(connections_max: int, files_max: int, allowed: tuple[int, int]) -> None:
    assert sockets_allowed(connections_max, files_max) == allowed


async def test_an_idle_node_begins_a_batch_at_once() -> None:
    order, line = Turns(), Line()
    assert order.begins_now(line, 1)
    assert not order.begins_now(line, 1), "one batch of a connection a turn"
    assert order.begins_now(Line(), 1)
    await turns(2)
    assert order.begins_now(line, 1)


async def test_a_turn_begins_so_many_operations_and_no_more() -> None:
    order = Turns()
    assert order.begins_now(Line(), OPERATIONS_MAX)
    assert not order.begins_now(Line(), 1)


async def test_connections_take_turns_however_many_batches_one_of_them_has_waiting() -> None:
    order, greedy, modest = Turns(), Line(), Line()
    begun: list[str] = []

    async def begin(name: str, line: Line) -> None:
        if not order.begins_now(line, OPERATIONS_MAX):
            await order.wait(line, OPERATIONS_MAX)
        begun.append(name)

    tasks = [asyncio.ensure_future(begin(f"greedy {at}", greedy)) for at in range(10)]
    await turns(1)
    tasks.append(asyncio.ensure_future(begin("modest", modest)))
    await asyncio.gather(*tasks)
    assert begun.index("modest") <= 3
    assert [name for name in begun if name != "modest"] == [f"greedy {at}" for at in range(10)]


async def test_a_turn_that_nobody_takes_any_more_is_given_to_the_next() -> None:
    order, line = Turns(), Line()
    order.begins_now(line, 1)
    gone, stays = (asyncio.ensure_future(order.wait(line, 1)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(stays, 5)
    assert gone.cancelled()
