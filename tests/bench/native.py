"""The sides' own load tools: `benchmark` of etcd, `redis-benchmark`, and for kvstore `kv bench` in two processes.

They measure other things than the Python clients do, and NOTES says what. What cannot be had is not left out but noted.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.catalogue import NATIVE, NativeLoad
from tests.bench.lines import Line, Pair
from tests.bench.ours import KV
from tests.bench.processes import BenchError
from tests.bench.throughput import Side
from tests.bench.workload import KEYS, VALUE_BYTES

KEY_BYTES = 14
PROCESSES = 2
GRACE_S = 60.0
CONNECTIONS = 8
"""Of etcd's tool: its clients share so many."""

NOTES = {
    "etcd": f"etcd's benchmark: {CONNECTIONS} connections; its gets are of one key, over and over",
    "redis": "redis-benchmark on the replicated Redis: appendfsync always, but no WAIT, which it cannot send",
    "redis-alone": "redis-benchmark on the single Redis; beside many keys with pipelines of 64 on 16 connections",
}
OURS = f"kv bench: {PROCESSES} processes"


@dataclass(slots=True)
class NativeTools:
    """The tools that were found, and the sides they are used on. `folder` is for reports."""

    sides: Mapping[str, Side]
    folder: Path
    etcd: Path | None = None
    redis: Path | None = None
    _filled: bool = False

    async def measure_round(self, lines: Iterable[Line], *, seconds: float) -> tuple[dict[str, Pair], list[str]]:
        """A pair for each line that has a native load, and what could not be measured. `kv bench` runs once for a load."""
        pairs: dict[str, Pair] = {}
        problems: list[str] = []
        ours: dict[tuple[str, int], float] = {}
        for line in lines:
            load = NATIVE.get(line.name)
            if load is None:
                continue
            theirs = await self._measured(self._theirs(load, seconds=seconds), problems)
            same = (load.kind, load.in_flight)
            if load.pipeline == 1 and same not in ours:
                ours[same] = await self._measured(self._ours(load, seconds=seconds), problems)
            pairs[line.name] = Pair(ours[same] if load.pipeline == 1 else math.nan, theirs)
        return pairs, problems

    async def _measured(self, measurement: Awaitable[float], problems: list[str]) -> float:
        try:
            return await measurement
        except BenchError as problem:
            problems.append(str(problem))
            return math.nan

    async def _theirs(self, load: NativeLoad, *, seconds: float) -> float:
        tool = self.etcd if load.side == "etcd" else self.redis
        if tool is None or load.side not in self.sides:
            return math.nan  # that it is missing was noted when it was looked for
        addresses, operations = self.sides[load.side].addresses, int(load.operations_per_s * seconds)
        if load.side == "etcd":
            return await run_etcd_benchmark(tool, addresses, load, operations=operations)
        return await run_redis_benchmark(tool, addresses[0], load, operations=operations)

    async def _ours(self, load: NativeLoad, *, seconds: float) -> float:
        if "ours" not in self.sides:
            return math.nan
        fill = load.kind == "get" and not self._filled
        self._filled = self._filled or fill
        report = self.folder / "kv-bench.json"
        return await run_kv_bench(self.sides["ours"].addresses, load, seconds=seconds, report=report, fill=fill)


async def run_kv_bench(addresses: Sequence[str], load: NativeLoad, *, seconds: float, report: Path, fill: bool) -> float:
    """Operations a second of `kv bench` under a load without pipelines; `fill` puts every key before gets. Raises `BenchError`."""
    command = [
        *(
            str(KV),
            "--at",
            ",".join(addresses),
            "--level",
            "quorum",
            "bench",
            "run",
            "--workload",
            load.kind,
            "--json",
            str(report),
        ),
        *("--in-flight", str(load.in_flight), "--seconds", f"{seconds:g}", "--warm-up", "0.7", "--keys", str(KEYS)),
        *("--value-bytes", str(VALUE_BYTES), "--processes", str(PROCESSES), "--load" if fill else "--no-load"),
    ]
    await _run("kv bench", command, timeout_s=seconds + GRACE_S)
    return float(json.loads(report.read_text())["ops_per_s"])


async def run_etcd_benchmark(tool: Path, addresses: Sequence[str], load: NativeLoad, *, operations: int) -> float:
    """Operations a second of etcd's own tool, over `operations` of them. Raises `BenchError`."""
    everywhere = ("--endpoints", ",".join(addresses), "--clients", str(load.in_flight), "--conns", str(CONNECTIONS))
    what: tuple[str, ...]
    if load.kind == "put":
        what = ("put", "--key-size", str(KEY_BYTES), "--val-size", str(VALUE_BYTES), "--key-space-size", str(KEYS))
    else:
        what = ("range", "bench/00000042", "--consistency", "l")
    text = await _run("etcd's benchmark", [str(tool), *what, *everywhere, "--total", str(operations)], timeout_s=GRACE_S)
    return read_etcd_rate(text)


async def run_redis_benchmark(tool: Path, address: str, load: NativeLoad, *, operations: int) -> float:
    """Operations a second of redis-benchmark, over `operations` of them. Raises `BenchError`."""
    host, _, port = address.rpartition(":")
    command = [
        *(str(tool), "-h", host, "-p", port, "-t", "set" if load.kind == "put" else "get", "-n", str(operations), "--csv"),
        *("-c", str(load.in_flight), "-P", str(load.pipeline), "-r", str(KEYS), "-d", str(VALUE_BYTES)),
    ]
    return read_redis_rate(await _run("redis-benchmark", command, timeout_s=GRACE_S))


def read_etcd_rate(text: str) -> float:
    """From the tool's summary. Raises `BenchError`."""
    if "Error distribution" in text:
        raise BenchError("etcd's benchmark: some of its operations failed")
    found = re.search(r"Requests/sec:\s*([\d.]+)", text)
    if not found:
        raise BenchError(f"etcd's benchmark says nothing of a rate: {text[-200:]!r}")
    return float(found[1])


def read_redis_rate(text: str) -> float:
    """From the last line of CSV, whose second column it is. Raises `BenchError`."""
    columns = text.strip().splitlines()[-1:] and text.strip().splitlines()[-1].split(",")
    try:
        return float(columns[1].strip('"'))
    except (IndexError, ValueError):
        raise BenchError(f"redis-benchmark says nothing of a rate: {text[-200:]!r}") from None


async def _run(what: str, command: Sequence[str], *, timeout_s: float) -> str:
    """What it printed. Raises `BenchError` when it ends otherwise than with 0, or not in time."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise BenchError(f"{what}: not done within {timeout_s:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = err.decode(errors="replace").strip().splitlines()[-1:] or [""]
        raise BenchError(f"{what}: ended with {process.returncode} ({said[0][-300:]})")
    return out.decode(errors="replace")
