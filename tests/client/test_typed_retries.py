"""How increments are tried again: attempts that were certainly not executed are told apart from those that may have been."""

from __future__ import annotations

import asyncio

import pytest

from kvclient import AsyncClient
from kvclient.errors import KvError, NodeUnreachable
from kvproto.columns import OperationGroup
from kvproto.errors import Overloaded, QuorumUnreachable, RetryWindowPassed
from tests.client.scripted import World
from tests.client.waiting import until


async def attempts(error: KvError, *, then: KvError) -> tuple[list[tuple[str, OperationGroup]], KvError]:
    """What was sent to whom for one increment whose first attempt ended with `error` and whose next one with `then`; what it ended
    with."""
    world = World()
    async with AsyncClient("n1:1,n2:1,n3:1", dial=world.dial) as client:
        for transport in world.transports.values():
            transport.on_its_own = False
        call = asyncio.ensure_future(client.increment("k", 3))
        sent: list[tuple[str, OperationGroup]] = []
        for outcome in (error, then):
            await until(lambda: any(node.open for node in world.transports.values()))
            asked = next(node for node in world.transports.values() if node.open)
            sent.append((asked.address, asked.open[0][0][0]))
            asked.fail(outcome)
        with pytest.raises(KvError) as failed:
            await call
        return sent, failed.value


async def test_an_increment_that_was_refused_is_sent_again_as_if_for_the_first_time() -> None:
    sent, error = await attempts(Overloaded("busy"), then=RetryWindowPassed("late"))
    (_, first), (_, second) = sent
    assert (first.attempt, second.attempt) == (0, 0) and first.request_ids == second.request_ids
    assert list(first.amounts) == [3] and not first.values and not first.contexts and not error.may_have_applied


async def test_an_increment_that_may_have_been_counted_is_asked_for_where_it_was_sent_and_says_so() -> None:
    lost = QuorumUnreachable("one of two", may_have_applied=True)
    sent, error = await attempts(lost, then=RetryWindowPassed("unknown", may_have_applied=True))
    (here, first), (there, second) = sent
    assert here == there and (first.attempt, second.attempt) == (0, 1) and first.request_ids == second.request_ids
    assert error.may_have_applied and isinstance(error, RetryWindowPassed)


async def test_an_increment_whose_connection_broke_stays_unknown_whatever_the_next_node_says() -> None:
    broken = NodeUnreachable("gone", may_have_applied=True)
    sent, error = await attempts(broken, then=RetryWindowPassed("unknown here", may_have_applied=True))
    assert sent[1][1].attempt == 1 and error.may_have_applied
