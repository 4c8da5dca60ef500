"""Locks when something goes wrong: answers that are lost, nodes that cannot be reached, holders that end in the wrong moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvclient import DeadlineExceeded, KvError, LockNotAcquired, NodeUnreachable, QuorumUnreachable
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore
from kvproto.columns import GroupReply, Kind, OperationGroup
from tests.support.waiting import turns, until

LEASE_S = 0.3


class Watched(FakeStore):
    def __init__(self) -> None:
        super().__init__(namespaces={"orders": "pc-ec"})
        self.kinds: list[Kind] = []

    def execute(self, index: int, group: OperationGroup, node: str) -> list[GroupReply]:
        self.kinds.append(group.kind)
        return super().execute(index, group, node)


@pytest.fixture
def store() -> Watched:
    return Watched()


def lock_tasks() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("lock")]


async def test_a_lease_is_renewed_for_as_long_as_the_block_runs(store: Watched) -> None:
    async with FakeAsyncClient(store=store) as client:
        async with client.namespace("orders").lock("job", lease_s=LEASE_S) as lease:
            assert lock_tasks() == ["lock job"]
            await until(lambda: store.kinds.count(Kind.TOUCH) >= 4)  # longer than one lease
            assert not lease.lost.is_set()
        assert lock_tasks() == []
    assert store.kinds[-1] is Kind.DELETE


async def test_a_lease_that_cannot_be_renewed_in_time_is_lost_and_the_block_learns_of_it(store: Watched) -> None:
    loop = asyncio.get_running_loop()
    async with FakeAsyncClient(store=store) as client, client.namespace("orders").lock("job", lease_s=LEASE_S) as lease:
        taken_s = loop.time()
        with client.unreachable():
            await until(lease.lost.is_set)
        assert loop.time() - taken_s <= LEASE_S + 0.2, "not believed in for longer than the nodes do"


async def test_a_short_outage_costs_nothing(store: Watched) -> None:
    async with FakeAsyncClient(store=store) as client, client.namespace("orders").lock("job", lease_s=2 * LEASE_S) as lease:
        client.fail_next(QuorumUnreachable)
        await until(lambda: store.kinds.count(Kind.TOUCH) >= 2)
        assert not lease.lost.is_set()


@pytest.mark.parametrize("applied", [True, False])
async def test_a_lock_whose_answer_was_lost_is_taken_once(store: Watched, applied: bool) -> None:
    async with FakeAsyncClient(store=store) as client:
        orders = client.namespace("orders")
        lost = NodeUnreachable("the answer was lost", may_have_applied=True)
        client.fail_next(lost, applied=applied)
        async with orders.lock("job", timeout_s=5) as lease:
            assert (await orders.get("job")).version == lease.version
            assert store.kinds.count(Kind.PUT) == 1 + applied, "it is found to be ours"
        assert not (await orders.get("job")).found


async def test_what_certainly_failed_is_told_at_once(store: Watched) -> None:
    async with FakeAsyncClient(store=store) as client:
        client.fail_next(QuorumUnreachable)
        with pytest.raises(QuorumUnreachable):
            await client.namespace("orders").lock("job", timeout_s=60).acquire()
        client.fail_next(DeadlineExceeded("no time", may_have_applied=True), times=100)
        with pytest.raises(KvError):
            await client.namespace("orders").lock("job", timeout_s=0.1).acquire()
        assert lock_tasks() == []


@pytest.mark.parametrize("may_have_applied", [False, True])
async def test_bug_who_waited_in_vain_was_told_of_the_last_attempts_deadline(store: Watched, may_have_applied: bool) -> None:
    async with FakeAsyncClient(store=store) as client:
        orders = client.namespace("orders")
        async with orders.lock("job"):
            waiting = asyncio.ensure_future(orders.lock("job", timeout_s=60).acquire())
            await until(lambda: store.kinds.count(Kind.PUT) >= 2)
            client.fail_next(DeadlineExceeded("its last moment", may_have_applied=may_have_applied))
            with pytest.raises(LockNotAcquired, match="for all of 60 s") as raised:
                await waiting
        assert raised.value.may_have_applied is may_have_applied


async def test_giving_it_back_to_nodes_that_cannot_be_reached_is_no_error(store: Watched) -> None:
    async with FakeAsyncClient(store=store) as client:
        lock = client.namespace("orders").lock("job", lease_s=LEASE_S)
        await lock.acquire()
        with client.unreachable():
            await lock.release()
        await lock.release()
        assert (await client.namespace("orders").get("job")).found, "until its lease ends"
        client.advance(LEASE_S)
        await client.namespace("orders").lock("job", timeout_s=1).acquire()


async def test_closing_the_client_loses_the_lease(store: Watched) -> None:
    client = FakeAsyncClient(store=store)
    async with client:
        lease = await client.namespace("orders").lock("job", lease_s=LEASE_S).acquire()
    await until(lease.lost.is_set)
    assert lock_tasks() == []


async def test_who_stops_waiting_leaves_nothing_behind(store: Watched) -> None:
    async with FakeAsyncClient(store=store) as client:
        orders = client.namespace("orders")
        async with orders.lock("job"):
            waiting = asyncio.ensure_future(orders.lock("job", timeout_s=60).acquire())
            await until(lambda: store.kinds.count(Kind.PUT) >= 2)
            waiting.cancel()
            await turns()
            assert waiting.cancelled() and lock_tasks() == ["lock job"]
        assert not (await orders.get("job")).found


async def test_an_exception_in_the_block_gives_it_back(store: Watched) -> None:
    async with FakeAsyncClient(store=store) as client:
        orders = client.namespace("orders")
        with pytest.raises(RuntimeError, match="in the block"):
            async with orders.lock("job"):
                raise RuntimeError("in the block")
        assert not (await orders.get("job")).found


def test_threads_wait_for_a_lock_and_learn_that_it_was_lost(store: Watched) -> None:
    with FakeClient(store=store) as client, FakeClient(store=store) as other:
        with client.namespace("orders").lock("job", lease_s=LEASE_S) as lease:
            with pytest.raises(LockNotAcquired), other.namespace("orders").lock("job", timeout_s=0.1):
                pass
            assert not lease.lost.is_set()
            other.namespace("orders").delete("job")
            assert lease.lost.wait(10)
        with other.namespace("orders").lock("job", timeout_s=1) as next_one:
            assert next_one.token > lease.token and repr(lease).endswith("lost>") and "lost" not in repr(next_one)


@pytest.mark.parametrize("options", [{"lease_s": 0}, {"lease_s": -1}, {"lease_s": "10"}, {"timeout_s": 0}])
def test_leases_and_patience_are_times(store: Watched, options: dict[str, Any]) -> None:
    with FakeClient(store=store) as client, pytest.raises(KvError):
        client.namespace("orders").lock("job", **options)
