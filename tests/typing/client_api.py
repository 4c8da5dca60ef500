"""The public API as a type checker sees it. Checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

import kvclient
from kvclient import (
    AsyncClient,
    BatchError,
    Client,
    ClientStats,
    ConditionFailed,
    Entry,
    Incremented,
    KvError,
    Level,
    PutResult,
    Receipt,
    bounded,
)
from kvclient.blocking import Namespace
from kvclient.namespace import AsyncNamespace
from kvclient.testing import FakeAsyncClient, FakeClient
from kvproto.columns import ClusterInfo, NodeStatus


async def check_async() -> None:
    """The asyncio client."""
    async with AsyncClient("127.0.0.1:7400,127.0.0.1:7410", timeout_s=2.0, address_map={"n1": "10.0.0.1:7400"}) as client:
        assert_type(client, AsyncClient)
        users = client.namespace("users")
        result = await users.put("alice", b"1", ttl_s=60, level="quorum")
        assert_type(result, PutResult)
        assert_type(result.version, str)
        assert_type(result.context, bytes)
        assert_type(result.receipt, Receipt)
        entry = await client.get("alice", level=Level.ONE, timeout_s=1.0, explain=True)
        assert_type(entry, Entry)
        assert_type(entry.key, bytes)
        assert_type(entry.found, bool)
        assert_type(entry.value, bytes | None)
        assert_type(entry.values, list[bytes])
        assert_type(entry.expires_at, float | None)
        assert_type(await users.put(b"alice", b"2", context=entry.context), PutResult)
        assert_type(await users.delete("alice", w=2), PutResult)
        assert_type(await users.get_many(["a", "b"]), dict[str, Entry])
        assert_type(await users.get_many([b"a"], r=1), dict[bytes, Entry])
        assert_type(await users.put_many({"a": b"1"}), dict[str, PutResult])
        assert_type(await users.delete_many(iter(["a"])), dict[str, PutResult])
        async for found in users.scan(prefix="al", limit=10):
            assert_type(found, Entry)
        assert_type(await client.admin.status(), list[NodeStatus])
        assert_type(await client.admin.describe(), ClusterInfo)
        assert_type(client.stats, ClientStats)
        assert_type(client.namespace("users", level="quorum", timeout_s=1), AsyncNamespace)
        assert_type(client.with_options(level=Level.ALL), AsyncNamespace)
    async with AsyncClient(hedge=False) as unhedged:
        assert_type(unhedged, AsyncClient)
    assert_type(kvclient.open_async("embedded:/path"), AsyncClient)


async def check_types() -> None:
    """Counters, sets and maps."""
    async with AsyncClient("127.0.0.1:7400") as client:
        space = client.namespace("hits")
        done = await space.increment("k", 5, field="f", level="quorum", timeout_s=1)
        assert_type(done, Incremented)
        assert_type(done.value, int)
        assert_type(done.version, str)
        assert_type(await space.decrement(b"k"), Incremented)
        assert_type(await space.increment_many({"a": 1}), dict[str, Incremented])
        assert_type(await space.increment_many({b"a": 1}), dict[bytes, Incremented])
        assert_type(await space.count("k", field=b"f"), int)
        assert_type(await space.add("k", "a", b"b", ttl_s=5), PutResult)
        assert_type(await space.remove("k", "a", context=b""), PutResult)
        assert_type(await space.members("k"), frozenset[bytes])
        assert_type(await space.contains("k", "a"), bool)
        assert_type(await space.put_field("k", "f", b"v"), PutResult)
        assert_type(await space.put_fields("k", {"f": b"v"}), dict[str, PutResult])
        assert_type(await space.get_field("k", "f"), bytes | None)
        assert_type(await space.delete_field("k", "f"), PutResult)
        entry = await space.get("k")
        assert_type(entry.policy, str)
        assert_type(entry.number, int)
        assert_type(entry.members, frozenset[bytes])
        assert_type(entry.registers, dict[bytes, bytes])
        assert_type(entry.counters, dict[bytes, int])
        assert_type(entry.sets, dict[bytes, frozenset[bytes]])
    assert_type(FakeClient(namespaces={"hits": "counter"}), FakeClient)


async def check_linearizable() -> None:
    """Conditions, locks and sessions."""
    async with AsyncClient("127.0.0.1:7400", level=bounded(50), sloppy=False) as client:
        orders = client.namespace("orders", level="bounded", bound_ms=50)
        assert_type(await orders.put("k", b"v", if_absent=True), PutResult)
        assert_type(await orders.put("k", b"v", if_version="00" * 20, ttl_s=5), PutResult)
        assert_type(await orders.delete("k", if_version="00" * 20), PutResult)
        assert_type(await orders.touch("k", 5, if_version="00" * 20), PutResult)
        assert_type(await orders.compare_and_set("k", None, b"v"), PutResult)
        assert_type(await orders.compare_and_set(b"k", b"v", b"w", ttl_s=5), PutResult)
        assert_type(await orders.increment("k", 2, min=0, max=9), Incremented)
        assert_type(await orders.decrement("k", min=0), Incremented)
        assert_type(await orders.get("k", level=bounded(50)), Entry)
        assert_type(await client.get("k", level="zone_quorum", sloppy=True), Entry)
        assert_type(client.with_options(sloppy=True), AsyncNamespace)
        async with orders.lock("job", lease_s=5, timeout_s=2.5) as lease:
            assert_type(lease.token, int)
            assert_type(lease.lost.is_set(), bool)
        session = orders.session()
        assert_type(session.token, str)
        assert_type(await client.session(session.token, keys_max=9).get("k"), Entry)
        try:
            await orders.put("k", b"v", if_absent=True)
        except ConditionFailed as error:
            assert_type(error.entry, Entry)
            assert_type(error.entry.value, bytes | None)


def check_linearizable_blocking(client: Client) -> None:
    """The same without a loop."""
    assert_type(client.compare_and_set("k", b"v", b"w"), PutResult)
    assert_type(client.increment("k", max=5), Incremented)
    with client.lock("job") as lease:
        assert_type(lease.token, int)
        assert_type(lease.lost.wait(1), bool)
    session = client.session()
    assert_type(session.token, str)
    assert_type(session.get("k"), Entry)
    assert_type(FakeClient(namespaces={"orders": "pc-ec"}), FakeClient)


def check_blocking() -> None:
    """The blocking client."""
    with Client("127.0.0.1:7400") as client:
        assert_type(client, Client)
        assert_type(client.get("k"), Entry)
        assert_type(client.increment("k"), Incremented)
        assert_type(client.members("k"), frozenset[bytes])
        assert_type(client.get_field("k", "f"), bytes | None)
        assert_type(client.namespace("users").put("k", b"v"), PutResult)
        assert_type(client.put("k", b"v", ttl_s=60, context=b"", level="one", w=0, timeout_s=1, explain=True), PutResult)
        assert_type(client.delete("k"), PutResult)
        assert_type(client.get_many(["a"]), dict[str, Entry])
        assert_type(client.get_many([b"a"]), dict[bytes, Entry])
        assert_type(client.put_many({"a": b"1"}), dict[str, PutResult])
        assert_type(client.delete_many({"a"}), dict[str, PutResult])
        assert_type(client.namespace("users", level="quorum"), Namespace)
        assert_type(client.with_options(timeout_s=1), Namespace)
        assert_type(client.admin.describe(timeout_s=1), ClusterInfo)
        assert_type(client.stats, ClientStats)
        for found in client.scan("k"):
            assert_type(found, Entry)
        assert_type(client.admin.status(), list[NodeStatus])
    assert_type(kvclient.open("embedded:/path"), Client)


async def check_fakes() -> None:
    """They are the clients they stand for."""
    client: Client = FakeClient(namespaces=["users"])
    assert_type(client.get("k"), Entry)
    asynchronous: AsyncClient = FakeAsyncClient()
    assert_type(await asynchronous.get("k"), Entry)
    with FakeClient() as fake:
        fake.advance(1.5)
        fake.fail_next(KvError, times=2, applied=True)
        with fake.unreachable():
            fake.get("k")


def check_errors(error: BatchError) -> None:
    """What an error says."""
    assert_type(error.errors["k"], KvError)
    assert_type(error.retryable, bool)
    assert_type(error.may_have_applied, bool)


def check_refused(client: Client, fake: FakeClient) -> None:
    """What a type checker has to refuse: an ignore that is not needed is itself an error."""
    client.put("k", "text")  # type: ignore[arg-type]
    client.put("k")  # type: ignore[call-arg]
    client.put("k", b"v", 60)  # type: ignore[call-arg]
    client.put("k", b"v", ttl=60)  # type: ignore[call-arg]
    client.put("k", b"v", ttl_s="soon")  # type: ignore[arg-type]
    client.put("k", b"v", context=client.get("k"))  # type: ignore[arg-type]
    client.get(1)  # type: ignore[arg-type]
    client.get("k", level=2)  # type: ignore[arg-type]
    client.put_many({"k": "text"})  # type: ignore[dict-item]
    client.get_many([1])  # type: ignore[type-var]
    len(client.get("k").value)  # type: ignore[arg-type]
    fake.fail_next(ValueError)  # type: ignore[arg-type]
    client.put("k", b"v", if_version=b"00")  # type: ignore[arg-type]
    client.compare_and_set("k", "old", b"new")  # type: ignore[arg-type]
    client.get("k", sloppy="yes")  # type: ignore[arg-type]
    client.put("k", b"v", bound_ms=5)  # type: ignore[call-arg]


async def check_refused_async(client: AsyncClient) -> None:
    """The same of the asyncio client."""
    await client.put("k", "text")  # type: ignore[arg-type]
    await client.get(1)  # type: ignore[arg-type]
    client.get("k")  # type: ignore[unused-coroutine]
    await client.get("k", timeout=1)  # type: ignore[call-arg]
