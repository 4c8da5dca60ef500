"""The benchmark's operations on this store: its keys and values, the load before the run, and what each workload does.

What can be drawn at random before a run is drawn then: an operation indexes into it. `open_operations` runs in each process of a
run; `null_operations` is the same on a store that does nothing, which shows what the generator itself costs.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, Protocol

from kvclient.bench.distributions import make_chooser
from kvclient.bench.loop import Operation
from kvclient.bench.null_store import NullStore
from kvclient.bench.worker import Operations, Tally
from kvclient.bench.workloads import SCAN_KEYS_MAX, WORKLOADS
from kvclient.cli import connection
from kvproto.columns import Receipt
from kvproto.errors import RecordLost

FACTORY = "kvclient.bench.kv_operations:open_operations"
PREFIX = b"bench/"
LOAD_BATCH_KEYS = 1_000
LOAD_BATCH_BYTES = 1 << 20
LOAD_IN_FLIGHT = 4
LOAD_TIMEOUT_S = 30.0
VALUES_BYTES_MAX = 8 << 20  # of the values made ahead, at most 1,024
_TABLE = 1 << 16
_MIXER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: numbers of one caller, N apart, still meet every place of a table
_NULL_DRAWS = 1_024


class Answered(Protocol):
    """Whatever says what was achieved."""

    @property
    def receipt(self) -> Receipt:
        """That."""


class Store(Protocol):
    """What of a namespace is measured."""

    async def get(self, key: bytes, *args: Any, **options: Any) -> connection.Entry:
        """Reads one key."""

    async def put(self, key: bytes, value: bytes, *args: Any, **options: Any) -> Answered:
        """Stores one value."""

    def scan(self, *args: Any, **options: Any) -> AsyncIterator[connection.Entry]:
        """Yields keys in order."""


def bench_key(number: int) -> bytes:
    """The key of that number; all lie under one prefix, so that they are easily found and removed."""
    return b"bench/%012d" % number


def bench_values(sizes: Sequence[int], random: Random) -> list[bytes]:
    """A power of two of values that do not compress; `sizes`: smallest and largest, uniform between them."""
    value_bytes_min, value_bytes_max = sizes
    count = 1_024
    while count > 1 and count * value_bytes_max > VALUES_BYTES_MAX:
        count //= 2
    return [random.randbytes(random.randint(value_bytes_min, value_bytes_max)) for _ in range(count)]


async def load_keys(parameters: Mapping[str, Any], advance: Callable[[int, int], None] = lambda _done, _keys: None) -> int:
    """Puts every key once, a few batches in flight; `advance(keys, keys)` after each. Returns how many.

    Raises what the store raises.
    """
    keys: int = parameters["keys"]
    values = bench_values(parameters["value_bytes"], Random(f"bench/load/{parameters['seed']}"))
    step = max(1, min(LOAD_BATCH_KEYS, LOAD_BATCH_BYTES // (1 + parameters["value_bytes"][1])))
    begins = iter(range(0, keys, step))
    loaded = 0
    async with _connect(parameters) as client:
        namespace = client.namespace(parameters["namespace"])

        async def load() -> None:
            nonlocal loaded
            for begin in begins:
                numbers = range(begin, min(begin + step, keys))
                batch = {bench_key(number): values[number % len(values)] for number in numbers}
                await namespace.put_many(batch, timeout_s=LOAD_TIMEOUT_S)
                loaded += len(batch)
                advance(loaded, loaded)

        loaders = [asyncio.ensure_future(load()) for _ in range(LOAD_IN_FLIGHT)]
        try:
            await asyncio.gather(*loaders)
        finally:
            for loader in loaders:
                loader.cancel()
            await asyncio.gather(*loaders, return_exceptions=True)
    return loaded


def _connect(parameters: Mapping[str, Any]) -> AbstractAsyncContextManager[connection.Client]:
    return connection.connect(parameters["at"], timeout_s=parameters["timeout_s"], level=parameters["level"])


@asynccontextmanager
async def open_operations(parameters: Mapping[str, Any]) -> AsyncIterator[Operations]:
    """The workload's operations on an open client. `parameters`: at, namespace, timeout_s, level, workload, distribution, keys,
    value_bytes (smallest, largest), seed; process and processes where several share the run.

    A get that finds nothing raises `RecordLost`: every key was loaded.
    """
    async with _connect(parameters) as client:
        yield make_operations(client.namespace(parameters["namespace"]), parameters)


def null_operations(parameters: Mapping[str, Any]) -> Operations:
    """The same operations on a store that answers at once and does nothing."""
    return make_operations(NullStore(), parameters, draws=_NULL_DRAWS)


def make_operations(store: Store, parameters: Mapping[str, Any], **options: Any) -> Operations:
    """The workload's operations on `store`; `options` go to `make_chooser`. See `open_operations`."""
    process, processes, keys = parameters.get("process", 0), parameters.get("processes", 1), parameters["keys"]
    workload = WORKLOADS[parameters["workload"]]
    random = Random(f"bench/{parameters['seed']}/{process}")
    values = bench_values(parameters["value_bytes"], random)
    inserted: array[int] = array("q")
    choose = make_chooser(
        parameters["distribution"] or workload.distribution, keys=keys, random=random, inserted=inserted, **options
    )
    new_numbers = iter(range(keys + process, 1 << 62, processes)).__next__
    lengths = bytes(random.choices(range(1, SCAN_KEYS_MAX + 1), k=_TABLE))
    get, put, scan = store.get, store.put, store.scan
    tally = Tally()
    value_mask, mask, mixer = len(values) - 1, _TABLE - 1, _MIXER

    async def read(_i: int) -> None:
        key = b"bench/%012d" % choose()
        entry = await get(key)
        if not entry.found:
            raise RecordLost(f"{key.decode()} was loaded and is not found")
        if entry.receipt.degraded:
            tally.degraded += 1

    async def write(i: int) -> None:
        if (await put(b"bench/%012d" % choose(), values[i & value_mask])).receipt.degraded:
            tally.degraded += 1

    async def insert(i: int) -> None:
        number = new_numbers()
        if (await put(b"bench/%012d" % number, values[i & value_mask])).receipt.degraded:
            tally.degraded += 1
        inserted.append(number)

    async def read_range(i: int) -> None:
        found = False
        async for _entry in scan(prefix=PREFIX, start=b"bench/%012d" % choose(), limit=lengths[(i * mixer >> 24) & mask]):
            found = True
        if not found:
            raise RecordLost("a range that begins with a key that was loaded is empty")

    async def read_modify_write(i: int) -> None:
        key = b"bench/%012d" % choose()
        entry = await get(key)
        if not entry.found:
            raise RecordLost(f"{key.decode()} was loaded and is not found")
        stored = await put(key, values[i & value_mask], context=entry.context)
        if entry.receipt.degraded or stored.receipt.degraded:
            tally.degraded += 1

    by_kind: dict[str, Operation] = {"get": read, "put": write, "insert": insert, "scan": read_range, "rmw": read_modify_write}
    return _mixed(by_kind, workload.shares, random, tally)


def _mixed(by_kind: Mapping[str, Operation], shares: Mapping[str, float], random: Random, tally: Tally) -> Operations:
    """Operations of which number i is of a kind drawn with its share."""
    kinds: Sequence[str] = tuple(shares)
    if len(kinds) == 1:
        return Operations(by_kind[kinds[0]], (kinds[0],), lambda _i: kinds[0], tally)
    table = bytes(random.choices(range(len(kinds)), weights=list(shares.values()), k=_TABLE))
    operations = [by_kind[kind] for kind in kinds]
    mask, mixer = _TABLE - 1, _MIXER

    def op(i: int) -> Awaitable[object]:
        return operations[table[(i * mixer >> 40) & mask]](i)

    return Operations(op, tuple(kinds), lambda i: kinds[table[(i * mixer >> 40) & mask]], tally)
