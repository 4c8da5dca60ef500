"""What every client promises (docs/client.md), whatever it talks to: the fake of `kvclient.testing`, an embedded store, three real
nodes; asyncio and blocking. Tests of one module share the stores, so each has keys of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import kvclient
from kvclient import BadRequest, BatchError, ClientClosed, Level, SiblingsError, TooLarge, UnknownNamespace, WrongMode
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore
from kvstore.config import ClusterConfig, NamespaceConfig
from tests.support.blocking import AnyClient, Awaited
from tests.support.nodes import Nodes

USERS = "users"
SETTINGS = ClusterConfig(
    id="contract",
    partitions=16,
    namespaces={"default": NamespaceConfig(), USERS: NamespaceConfig(id=2, name=USERS)},
)
EMBEDDED = "embedded::memory:contract?namespaces=users"


class Backend:
    """Makes clients of one store; `pass_time` lets what lives for so many seconds expire."""

    def __init__(self, make: Callable[..., AnyClient], pass_time: Callable[[float], Awaitable[None]]) -> None:
        self.client = make
        self.pass_time = pass_time


class NodesThread:
    """Three real nodes on a loop of their own."""

    def __init__(self, root: Path, settings: ClusterConfig = SETTINGS) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.nodes = Nodes(root, ("n1", "n2", "n3"), settings=settings)
        self.run(self.nodes.start())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.run(self.nodes.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesThread]:
    running = NodesThread(tmp_path_factory.mktemp("nodes"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    """A store in memory that lives as long as the module: opened once more than its users do."""
    with kvclient.open(EMBEDDED):
        yield EMBEDDED


@pytest.fixture(scope="module")
def fake() -> FakeStore:
    return FakeStore(namespaces=[USERS])


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
    url = request.getfixturevalue("embedded") if what == "embedded" else _seeds(request.getfixturevalue("nodes"))
    make = kind(lambda **o: kvclient.open_async(url, **o), lambda **o: kvclient.open(url, **o))
    return Backend(make, asyncio.sleep)


def _seeds(running: NodesThread) -> str:
    return ",".join(running.nodes.addresses.values())


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return str(request.node.name)


# Values.


async def test_what_was_put_is_got(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        done = await client.put(key, b"v")
        entry = await client.get(key)
        assert (entry.found, entry.value, entry.values) == (True, b"v", [b"v"])
        assert entry.key == key.encode() and entry.version == done.version and len(entry.version) == 40
        assert entry.expires_at is None
        assert (await client.get(key.encode())).value == b"v", "a str is its UTF-8"


async def test_what_was_never_put_is_not_found_and_that_is_no_error(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        entry = await client.get(key)
        assert (entry.found, entry.value, entry.values, entry.version) == (False, None, [], "")


async def test_the_empty_value_is_a_value(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"")
        assert (await client.get(key)).found and (await client.get(key)).value == b""


async def test_a_delete_removes_and_may_be_repeated(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"v")
        await client.delete(key)
        await client.delete(key)
        assert not (await client.get(key)).found
        await client.put(key, b"again")
        assert (await client.get(key)).value == b"again"


async def test_many_keys_at_once(backend: Backend, key: str) -> None:
    items = {f"{key}{number:03}": b"%d" % number for number in range(150)}
    async with backend.client() as client:
        assert set(await client.put_many(items)) == set(items)
        entries = await client.get_many([*items, f"{key}-missing"])
        assert {name: entry.value for name, entry in entries.items()} == items | {f"{key}-missing": None}
        await client.delete_many(list(items)[:50])
        assert sum(entry.found for entry in (await client.get_many(items)).values()) == 100
        assert await client.get_many([]) == {} and await client.put_many({}) == {}


async def test_namespaces_are_apart(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        users = client.namespace(USERS)
        await users.put(key, b"there")
        assert not (await client.get(key)).found
        assert (await client.namespace(USERS).get(key)).value == b"there"


# Siblings and contexts.


async def test_a_thousand_writes_in_a_row_never_show_a_sibling(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        for number in range(60):
            await client.put(key, b"%d" % number)
            if number % 7 == 0:
                await client.delete(key)
                assert (await client.get(key)).values == []
            else:
                assert (await client.get(key)).values == [b"%d" % number]


async def test_clients_in_turn_never_show_a_sibling(backend: Backend, key: str) -> None:
    async with backend.client() as one, backend.client() as two:
        for number in range(10):
            await (one, two)[number % 2].put(key, b"%d" % number)
        assert (await one.get(key)).values == [b"9"]


async def test_who_knows_nothing_makes_a_sibling(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"1")
        done = await client.put(key, b"2", context=b"")
        entry = await client.get(key)
        assert sorted(entry.values) == [b"1", b"2"] and done.siblings == 2
        with pytest.raises(SiblingsError) as raised:
            entry.value  # noqa: B018 - it raises
        assert raised.value.actual == 2


async def test_a_write_with_the_context_that_was_read_supersedes_every_sibling(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"1")
        await client.put(key, b"2", context=b"")
        entry = await client.get(key)
        await client.put(key, b"merged", context=entry.context)
        assert (await client.get(key)).value == b"merged"


async def test_a_context_spares_what_was_written_since_it_was_read(backend: Backend, key: str) -> None:
    async with backend.client() as client, backend.client() as other:
        await client.put(key, b"1")
        entry = await client.get(key)
        await other.put(key, b"theirs")
        await client.put(key, b"mine", context=entry.context)
        assert sorted((await client.get(key)).values) == [b"mine", b"theirs"]


async def test_a_delete_with_a_context_removes_what_was_read(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"1")
        entry = await client.get(key)
        await client.put(key, b"2", context=b"")
        await client.delete(key, context=entry.context)
        assert (await client.get(key)).value == b"2"


async def test_a_context_that_was_never_handed_out_is_refused(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        with pytest.raises(BadRequest) as raised:
            await client.put(key, b"v", context=b"\x01nonsense")
        assert not raised.value.may_have_applied and not (await client.get(key)).found


# Time.


async def test_a_touch_gives_another_time_to_live_and_changes_nothing_else(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        put = await client.put(key, b"v", ttl_s=600)
        done = await client.touch(key, 3600)
        assert done.found and done.siblings == 1 and done.version == put.version
        entry = await client.get(key)
        assert (entry.value, entry.version) == (b"v", put.version)
        assert entry.expires_at == pytest.approx(done.receipt.server_time_ms / 1000 + 3600, abs=30)
        assert (await client.touch(key, 0)).found
        assert (await client.get(key)).expires_at is None
        await client.touch(key, 0.2)
        await backend.pass_time(0.5)
        assert not (await client.get(key)).found


async def test_a_touch_finds_nothing_where_nothing_is_and_brings_nothing_back(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        assert not (await client.touch(key, 60)).found
        await client.put(key, b"v")
        await client.delete(key)
        assert not (await client.touch(key, 60)).found
        await client.put(key, b"v", ttl_s=0.1)
        await backend.pass_time(0.4)
        assert not (await client.touch(key, 60)).found
        assert not (await client.get(key)).found
        with pytest.raises(BadRequest):
            await client.touch(key, -1)


async def test_what_has_a_time_to_live_expires(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        done = await client.put(key, b"v", ttl_s=0.2)
        entry = await client.get(key)
        if entry.found:  # a machine may be slower than that
            assert entry.expires_at == pytest.approx(done.receipt.server_time_ms / 1000 + 0.2, abs=30)
        async with asyncio.timeout(20):
            while (await client.get(key)).found:
                await backend.pass_time(0.1)
        assert [entry.key async for entry in client.scan(key)] == []


async def test_a_time_to_live_of_zero_is_for_ever_and_a_later_write_may_have_another(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"v", ttl_s=0)
        assert (await client.get(key)).expires_at is None
        await client.put_many({key: b"w"}, ttl_s=3600)
        assert (await client.get(key)).expires_at is not None
        await client.put(key, b"x")
        assert (await client.get(key)).expires_at is None


# Scans.


async def test_a_scan_is_in_key_order_over_its_range(backend: Backend, key: str) -> None:
    names = [f"{key}/{number:03}" for number in range(250)]
    async with backend.client() as client:
        await client.put_many(dict.fromkeys(names, b"v"))
        await client.delete(names[7])
        there = [name.encode() for name in names if name != names[7]]

        async def keys(*args: Any, **options: Any) -> list[bytes]:
            return [entry.key async for entry in client.scan(*args, **options)]

        assert await keys(f"{key}/") == there
        assert await keys(f"{key}/", limit=3) == there[:3]
        assert await keys(f"{key}/", start=names[100], end=names[103]) == there[99:102]
        assert await keys(f"{key}/", after=names[248]) == there[-1:]
        assert await keys(f"{key}/", start=names[0], limit=240) == there[:240]


async def test_a_scan_that_is_left_early_harms_nothing(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put_many({f"{key}{number}": b"v" for number in range(30)})
        async for entry in client.scan(key):
            assert entry.value == b"v"
            break
        assert (await client.get(f"{key}1")).found


# Levels and receipts.


async def test_receipts_say_what_was_achieved(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        receipt = (await client.put(key, b"v", level="all")).receipt
        assert receipt.level is Level.ALL and receipt.needed == receipt.n == len(receipt.acknowledged)
        assert receipt.coordinator in receipt.acknowledged and receipt.n_asked == 3
        receipt = (await client.get(key, level=Level.ONE)).receipt
        assert (receipt.level, receipt.needed) == (Level.ONE, 1)
        receipt = (await client.get(key, r=1)).receipt
        assert (receipt.level, receipt.needed) == (Level.EXPLICIT, 1)
        majority = (await client.put(key, b"v", level="quorum")).receipt
        assert majority.needed == majority.n // 2 + 1
        assert (await client.put(key, b"v")).receipt.needed == majority.needed, "the preset's"


async def test_options_of_a_call_come_before_those_of_a_namespace_and_of_the_client(backend: Backend, key: str) -> None:
    async with backend.client(level="one") as client:
        assert (await client.put(key, b"v")).receipt.level is Level.ONE
        careful = client.with_options(level="all", timeout_s=3)
        assert careful.timeout_s == 3 and client.timeout_s == 5
        assert (await careful.get(key)).receipt.level is Level.ALL
        assert (await careful.get(key, level="quorum")).receipt.level is Level.QUORUM
        assert (await careful.get(key, r=1)).receipt.level is Level.EXPLICIT
        assert (await client.namespace("default", level="quorum").get(key)).receipt.level is Level.QUORUM
        assert (await client.get(key)).receipt.level is Level.ONE


# Errors.


@pytest.mark.parametrize("options", [{"r": 4}, {"r": -1}, {"level": "most"}, {"level": "one", "r": 2}, {"timeout_s": 0}])
async def test_options_that_cannot_be_are_refused(backend: Backend, key: str, options: dict[str, Any]) -> None:
    async with backend.client() as client:
        await client.put(key, b"v")
        with pytest.raises(BadRequest) as raised:
            await client.get(key, **options)
        assert not raised.value.retryable and not raised.value.may_have_applied
        with pytest.raises((BadRequest, BatchError)):
            await client.get_many([key], **options)


async def test_limits_are_told_with_their_numbers(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        for work in (client.put(key, bytes(1024 * 1024 + 1)), client.put(key * 4096, b"v")):
            with pytest.raises(TooLarge) as raised:
                await work
            assert raised.value.actual > raised.value.limit > 0
        await client.put(key, bytes(1024 * 1024))
        with pytest.raises(BadRequest):
            await client.get("")


async def test_an_unknown_namespace_is_told_with_the_known_ones(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        nowhere = client.namespace("nowhere")
        with pytest.raises(UnknownNamespace, match="default") as raised:
            await nowhere.put(key, b"v")
        assert raised.value.subject == "nowhere"
        with pytest.raises(BatchError) as many:
            await nowhere.get_many([key])
        assert isinstance(many.value.errors[key], UnknownNamespace) and not many.value.retryable
        with pytest.raises(UnknownNamespace):
            [entry async for entry in nowhere.scan()]


async def test_a_condition_needs_a_namespace_with_consensus(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        with pytest.raises(WrongMode, match="pc-ec"):
            await client.put(key, b"v", if_absent=True)
        with pytest.raises(WrongMode):
            await client.put(key, b"v", if_version="00" * 20)
        assert not (await client.get(key)).found


@pytest.mark.parametrize("level", ["one", "quorum", "atomic", None])
async def test_a_session_sees_its_writes_at_any_level_and_its_token_goes_on(backend: Backend, key: str, level: str | None) -> None:
    async with backend.client() as client:
        session = sessions(client.namespace(USERS))
        for number in range(5):
            await session.put(key, b"%d" % number)
            assert (await session.get(key, level=level)).value == b"%d" % number
            await session.delete(key)
            assert not (await session.get(key, level=level)).found
        await session.put(key, b"last", level="one")
        later = sessions(client.namespace(USERS), session.token)
        assert (await later.get_many([key], level=level))[key].value == b"last"
        assert not (await later.get(f"{key}-never met", level=level)).found
        assert [entry.value async for entry in later.scan(key)] == [b"last"] and len(later.token) < 1000


async def test_stand_ins_may_be_allowed_and_forbidden_and_a_healthy_cluster_needs_none(backend: Backend, key: str) -> None:
    async with backend.client(sloppy=False) as client:
        await client.put(key, b"v", level="quorum", sloppy=True)
        entry = await client.with_options(sloppy=True).get(key, sloppy=False)
        assert entry.value == b"v" and not entry.receipt.hinted and not entry.receipt.degraded


def sessions(space: Any, token: str | None = None) -> Any:
    return Awaited(space._inner.session(token)) if isinstance(space, Awaited) else space.session(token)


async def test_too_many_siblings_are_refused_and_can_still_be_merged(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        for number in range(100):
            await client.put(key, b"%d" % number, context=b"")
        with pytest.raises(TooLarge, match="context"):
            await client.put(key, b"one more", context=b"")
        entry = await client.get(key)
        assert len(entry.values) == len(entry.versions) == 100
        await client.put(key, b"merged", context=entry.context)
        assert (await client.get(key)).value == b"merged"


async def test_a_closed_client_says_so(backend: Backend, key: str) -> None:
    client = backend.client()
    async with client:
        await client.put(key, b"v")
    with pytest.raises(ClientClosed):
        await client.get(key)


# The cluster.


async def test_the_cluster_describes_itself(backend: Backend, key: str) -> None:
    async with backend.client() as client:
        await client.put(key, b"v")
        info = await _admin(client, "describe")
        rows = await _admin(client, "status")
        assert {row.node_id for row in rows} == {member.id for member in info.members}
        assert all(row.state == "alive" for row in rows) and sum(row.keys for row in rows) >= 1
        assert client.stats.operations >= 1


async def _admin(client: AnyClient, question: str) -> Any:
    asked = getattr(client.admin, question)()
    return await asked if hasattr(asked, "__await__") else asked
