"""How long a command takes from its start to its exit: `kv get` against a running cluster, beside importing grpc alone."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from tests.bench.catalogue import START_S_MAX
from tests.bench.lines import Pair, median
from tests.bench.ours import KV
from tests.bench.processes import BenchError

TIMES = 5
TIMEOUT_S = 30.0
KEY = "bench/start"


async def measure_start(addresses: Sequence[str]) -> tuple[Pair, Pair]:
    """Seconds of `kv get` beside `python -c 'import grpc'`, and beside the bar: medians of `TIMES` of each in turn.

    Raises `BenchError`.
    """
    kv = [str(KV), "--at", ",".join(addresses)]
    await _timed([*kv, "put", KEY, "value"])
    gets, imports = [], []
    for _ in range(TIMES):
        gets.append(await _timed([*kv, "get", KEY]))
        imports.append(await _timed([sys.executable, "-c", "import grpc"]))
    return Pair(median(gets), median(imports)), Pair(median(gets), START_S_MAX)


async def _timed(command: Sequence[str]) -> float:
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        code = await asyncio.wait_for(process.wait(), TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BenchError(f"start: {command[0].rpartition('/')[2]} took more than {TIMEOUT_S:.0f} s") from None
    if code:
        raise BenchError(f"start: {' '.join(command)[-80:]} ended with {code}")
    return time.perf_counter() - begin
