"""The parent's end of a client process: starts it with the environment both sides share, asks, and checks what it answers."""

from __future__ import annotations

import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvproto.options import EVENT_ENGINE_OFF
from tests.bench.processes import BenchError, read_line, start, stop

ANSWER_TIMEOUT_S = 120.0
FAILED_SHARE_MAX = 0.001
"""A closed loop in which more than this share of the operations failed is no measurement: failing is often fast."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement. Latencies are None where so many operations failed that the quantile is one of them."""

    rate_per_s: float
    answered: int
    errors: dict[str, int]
    p50_ms: float | None
    p99_ms: float | None
    p100_ms: float | None
    beside_calls: int = 0


class ClientProcess:
    """Started by `start_client`."""

    def __init__(self, process: Process, side: str, log: Path) -> None:
        self._process = process
        self._log = log
        self.side = side

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def load(self) -> None:
        """Loads every key. Raises `BenchError`."""
        await self._ask({"do": "load"})

    async def closed(self, **request: Any) -> Figures:
        """See client_process.Requests.closed. Raises `BenchError`, also when too many operations failed."""
        figures = Figures(**await self._ask({"do": "closed", **request}))
        failed = sum(figures.errors.values())
        if failed > FAILED_SHARE_MAX * (failed + figures.answered):
            raise BenchError(f"{self.side}: {failed} operations of {failed + figures.answered} failed: {figures.errors}")
        return figures

    async def paced(self, **request: Any) -> Figures:
        """See client_process.Requests.paced. Raises `BenchError`; failed operations are in the latencies, as endless ones."""
        return Figures(**await self._ask({"do": "paced", **request}))

    async def classify(self) -> tuple[int, int]:
        """How many of the probed keys were answered, and how many were not. Raises `BenchError`."""
        counts = await self._ask({"do": "classify"})
        return int(counts["fine"]), int(counts["slow"])

    async def fill(self, *, first: int, keys: int) -> float:
        """See client_process.Requests.fill. Raises `BenchError`."""
        return float(await self._ask({"do": "fill", "first": first, "keys": keys}))

    async def filled_mix(self, *, keys: int, in_flight: int, seconds: float) -> float:
        """See client_process.Requests.filled_mix. Raises `BenchError`, also when an operation failed."""
        return float(await self._ask({"do": "filled_mix", "keys": keys, "in_flight": in_flight, "seconds": seconds}))

    async def stop(self) -> None:
        """Ends the process, by its process id."""
        await stop(self._process)

    async def _ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None, "a client process is started with pipes"
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        what = f"{self.side}'s client process, asked to {request['do']}"
        answer = json.loads(await read_line(self._process, timeout_s=ANSWER_TIMEOUT_S, what=what, log=self._log))
        if "error" in answer:
            raise BenchError(f"{what}: {answer['error']}")
        return answer["result"]


async def start_client(side: str, addresses: Sequence[str], *, log: Path) -> ClientProcess:
    """Starts the client process of `side`, one of client_process.SIDES; stderr goes to `log`."""
    argv = [sys.executable, "-m", "tests.bench.client_process", side, *addresses]
    # It imports what we import, installed or not.
    experiments = "" if side == "ours-defaults" else EVENT_ENGINE_OFF
    environment = {"GRPC_EXPERIMENTS": experiments, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = await start(argv, log=log, environment=environment, talks=True)
    return ClientProcess(process, side, log)
