"""What every client promises of counters, sets, maps and lww (docs/conflicts.md): the fake, an embedded store, three real nodes;
asyncio and blocking. Tests of one module share the stores, so each has keys of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvclient
from kvclient import BadRequest, BatchError, Incremented, TooLarge, WrongMode
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore
from kvstore.config import ClusterConfig, NamespaceConfig
from tests.contracts.test_client_contract import Backend, NodesThread
from tests.support.blocking import AnyClient, Awaited

POLICIES = {"hits": "counter", "tags": "set", "carts": "map", "last": "lww", "plain": "siblings"}
SETTINGS = ClusterConfig(
    id="types",
    partitions=16,
    namespaces={
        "default": NamespaceConfig(),
        **{name: NamespaceConfig(id=at + 2, name=name, policy=policy) for at, (name, policy) in enumerate(POLICIES.items())},
    },
)
EMBEDDED = "embedded::memory:types?namespaces=" + ",".join(f"{name}:{policy}" for name, policy in POLICIES.items())


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesThread]:
    running = NodesThread(tmp_path_factory.mktemp("nodes"), SETTINGS)
    yield running
    running.close()


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    with kvclient.open(EMBEDDED):
        yield EMBEDDED


@pytest.fixture(scope="module")
def fake() -> FakeStore:
    return FakeStore(namespaces=POLICIES)


@pytest.fixture(params=["fake", "fake, blocking", "embedded", "embedded, blocking", "nodes", "nodes, blocking"])
def backend(request: pytest.FixtureRequest) -> Backend:
    what, _, how = request.param.partition(", ")

    def kind(make_async: Callable[..., Any], make_blocking: Callable[..., Any]) -> Callable[..., AnyClient]:
        return make_async if not how else lambda **options: Awaited(make_blocking(**options))

    if what == "fake":
        store: FakeStore = request.getfixturevalue("fake")

        async def advance(seconds: float) -> None:
            store.clock.advance(seconds)

        make = kind(lambda **o: FakeAsyncClient(store=store, **o), lambda **o: FakeClient(store=store, **o))
        return Backend(make, advance)
    seeds = request.getfixturevalue("embedded" if what == "embedded" else "nodes")
    url = seeds if isinstance(seeds, str) else ",".join(seeds.nodes.addresses.values())
    return Backend(kind(lambda **o: kvclient.open_async(url, **o), lambda **o: kvclient.open(url, **o)), asyncio.sleep)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


# Counters.


async def test_increments_add_up_and_tell_what_the_counter_holds(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        hits = client.namespace("hits")
        assert await hits.count(key) == 0
        done = await hits.increment(key)
        assert isinstance(done, Incremented) and done.value == 1 and len(done.version) == 40
        assert (await hits.increment(key, 41)).value == 42
        assert (await hits.decrement(key, 2)).value == 40
        assert await hits.count(key) == 40
        assert done.receipt.needed <= len(done.receipt.acknowledged)


async def test_a_counter_that_is_read_as_an_entry_has_its_number_and_its_digits(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        hits = client.namespace("hits")
        await hits.increment(key, -7)
        entry = await hits.get(key)
        assert (entry.found, entry.policy, entry.number, entry.value, entry.values) == (True, "counter", -7, b"-7", [b"-7"])


async def test_many_increments_at_once_are_all_counted(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        hits = client.namespace("hits")
        values = [(await one).value for one in [asyncio.ensure_future(hits.increment(key)) for _ in range(50)]]
        assert await hits.count(key) == 50 and max(values) == 50


async def test_increments_of_many_keys(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        hits = client.namespace("hits")
        amounts = {f"{key}/{at}": at - 3 for at in range(8)}
        done = await hits.increment_many(amounts)
        assert {name: one.value for name, one in done.items()} == amounts
        entries = await hits.get_many(amounts)
        assert {name: entry.number for name, entry in entries.items()} == amounts
        assert await hits.increment_many({}) == {}


async def test_a_deleted_counter_begins_at_nothing(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        hits = client.namespace("hits")
        await hits.increment(key, 10)
        await hits.delete(key)
        assert not (await hits.get(key)).found and await hits.count(key) == 0
        assert (await hits.increment(key, 3)).value == 3


# Sets.


async def test_what_is_added_is_in_the_set_until_it_is_removed(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        tags = client.namespace("tags")
        assert await tags.members(key) == frozenset() and not await tags.contains(key, "a")
        await tags.add(key, "a")
        await tags.add(key, "b", b"c")
        assert await tags.members(key) == {b"a", b"b", b"c"}
        await tags.remove(key, "a", "nothing")
        assert await tags.members(key) == {b"b", b"c"} and not await tags.contains(key, "a") and await tags.contains(key, "b")
        await tags.remove(key, "b", "c")
        assert not (await tags.get(key)).found


async def test_a_set_that_is_read_as_an_entry_has_members_and_no_value(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        tags = client.namespace("tags")
        await tags.add(key, "x")
        entry = await tags.get(key)
        assert (entry.found, entry.policy, entry.members, entry.values) == (True, "set", {b"x"}, [b"x"])
        with pytest.raises(WrongMode, match=r"read \.members"):
            _ = entry.value
        with pytest.raises(WrongMode, match="holds a set, no counter"):
            _ = entry.number


async def test_a_remove_with_a_context_leaves_what_was_added_since(backend: Backend, key: str) -> None:
    async with backend.client() as client, backend.client() as other:
        tags, others = client.namespace("tags"), other.namespace("tags")
        await tags.add(key, "a")
        seen = await tags.get(key)
        await others.add(key, "a")
        await tags.remove(key, "a", context=seen.context)
        assert await tags.members(key) == {b"a"}, "the add wins"
        await tags.remove(key, "a")
        assert await tags.members(key) == frozenset()


async def test_an_element_may_expire_alone(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        tags = client.namespace("tags")
        await tags.add(key, "stays")
        await tags.add(key, "goes", ttl_s=0.05)
        await backend.pass_time(0.1)
        assert await tags.members(key) == {b"stays"}


async def test_an_element_is_as_long_as_a_value_may_be(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        tags = client.namespace("tags")
        with pytest.raises(TooLarge):
            await tags.add(key, b"x" * (1024 * 1024 + 1))
        with pytest.raises(BadRequest):
            await tags.add(key)
        with pytest.raises(BadRequest):
            await tags.add(key, 5)  # type: ignore[arg-type]


# Maps.


async def test_a_map_has_fields_that_are_values_counters_and_sets(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        carts = client.namespace("carts")
        await carts.put_field(key, "name", b"alice")
        await carts.put_fields(key, {"city": b"Oslo", "zip": b"0150"})
        await carts.increment(key, 3, field="visits")
        await carts.add(key, "pear", "fig", field="items")
        entry = await carts.get(key)
        assert entry.policy == "map"
        assert entry.registers == {b"name": b"alice", b"city": b"Oslo", b"zip": b"0150"}
        assert entry.counters == {b"visits": 3} and entry.sets == {b"items": {b"pear", b"fig"}}
        assert await carts.get_field(key, "city") == b"Oslo" and await carts.get_field(key, "none") is None
        assert await carts.count(key, field="visits") == 3
        assert await carts.members(key, field="items") == {b"pear", b"fig"}


async def test_a_field_is_overwritten_and_deleted_alone(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        carts = client.namespace("carts")
        await carts.put_fields(key, {"a": b"1", "b": b"2"})
        await carts.put_field(key, "a", b"3")
        await carts.delete_field(key, "b")
        await carts.delete_field(key, "never")
        assert (await carts.get(key)).registers == {b"a": b"3"}
        await carts.delete(key)
        assert not (await carts.get(key)).found


async def test_an_operation_on_a_map_names_a_field_and_no_other_does(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        with pytest.raises(BadRequest, match="field"):
            await client.namespace("carts").increment(key)
        with pytest.raises(BadRequest, match="field"):
            await client.namespace("hits").increment(key, field="f")
        with pytest.raises(BadRequest):
            await client.namespace("carts").put_field(key, "", b"v")


# lww, wrong operations, scans.


async def test_lww_keeps_one_value_whatever_a_write_had_read(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        last = client.namespace("last")
        await last.put(key, b"1")
        await last.put(key, b"2", context=b"")
        assert (await last.get(key)).values == [b"2"]
        await last.delete(key)
        assert not (await last.get(key)).found


@pytest.mark.parametrize(
    ("namespace", "call"),
    [
        ("plain", lambda space, key: space.increment(key)),
        ("last", lambda space, key: space.increment(key)),
        ("tags", lambda space, key: space.increment(key)),
        ("plain", lambda space, key: space.add(key, "x")),
        ("hits", lambda space, key: space.put(key, b"v")),
        ("tags", lambda space, key: space.put(key, b"v")),
        ("carts", lambda space, key: space.put(key, b"v")),
        ("hits", lambda space, key: space.put_many({key: b"v"})),
        ("hits", lambda space, key: space.put_field(key, "f", b"v")),
    ],
)
async def test_an_operation_that_the_policy_has_not_is_refused_with_the_way_out(
    backend: Backend, key: str, namespace: str, call: Callable[[Any, str], Any]
) -> None:
    async with backend.client() as client:
        space = client.namespace(namespace)
        with pytest.raises((WrongMode, BatchError)) as refused:
            await call(space, key)
        error = next(iter(refused.value.errors.values())) if isinstance(refused.value, BatchError) else refused.value
        assert isinstance(error, WrongMode) and not error.retryable and not error.may_have_applied
        assert (repr(namespace) in error.message and "counter" in error.message) or "namespace" in error.message
        assert not (await space.get(key)).found, "nothing was written"


async def test_a_plain_value_is_no_counter(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"v")
        entry = await client.get(key)
        with pytest.raises(WrongMode, match="plain value, no counter"):
            _ = entry.number
        assert entry.policy == ""


async def test_a_scan_shows_what_each_key_holds(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        hits, tags, carts = (client.namespace(name) for name in ("hits", "tags", "carts"))
        for at in range(3):
            await hits.increment(f"{key}/{at}", at + 1)
            await tags.add(f"{key}/{at}", *[f"{at}", "x"])
            await carts.put_field(f"{key}/{at}", "f", b"%d" % at)
        await hits.delete(f"{key}/1")
        assert [entry.number async for entry in hits.scan(f"{key}/")] == [1, 3]
        assert [entry.members async for entry in tags.scan(f"{key}/")] == [{b"0", b"x"}, {b"1", b"x"}, {b"2", b"x"}]
        assert [entry.registers async for entry in carts.scan(f"{key}/")] == [{b"f": b"0"}, {b"f": b"1"}, {b"f": b"2"}]
