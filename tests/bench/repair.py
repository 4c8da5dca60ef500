"""What repair costs, on three nodes of this machine that keep no hints, so that hash trees find everything:

    python -m tests.bench.repair [--keys 100000] [--seconds 5]

1. Every key is stored; then as many are stored anew while one node is down. It comes back: how long until all trees are equal, and
   what clients that go on meanwhile are still answered, against what they were before.
2. Every tree is compared once more, now equal: how long that takes, and what travels.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from kvclient import AsyncClient
from kvclient.errors import KvError
from kvproto.columns import RepairProgress
from kvstore.core.merkle.questions import Roots
from kvstore.transport.compare_codec import encode_question
from tests.bench.processes import free_ports, read_line, start, stop

NODES = 3
VALUE_BYTES = 100
IN_FLIGHT = 64
HOT_KEYS = 1000
BATCH = 500
READY_TIMEOUT_S = 60.0
CONVERGED_S_MAX = 300.0
PARTITIONS = 256


@dataclass(slots=True)
class Figures:
    """See the module."""

    keys: int
    converged_s: float
    foreground_share: float
    compared_s: float
    compared_bytes: int

    def lines(self) -> list[str]:
        """For people."""
        compared = f"{PARTITIONS} equal trees a peer, {NODES - 1} peers: {self.compared_s * 1000:.0f} ms"
        return [
            f"{self.keys:,} divergent keys converged in {self.converged_s:.1f} s; clients kept {self.foreground_share:.0%}",
            f"{compared}, {self.compared_bytes:,} bytes a peer",
        ]


class Nodes:
    """Three processes below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ports = free_ports(NODES)
        self.addresses = [f"127.0.0.1:{port}" for port in ports]
        self.running: dict[int, Process] = {}

    async def start(self, at: int) -> None:
        """Node `at`; returns when it is ready. Raises `BenchError`."""
        peers = "\n".join(f'n{other} = "{to}"' for other, to in enumerate(self.addresses) if other != at)
        config = self._folder / f"n{at}.toml"
        config.write_text(
            f'node_id = "n{at}"\nlisten = "{self.addresses[at]}"\ndata = "n{at}"\n[limits]\nhints_max = 0\n'
            f"repair_interval_s = 1.0\n[peers]\n{peers}\n"
        )
        log = self._folder / f"n{at}.log"
        command = [sys.executable, "-P", "-m", "kvstore.commands.serve", "--config", str(config), "-o", "json"]
        self.running[at] = await start(command, log=log, talks=True)
        await read_line(self.running[at], timeout_s=READY_TIMEOUT_S, what=f"n{at}", log=log)

    async def stop(self, at: int) -> None:
        """The clean end of node `at`."""
        await stop(self.running.pop(at))

    async def stop_all(self) -> None:
        """Every one that runs."""
        for at in list(self.running):
            await self.stop(at)


class Foreground:
    """Clients that read and write a few keys; `answered` counts."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.answered = 0
        self._tasks = [asyncio.ensure_future(self._work(number)) for number in range(IN_FLIGHT)]

    async def _work(self, number: int) -> None:
        while True:
            key = f"hot{number * 17 % HOT_KEYS}"
            number += IN_FLIGHT
            try:
                await (self._client.put(key, b"v" * VALUE_BYTES) if number % 2 else self._client.get(key))
                self.answered += 1
            except KvError:
                await asyncio.sleep(0.01)

    async def rate(self, seconds: float) -> float:
        """Operations a second over the next `seconds`."""
        before = self.answered
        await asyncio.sleep(seconds)
        return (self.answered - before) / seconds

    async def stop(self) -> None:
        """Ends all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def fill(client: AsyncClient, keys: int, value: bytes) -> None:
    """Stores every key."""
    room = asyncio.Semaphore(8)

    async def some(first: int) -> None:
        async with room:
            await client.put_many({f"key{at}": value for at in range(first, min(keys, first + BATCH))}, timeout_s=60.0)

    await asyncio.gather(*(some(first) for first in range(0, keys, BATCH)))


async def measure(folder: Path, *, keys: int, seconds: float) -> Figures:
    """Runs it all with data below `folder`. Raises `BenchError`."""
    nodes = Nodes(folder)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(nodes.stop_all)
        await asyncio.gather(*(nodes.start(at) for at in range(NODES)))
        client = await stack.enter_async_context(AsyncClient(",".join(nodes.addresses), timeout_s=10.0))
        await fill(client, keys, b"a" * VALUE_BYTES)
        await nodes.stop(2)
        await fill(client, keys, b"b" * VALUE_BYTES)
        await nodes.start(2)
        foreground = Foreground(client)
        stack.push_async_callback(foreground.stop)
        converged_s, during = await converge(client, nodes.addresses[2], keys, foreground)
        await asyncio.sleep(2.0)
        after = statistics.median([await foreground.rate(seconds / 3) for _ in range(3)])
        await foreground.stop()
        await asyncio.sleep(3.0)
        rows: Sequence[RepairProgress] = await client.admin.repair("default", poll_s=0.001)
        elapsed_s = max(row.elapsed_s for row in rows)
    question = encode_question(Roots([bytes(6)] * PARTITIONS), epoch=1, ring_hash=1, sent_ms=1 << 40, asker="n1", urgent=False)
    return Figures(keys, converged_s, during / after, elapsed_s, question.ByteSize() + 9 * PARTITIONS)


async def converge(client: AsyncClient, address: str, keys: int, foreground: Foreground) -> tuple[float, float]:
    """Waits until the node at `address` differs nowhere: seconds, and the foreground's rate meanwhile."""
    loop = asyncio.get_running_loop()
    began_s, before = loop.time(), foreground.answered
    repaired = 0
    while loop.time() - began_s < CONVERGED_S_MAX:
        await asyncio.sleep(0.5)
        rows = await client.admin.status(timeout_s=10.0)
        repaired = sum(row.repaired for row in rows)
        if repaired >= keys * 0.95 and not any(row.divergent_partitions or row.trees_unknown for row in rows):
            elapsed_s = loop.time() - began_s
            return elapsed_s, (foreground.answered - before) / elapsed_s
    raise TimeoutError(f"not converged after {CONVERGED_S_MAX} s: {repaired:,} keys repaired")


def main() -> int:
    """The command: two lines on stdout."""
    parser = argparse.ArgumentParser(description="How fast replicas come together, and what clients notice of it.")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=6.0, help="of the measurement of clients alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-") as folder:
        figures = asyncio.run(measure(Path(folder), keys=arguments.keys, seconds=arguments.seconds))
    print("\n".join(figures.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
