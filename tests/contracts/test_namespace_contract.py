"""What every client promises of namespaces made while it runs (docs/namespaces.md): the fake, an embedded store and three real
nodes, asyncio and blocking. Tests share the stores, so each makes namespaces of its own names."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import kvclient
from kvclient import (
    BadRequest,
    ConditionFailed,
    NamespaceConfigured,
    NamespaceExists,
    TooLarge,
    UnknownNamespace,
    WrongMode,
)
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore
from kvstore.config import ClusterConfig
from tests.contracts.test_client_contract import Backend, NodesThread
from tests.support.blocking import AnyClient, Awaited

EMBEDDED = "embedded::memory:namespaces"


async def no_time(seconds: float) -> None:
    """Nothing here waits."""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesThread]:
    running = NodesThread(tmp_path_factory.mktemp("nodes"), ClusterConfig(id="made", partitions=16))
    yield running
    running.close()


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    with kvclient.open(EMBEDDED):
        yield EMBEDDED


@pytest.fixture(scope="module")
def fake() -> FakeStore:
    return FakeStore()


@pytest.fixture(params=["fake", "fake, blocking", "embedded", "embedded, blocking", "nodes", "nodes, blocking"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[AnyClient]:
    what, _, how = request.param.partition(", ")

    def kind(make_async: Callable[..., Any], make_blocking: Callable[..., Any]) -> Callable[..., AnyClient]:
        return make_async if not how else lambda **options: Awaited(make_blocking(**options))

    if what == "fake":
        store: FakeStore = request.getfixturevalue("fake")
        backend = Backend(kind(lambda **o: FakeAsyncClient(store=store, **o), lambda **o: FakeClient(store=store, **o)), no_time)
    else:
        seeds = request.getfixturevalue(what)
        url = seeds if isinstance(seeds, str) else ",".join(seeds.nodes.addresses.values())
        backend = Backend(kind(lambda **o: kvclient.open_async(url, **o), lambda **o: kvclient.open(url, **o)), no_time)
    async with backend.client() as client:
        yield client


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return re.sub(r"[^a-z0-9-]", "-", request.node.name.removeprefix("test_"))[-60:].strip("-")


async def test_a_namespace_is_used_as_soon_as_it_is_made(client: AnyClient, name: str) -> None:
    made = await client.admin.create_namespace(name, preset="pa-ec")
    assert (made.name, made.mode, made.preset, made.created) == (name, "eventual", "pa-ec", True)
    await client.namespace(name).put("k", b"v")
    assert (await client.namespace(name).get("k")).value == b"v"
    assert await client.admin.namespace(name) == made
    assert [space.name for space in await client.admin.namespaces() if space.name in ("default", name)] == sorted(["default", name])


async def test_one_with_consensus_takes_conditions(client: AnyClient, name: str) -> None:
    await client.admin.create_namespace(name, mode="linearizable")
    await client.namespace(name).put("k", b"1", if_absent=True)
    with pytest.raises(ConditionFailed):
        await client.namespace(name).put("k", b"2", if_absent=True)


async def test_the_same_again_is_no_error_and_other_settings_are_named(client: AnyClient, name: str) -> None:
    made = await client.admin.create_namespace(name, preset="pa-el", ttl_s=60)
    assert await client.admin.create_namespace(name, preset="pa-el", ttl_s=60) == made
    with pytest.raises(NamespaceExists, match="ttl_ms is 60000 and not 0"):
        await client.admin.create_namespace(name, preset="pa-el")


async def test_a_dropped_one_is_unknown_and_its_name_is_another_afterwards(client: AnyClient, name: str) -> None:
    made = await client.admin.create_namespace(name, preset="pa-ec")
    await client.namespace(name).put("k", b"old")
    assert (await client.admin.drop_namespace(name)).id == made.id
    with pytest.raises(UnknownNamespace):
        await client.namespace(name).get("k")
    with pytest.raises(UnknownNamespace):
        await client.admin.drop_namespace(name)
    again = await client.admin.create_namespace(name, preset="pc-ec")
    assert again.id > made.id
    assert not (await client.namespace(name).get("k")).found


async def test_what_is_configured_is_neither_made_nor_dropped(client: AnyClient) -> None:
    with pytest.raises(NamespaceConfigured):
        await client.admin.create_namespace("default")
    with pytest.raises(NamespaceConfigured):
        await client.admin.drop_namespace("default")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"n": 9}, BadRequest),
        ({"preset": "pc-ec", "mode": "eventual"}, WrongMode),
        ({"preset": "pc-ec", "durability": "os"}, BadRequest),
        ({"preset": "pc-ec", "storage": "memory"}, BadRequest),
        ({"preset": "pc-ec", "storage": "memory", "max_bytes": 1 << 20}, BadRequest),
        ({"storage": "memory"}, BadRequest),
        ({"storage": "memory", "max_bytes": 1 << 20, "durability": "os"}, BadRequest),
        ({"storage": "memory", "max_bytes": 1000}, BadRequest),
        ({"max_bytes": 1 << 20}, BadRequest),
        ({"storage": "tape"}, BadRequest),
        ({"durability": "maybe"}, BadRequest),
        ({"value_bytes_max": (1 << 20) + 1}, BadRequest),
        ({"preset": "pc-ec", "w": 2}, WrongMode),
        ({"policy": "merge"}, BadRequest),
        ({"preset": "pc-xx"}, BadRequest),
    ],
)
async def test_what_cannot_be_is_refused_by_type(
    client: AnyClient, name: str, wrong: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await client.admin.create_namespace(name, **wrong)
    with pytest.raises(UnknownNamespace):
        await client.admin.namespace(name)


async def test_how_its_records_are_kept_is_a_namespaces_own(client: AnyClient, name: str) -> None:
    made = await client.admin.create_namespace(name, storage="memory", max_bytes=1 << 20, value_bytes_max=100)
    assert (made.storage, made.durability, made.max_bytes, made.value_bytes_max) == ("memory", "none", 1 << 20, 100)
    assert not made.is_durable
    assert not (await client.namespace(name).put("k", b"v")).receipt.durable
    assert (await client.namespace(name).get("k")).value == b"v"
    with pytest.raises(TooLarge):
        await client.namespace(name).put("k", bytes(101))
    with pytest.raises(NamespaceExists):
        await client.admin.create_namespace(name, durability="os")
    other = await client.admin.create_namespace(f"{name}-2", durability="os")
    assert (other.storage, other.durability, other.is_durable) == ("disk", "os", False)
    assert (await client.admin.create_namespace(f"{name}-2", durability="os")) == other


async def test_a_default_time_to_live_and_a_policy_are_the_namespaces(client: AnyClient, name: str) -> None:
    await client.admin.create_namespace(name, ttl_s=60)
    await client.namespace(name).put("k", b"v")
    assert (await client.namespace(name).get("k")).expires_at is not None
    await client.admin.create_namespace(f"{name}-hits", policy="counter")
    assert (await client.namespace(f"{name}-hits").increment("home", 2)).value == 2
