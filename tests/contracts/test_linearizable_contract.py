"""What every client promises of linearizable namespaces (docs/client.md, "Conditions"): conditions, counters, locks, levels.

The fake of `kvclient.testing` is held to it, asyncio and blocking, and so are an embedded store and three real nodes as soon as
their configuration knows the preset: `REAL` asks it. Tests of one module share the stores, so each has keys of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import kvclient
from kvclient import (
    BadRequest,
    ConditionFailed,
    DeadlineExceeded,
    Level,
    LockNotAcquired,
    UserError,
    WrongMode,
    bounded,
)
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore
from kvstore.config import ClusterConfig, NamespaceConfig
from kvstore.config.loading import PRESETS
from tests.contracts.test_client_contract import Backend, NodesThread
from tests.support.blocking import AnyClient, Awaited
from tests.support.waiting import until

ORDERS = "orders"
REAL = "pc-ec" in PRESETS
BACKENDS = ["fake", "fake, blocking"] + ["embedded", "embedded, blocking", "nodes", "nodes, blocking"] * REAL
EMBEDDED = f"embedded::memory:linearizable?namespaces={ORDERS}:linearizable,hits:counter"
Space = Any


def settings() -> ClusterConfig:
    namespaces = {
        "default": NamespaceConfig(),
        ORDERS: NamespaceConfig(id=2, name=ORDERS, mode="linearizable", preset="pc-ec"),
        "hits": NamespaceConfig(id=3, name="hits", policy="counter"),
    }
    return ClusterConfig(id="linearizable", partitions=16, namespaces=namespaces)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodesThread]:
    running = NodesThread(tmp_path_factory.mktemp("nodes"), settings())
    yield running
    running.close()


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    with kvclient.open(EMBEDDED):
        yield EMBEDDED


@pytest.fixture(scope="module")
def fake() -> FakeStore:
    return FakeStore(namespaces={ORDERS: "pc-ec", "hits": "counter"})


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    what, _, how = request.param.partition(", ")

    def kind(make_async: Callable[..., Any], make_blocking: Callable[..., Any]) -> Callable[..., AnyClient]:
        return make_async if not how else lambda **options: Awaited(make_blocking(**options))

    if what == "fake":
        store: FakeStore = request.getfixturevalue("fake")

        async def advance(seconds: float) -> None:
            store.clock.advance(seconds)

        return Backend(kind(lambda **o: FakeAsyncClient(store=store, **o), lambda **o: FakeClient(store=store, **o)), advance)
    seeds = request.getfixturevalue("embedded" if what == "embedded" else "nodes")
    url = seeds if isinstance(seeds, str) else ",".join(seeds.nodes.addresses.values())
    return Backend(kind(lambda **o: kvclient.open_async(url, **o), lambda **o: kvclient.open(url, **o)), asyncio.sleep)


@pytest.fixture
async def client(backend: Backend) -> AsyncIterator[AnyClient]:
    async with backend.client() as client:
        yield client


@pytest.fixture
async def orders(client: AnyClient) -> Space:
    return client.namespace(ORDERS)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return str(request.node.name)


# Values.


async def test_what_was_put_is_got_and_deleted(orders: Space, key: str) -> None:
    done = await orders.put(key, b"v")
    entry = await orders.get(key)
    assert (entry.value, entry.version, entry.expires_at) == (b"v", done.version, None) and len(entry.version) == 40
    await orders.delete(key)
    await orders.delete(key)
    assert not (await orders.get(key)).found


async def test_versions_of_a_key_grow_as_text_with_every_write(orders: Space, key: str) -> None:
    versions = [(await orders.put(key, b"%d" % number)).version for number in range(5)]
    versions.append((await orders.delete(key)).version)
    versions.append((await orders.put(key, b"again")).version)
    assert versions == sorted(set(versions))


async def test_concurrent_writers_never_leave_siblings(orders: Space, key: str) -> None:
    written = await asyncio.gather(*[orders.put(key, b"%d" % number) for number in range(20)])
    entry = await orders.get(key)
    assert len(entry.values) == 1 and entry.version == max(done.version for done in written)


async def test_many_keys_at_once_and_a_scan_in_order(orders: Space, key: str) -> None:
    items = {f"{key}{number:03}": b"%d" % number for number in range(150)}
    await orders.put_many(items)
    assert {name: entry.value for name, entry in (await orders.get_many(items)).items()} == items
    await orders.delete_many(list(items)[:100])
    rest = [(entry.key.decode(), entry.value) async for entry in orders.scan(f"{key}")]
    assert rest == list(items.items())[100:]


async def test_what_has_expired_is_absent_and_a_touch_gives_it_longer(backend: Backend, orders: Space, key: str) -> None:
    put = await orders.put(key, b"v", ttl_s=0.4)
    await orders.put(f"{key}-touched", b"v", ttl_s=0.4)
    touched = await orders.touch(f"{key}-touched", 60)
    assert touched.found and (await orders.get(f"{key}-touched")).version == touched.version
    await backend.pass_time(0.5)
    assert not (await orders.get(key)).found and (await orders.get(f"{key}-touched")).value == b"v"
    assert not (await orders.touch(key, 60)).found
    assert (await orders.put(key, b"w", if_absent=True)).version > put.version


# Conditions.


async def test_only_one_of_many_creates_a_key(orders: Space, key: str) -> None:
    told = await asyncio.gather(*[orders.put(key, b"%d" % number, if_absent=True) for number in range(20)], return_exceptions=True)
    won = [number for number, one in enumerate(told) if not isinstance(one, BaseException)]
    assert len(won) == 1 and (await orders.get(key)).value == b"%d" % won[0]
    lost = [one for one in told if isinstance(one, ConditionFailed)]
    assert len(lost) == 19 and all(one.entry.value == b"%d" % won[0] for one in lost)


async def test_a_failed_condition_is_certain_and_has_what_is_there(orders: Space, key: str) -> None:
    done = await orders.put(key, b"there", ttl_s=60)
    with pytest.raises(ConditionFailed) as raised:
        await orders.put(key, b"mine", if_absent=True)
    error = raised.value
    assert not error.may_have_applied and not error.retryable and isinstance(error, UserError)
    assert (error.entry.key, error.entry.value, error.entry.version) == (key.encode(), b"there", done.version)
    assert error.entry.expires_at is not None
    assert (await orders.get(key)).version == done.version


async def test_a_version_is_a_condition_of_put_delete_and_touch(orders: Space, key: str) -> None:
    first = await orders.put(key, b"1")
    second = await orders.put(key, b"2", if_version=first.version)
    for late in (
        orders.put(key, b"3", if_version=first.version),
        orders.delete(key, if_version=first.version),
        orders.touch(key, 60, if_version=first.version),
    ):
        with pytest.raises(ConditionFailed) as raised:
            await late
        assert raised.value.entry.version == second.version
    assert (await orders.touch(key, 60, if_version=second.version)).version == second.version, "a touch is no new version"
    await orders.delete(key, if_version=second.version)
    with pytest.raises(ConditionFailed) as gone:
        await orders.put(key, b"4", if_version=second.version)
    assert not gone.value.entry.found and gone.value.entry.value is None


async def test_compare_and_set_takes_one_value_for_another(orders: Space, key: str) -> None:
    await orders.compare_and_set(key, None, b"1")
    done = await orders.compare_and_set(key, b"1", b"2")
    assert (await orders.get(key)).version == done.version
    for old in (None, b"1", b""):
        with pytest.raises(ConditionFailed) as raised:
            await orders.compare_and_set(key, old, b"3")
        assert raised.value.entry.value == b"2"
    with pytest.raises(ConditionFailed) as missing:
        await orders.compare_and_set(f"{key}-missing", b"x", b"3")
    assert not missing.value.entry.found


async def test_the_empty_value_is_no_absent_one(orders: Space, key: str) -> None:
    await orders.compare_and_set(key, None, b"")
    with pytest.raises(ConditionFailed):
        await orders.put(key, b"v", if_absent=True)
    await orders.compare_and_set(key, b"", b"v", ttl_s=60)
    assert (await orders.get(key)).expires_at is not None


async def test_compare_and_set_loses_no_update(orders: Space, key: str) -> None:
    await orders.put(key, b"0")

    async def add_one() -> None:
        while True:
            old = (await orders.get(key)).value
            try:
                await orders.compare_and_set(key, old, b"%d" % (int(old) + 1))
            except ConditionFailed:
                continue
            return

    await asyncio.gather(*[add_one() for _ in range(8)])
    assert (await orders.get(key)).value == b"8"


async def test_what_is_no_condition_is_refused_before_it_is_sent(orders: Space, key: str) -> None:
    with pytest.raises(BadRequest, match="one of them"):
        await orders.put(key, b"v", if_absent=True, if_version="00" * 20)
    for version in ("", "00", "zz" * 20, b"00" * 20):
        with pytest.raises(BadRequest, match="40 hex digits"):
            await orders.put(key, b"v", if_version=version)
    with pytest.raises(BadRequest):
        await orders.compare_and_set(key, "text", b"v")
    with pytest.raises(BadRequest, match="nothing is between"):
        await orders.increment(key, min=2, max=1)


async def test_a_context_is_refused_where_there_are_no_siblings(orders: Space, key: str) -> None:
    """Silently ignored it would lose the update that it was given to protect."""
    for context in (b"", b"\x01\x00\x00"):
        with pytest.raises(WrongMode, match="if_version"):
            await orders.put(key, b"v", context=context)
    assert not (await orders.get(key)).found


# Counters.


async def test_increments_are_counted_once_and_each_sees_its_own_number(orders: Space, key: str) -> None:
    told = await asyncio.gather(*[orders.increment(key) for _ in range(20)])
    assert sorted(done.value for done in told) == list(range(1, 21))
    assert (await orders.get(key)).value == b"20"
    assert (await orders.decrement(key, 5)).value == 15
    assert {name: done.value for name, done in (await orders.increment_many({key: 2, f"{key}-b": -3})).items()} == {
        key: 17,
        f"{key}-b": -3,
    }


async def test_bounds_are_kept(orders: Space, key: str) -> None:
    assert (await orders.increment(key, 3, max=3)).value == 3
    with pytest.raises(ConditionFailed) as raised:
        await orders.increment(key, max=3)
    assert raised.value.entry.value == b"3"
    assert (await orders.decrement(key, 3, min=0)).value == 0
    with pytest.raises(ConditionFailed):
        await orders.decrement(key, min=0)
    with pytest.raises(ConditionFailed) as absent:
        await orders.increment(f"{key}-new", 5, min=6)
    assert not absent.value.entry.found


async def test_of_a_stock_no_more_is_sold_than_there_is(orders: Space, key: str) -> None:
    await orders.put(key, b"5")
    told = await asyncio.gather(*[orders.decrement(key, min=0) for _ in range(20)], return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in told) == 5
    assert (await orders.get(key)).value == b"0"


async def test_what_holds_no_number_cannot_be_incremented(orders: Space, key: str) -> None:
    await orders.put(key, b"pear")
    with pytest.raises(UserError) as raised:
        await orders.increment(key)
    assert not raised.value.may_have_applied and (await orders.get(key)).value == b"pear"


# Modes and levels.


async def test_a_condition_in_an_eventual_namespace_names_one_that_has_it(client: AnyClient, key: str) -> None:
    for refused in (
        client.put(key, b"v", if_absent=True),
        client.compare_and_set(key, None, b"v"),
        client.delete(key, if_version="00" * 20),
        client.touch(key, 5, if_version="00" * 20),
        client.namespace("hits").increment(key, max=5),
    ):
        with pytest.raises(WrongMode, match=f"namespace '{ORDERS}' is one"):
            await refused
    with pytest.raises(WrongMode):
        await (client.lock(key).acquire() if not isinstance(client, Awaited) else asyncio.to_thread(_take, client, key))
    assert not (await client.get(key)).found


def _take(client: Awaited, key: str) -> None:
    client._inner.lock(key).acquire()


@pytest.mark.parametrize("level", ["linearizable", "timeline", Level.LINEARIZABLE, bounded(1000)])
async def test_reads_have_the_levels_of_linearizable_namespaces(orders: Space, key: str, level: Any) -> None:
    await orders.put(key, b"v")
    await until_async(lambda: _reads(orders, key, level))


async def _reads(orders: Space, key: str, level: Any) -> bool:
    return bool((await orders.get(key, level=level)).value == b"v")


async def until_async(condition: Callable[[], Any]) -> None:
    """A stale level may lag, for less than its bound."""
    deadline_s = asyncio.get_running_loop().time() + 10
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline_s
        await asyncio.sleep(0.01)


async def test_a_level_of_the_other_mode_is_an_error_and_no_downgrade(client: AnyClient, orders: Space, key: str) -> None:
    eventual: list[dict[str, Any]] = [{"level": "one"}, {"level": "quorum"}, {"level": "atomic"}, {"r": 2}, {"sloppy": True}]
    for options in eventual:
        with pytest.raises(WrongMode, match="linearizable"):
            await orders.get(key, **options)
    fresh: list[dict[str, Any]] = [{"level": "linearizable"}, {"level": "timeline"}, {"level": "bounded", "bound_ms": 50}]
    for options in [*fresh, {"bound_ms": 50}]:
        with pytest.raises(WrongMode, match="eventual"):
            await client.get(key, **options)
    with pytest.raises(BadRequest, match="is of reads"):
        await orders.put(key, b"v", level="timeline")


async def test_a_namespace_whose_reads_are_stale_writes_by_consensus(orders: Space, key: str) -> None:
    stale = orders.with_options(level="bounded", bound_ms=500)
    done = await stale.put(key, b"v", if_absent=True)
    assert (await orders.get(key)).version == done.version
    await until_async(lambda: _reads(stale, key, None))


async def test_receipts_say_that_consensus_is_durable(orders: Space, key: str) -> None:
    receipt = (await orders.put(key, b"v")).receipt
    assert receipt.durable and receipt.needed == receipt.n // 2 + 1 and not receipt.degraded


# Sessions.


@pytest.mark.parametrize("level", [None, "timeline"])
async def test_a_session_sees_its_writes_at_any_level_and_its_token_goes_on(
    client: AnyClient, orders: Space, key: str, level: Any
) -> None:
    """Also what it deleted stays deleted, and what others made of the key is no older than what it saw."""
    session = sessions(orders)
    for number in range(5):
        await session.put(key, b"%d" % number)
        assert (await session.get(key, level=level)).value == b"%d" % number
        await session.delete(key)
        assert not (await session.get(key, level=level)).found
    await session.increment(key, 7)
    later = sessions(client.namespace(ORDERS), session.token)
    assert (await later.get_many([key], level=level))[key].value == b"7"
    with pytest.raises(ConditionFailed):
        await later.compare_and_set(key, b"0", b"1")
    assert later.token == session.token and len(later.token) < 500


def sessions(space: Space, token: str | None = None) -> Any:
    return Awaited(space._inner.session(token)) if isinstance(space, Awaited) else space.session(token)


# Locks.


async def test_a_lock_has_one_holder_and_each_has_a_greater_token(backend: Backend, client: AnyClient, key: str) -> None:
    tokens: list[int] = []
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with taken(client.namespace(ORDERS), key, timeout_s=20) as lease:
            inside += 1
            assert inside == 1
            tokens.append(lease.token)
            await asyncio.sleep(0)
            assert not lease.lost.is_set()
            inside -= 1

    await asyncio.gather(*[work() for _ in range(4)])
    assert tokens == sorted(set(tokens)) and len(tokens) == 4
    assert not (await client.namespace(ORDERS).get(key)).found, "it was given back"


async def test_a_lock_that_is_held_is_waited_for_and_then_given_up(orders: Space, key: str) -> None:
    async with taken(orders, key):
        with pytest.raises(LockNotAcquired) as raised:
            async with taken(orders, key, timeout_s=1.0):
                raise AssertionError("two holders")
        assert raised.value.retryable and not raised.value.may_have_applied and raised.value.subject == key
    async with taken(orders, key, timeout_s=10):
        pass


async def test_a_holder_whose_record_is_gone_learns_that_it_lost_the_lease(orders: Space, key: str) -> None:
    async with taken(orders, key, lease_s=0.3) as lease:
        await orders.delete(key)
        await until(lease.lost.is_set, timeout_s=10)
        other = await orders.put(key, b"somebody else", if_absent=True)
    assert (await orders.get(key)).version == other.version, "who lost a lock does not take it from others"


async def test_a_holder_that_dies_is_done_with_after_its_lease(backend: Backend, orders: Space, key: str) -> None:
    await orders.put(key, b"a holder that died", ttl_s=2.0, if_absent=True)
    with pytest.raises((LockNotAcquired, DeadlineExceeded)):  # the latter on a busy machine: nobody was heard in time
        async with taken(orders, key, timeout_s=0.3):
            pass
    await backend.pass_time(2.1)
    async with taken(orders, key, timeout_s=5) as lease:
        assert lease.token > 0


class taken:  # noqa: N801 - reads as the statement it stands for
    """`async with space.lock(…)`, of either client."""

    def __init__(self, space: Space, name: str, **options: Any) -> None:
        is_blocking = isinstance(space, Awaited)
        lock = (space._inner if is_blocking else space).lock(name, **options)
        self._call = asyncio.to_thread if is_blocking else _await
        self._lock = lock

    async def __aenter__(self) -> Any:
        return await self._call(self._lock.acquire)

    async def __aexit__(self, *_: object) -> None:
        await self._call(self._lock.release)


async def _await(method: Callable[[], Any]) -> Any:
    return await method()
