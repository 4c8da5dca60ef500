"""What a fake client adds for the tests of its users: failures on demand, a clock, a store that several clients share."""

from __future__ import annotations

import pytest

from kvclient import BatchError, DeadlineExceeded, KvError, NodeUnreachable, Overloaded, QuorumUnreachable, UnknownNamespace
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore


async def test_the_next_call_fails_with_the_error_that_was_asked_for_and_the_one_after_does_not() -> None:
    async with FakeAsyncClient() as client:
        await client.put("k", b"v")
        client.fail_next(Overloaded("busy", retry_after_s=0.5))
        with pytest.raises(Overloaded) as raised:
            await client.get("k")
        assert raised.value.retryable and raised.value.retry_after_s == 0.5
        assert (await client.get("k")).value == b"v"


async def test_as_many_calls_fail_as_were_asked_for_each_with_an_error_of_its_own() -> None:
    async with FakeAsyncClient() as client:
        client.fail_next(QuorumUnreachable, times=2)
        met: list[KvError] = []
        for _ in range(3):
            try:
                await client.put("k", b"v")
            except QuorumUnreachable as error:
                met.append(error)
        assert len(met) == 2 and met[0] is not met[1]


async def test_a_write_whose_answer_is_lost_is_executed_and_unknown() -> None:
    async with FakeAsyncClient() as client:
        client.fail_next(DeadlineExceeded("too late"), applied=True)
        with pytest.raises(DeadlineExceeded) as raised:
            await client.put("k", b"v")
        assert raised.value.may_have_applied
        assert (await client.get("k")).value == b"v"
        client.fail_next(DeadlineExceeded("too late"))
        with pytest.raises(DeadlineExceeded) as raised:
            await client.delete("k")
        assert not raised.value.may_have_applied and (await client.get("k")).found


async def test_many_keys_fail_each_with_the_error() -> None:
    async with FakeAsyncClient() as client:
        client.fail_next(DeadlineExceeded("too late"), applied=True)
        with pytest.raises(BatchError) as raised:
            await client.put_many({"a": b"1", "b": b"2"})
        assert set(raised.value.errors) == {"a", "b"} and raised.value.may_have_applied
        assert (await client.get("b")).value == b"2"
        client.fail_next(Overloaded)
        with pytest.raises(BatchError) as raised:
            await client.get_many(["a"])
        assert raised.value.retryable and not raised.value.may_have_applied


async def test_a_scan_fails_too() -> None:
    async with FakeAsyncClient() as client:
        await client.put("k", b"v")
        client.fail_next(QuorumUnreachable)
        with pytest.raises(QuorumUnreachable):
            [entry async for entry in client.scan()]
        assert [entry.key async for entry in client.scan()] == [b"k"]


async def test_nothing_can_be_reached_as_long_as_the_test_says_so() -> None:
    client = FakeAsyncClient()
    with client.unreachable(), pytest.raises(NodeUnreachable):
        await client.connect()
    async with client:
        await client.put("k", b"v")
        with client.unreachable():
            for call in (client.get("k"), client.put("k", b"w"), client.admin.describe()):
                with pytest.raises(NodeUnreachable) as raised:
                    await call
                assert raised.value.retryable and not raised.value.may_have_applied
            assert {row.state for row in await client.admin.status()} == {"dead"}
        assert (await client.get("k")).value == b"v"


def test_the_blocking_fake_has_the_same_controls() -> None:
    with FakeClient(namespaces=["users"]) as client:
        users = client.namespace("users")
        users.put("k", b"v", ttl_s=60)
        assert users.get("k").expires_at == client.clock.now_ms() / 1000 + 60
        client.advance(59.9)
        assert users.get("k").found
        client.advance(0.1)
        assert not users.get("k").found
        client.fail_next(Overloaded)
        with pytest.raises(Overloaded):
            users.get("k")
        with client.unreachable(), pytest.raises(NodeUnreachable):
            users.get("k")


def test_clients_of_one_store_see_the_same_and_have_their_own_failures() -> None:
    store = FakeStore()
    with FakeClient(store=store) as one, FakeClient(store=store) as two:
        one.put("k", b"v")
        one.fail_next(Overloaded)
        assert two.get("k").value == b"v"
        with pytest.raises(Overloaded):
            one.get("k")
        one.advance(1)
        assert two.clock.monotonic_s() == 1


def test_a_namespace_that_was_not_named_is_unknown_and_the_error_says_how_to_name_it() -> None:
    with FakeClient() as client, pytest.raises(UnknownNamespace, match="FakeStore"):
        client.namespace("users").get("k")


async def test_two_fakes_are_two_stores() -> None:
    async with FakeAsyncClient() as one, FakeAsyncClient() as two:
        await one.put("k", b"v")
        assert not (await two.get("k")).found


def test_bug_increments_and_writes_to_sets_and_maps_never_failed_however_a_test_asked_for_it() -> None:
    with FakeClient(namespaces={"hits": "counter", "orders": "pc-ec"}) as client:
        hits, orders = client.namespace("hits"), client.namespace("orders")
        client.fail_next(Overloaded)
        with pytest.raises(Overloaded):
            hits.increment("k")
        assert hits.count("k") == 0
        client.fail_next(DeadlineExceeded, applied=True)
        with pytest.raises(DeadlineExceeded) as raised:
            hits.increment("k")
        assert raised.value.may_have_applied and hits.count("k") == 1
        client.fail_next(DeadlineExceeded, applied=True)
        with pytest.raises(DeadlineExceeded):
            orders.compare_and_set("k", None, b"v")
        assert orders.get("k").value == b"v"
