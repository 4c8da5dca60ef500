"""The benchmark's operations on this store: its keys and values, the load before the run, and put, get and mix.

Keys are uniform over the key space and the mix is half reads, half writes (YCSB's workload A but for the distribution). What is
chosen at random is chosen before the run: an operation only indexes into it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any

from kvclient.bench.worker import Operations
from kvclient.cli import connection
from kvproto.errors import RecordLost

FACTORY = "kvclient.bench.kv_operations:open_operations"
WORKLOADS: Mapping[str, float] = {"put": 0.0, "get": 1.0, "mix": 0.5}  # share of reads
LOAD_BATCH_KEYS = 1_000
LOAD_TIMEOUT_S = 30.0
_CHOICES = 1 << 16
_MIXER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: numbers of one caller, N apart, still meet every choice


def bench_key(number: int) -> bytes:
    """The key of that number; all lie under one prefix, so that they are easily found and removed."""
    return b"bench/%012d" % number


def bench_value(value_bytes: int, seed: int = 0) -> bytes:
    """A value that does not compress, the same for the same seed."""
    return Random(f"bench/{seed}").randbytes(value_bytes)


async def load_keys(parameters: Mapping[str, Any]) -> int:
    """Puts every key once; returns how many. Raises what the store raises."""
    value = bench_value(parameters["value_bytes"])
    async with _connect(parameters) as client:
        namespace = client.namespace(parameters["namespace"])
        for begin in range(0, parameters["keys"], LOAD_BATCH_KEYS):
            batch = range(begin, min(begin + LOAD_BATCH_KEYS, parameters["keys"]))
            await namespace.put_many({bench_key(number): value for number in batch}, timeout_s=LOAD_TIMEOUT_S)
    return int(parameters["keys"])


def _connect(parameters: Mapping[str, Any]) -> AbstractAsyncContextManager[connection.Client]:
    return connection.connect(parameters["at"], timeout_s=parameters["timeout_s"], level=parameters["level"])


@asynccontextmanager
async def open_operations(parameters: Mapping[str, Any]) -> AsyncIterator[Operations]:
    """The workload's operation on an open client. `parameters`: at, namespace, timeout_s, level, workload, keys, value_bytes, seed.

    A get that finds nothing raises `RecordLost`: every key was loaded.
    """
    random = Random(parameters["seed"])
    chosen = [bench_key(random.randrange(parameters["keys"])) for _ in range(_CHOICES)]
    reads = WORKLOADS[parameters["workload"]]
    is_read = bytes(random.random() < reads for _ in range(_CHOICES))
    value = bench_value(parameters["value_bytes"], parameters["seed"])
    mask, mixer = _CHOICES - 1, _MIXER

    async with _connect(parameters) as client:
        namespace = client.namespace(parameters["namespace"])
        get, put = namespace.get, namespace.put

        async def read(i: int) -> None:
            key = chosen[(i * mixer >> 32) & mask]
            entry = await get(key)
            if not entry.found:
                raise RecordLost(f"{key.decode()} was loaded and is not found")

        async def write(i: int) -> None:
            await put(chosen[(i * mixer >> 32) & mask], value)

        async def either(i: int) -> None:
            await (read(i) if is_read[(i * mixer >> 40) & mask] else write(i))

        def kind_of(i: int) -> str:
            return "get" if is_read[(i * mixer >> 40) & mask] else "put"

        kinds = ("get", "put") if 0 < reads < 1 else (parameters["workload"],)
        yield Operations({"get": read, "put": write}.get(parameters["workload"], either), kinds, kind_of)
