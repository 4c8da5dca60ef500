"""Many clients increment one key of a linearizable namespace: how many a second, and is none lost or counted twice?

    python -m tests.bench.hot_key [--callers 64] [--clients 4] [--seconds 5] [--rounds 3]

The callers share `--clients` clients, each with links of its own to three nodes of `kv dev`. Prints one line a round: increments
answered a second, and what the nodes and the clients used of the processor for each; then the key's number against what was
answered. Ends with 1 if the number is not between what was acknowledged and what may have been applied, 8 if the best round misses
the bar.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from kvclient import AsyncClient
from kvclient.bench.loop import run_closed_loop
from kvproto.errors import KvError
from tests.bench.ours import KvCluster, start_cluster
from tests.bench.processes import cpu_seconds

RATE_MIN = 5_000.0
NAMESPACE, KEY = "hot", "counter"
WARM_UP_S = 0.5


@dataclass
class Counted:
    """What became of all increments so far."""

    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Measured:
    """One round."""

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    nodes_us: float
    clients_us: float

    def __str__(self) -> str:
        return (
            f"{self.rate_per_s:8,.0f} increments/s   p50 {self.p50_ms:.1f} ms   p99 {self.p99_ms:.1f} ms   "
            f"processor time of one: nodes {self.nodes_us:.0f} µs, clients {self.clients_us:.0f} µs"
        )


async def measure(clients: list[AsyncClient], cluster: KvCluster, counted: Counted, *, callers: int, seconds: float) -> Measured:
    """Drives the key for `seconds` and counts what was told."""
    namespaces = [client.namespace(NAMESPACE) for client in clients]
    done = 0

    async def increment(number: int) -> None:
        nonlocal done
        try:
            await namespaces[number % len(namespaces)].increment(KEY)
        except KvError as error:
            counted.unknown += error.may_have_applied
            counted.refused += not error.may_have_applied
            raise
        counted.acknowledged += 1
        done += 1

    nodes_s, clients_s = cpu_seconds(cluster.pids), time.process_time()
    result = await run_closed_loop(increment, in_flight=callers, seconds=seconds, warm_up_s=WARM_UP_S)
    nodes_s, clients_s = cpu_seconds(cluster.pids) - nodes_s, time.process_time() - clients_s
    latencies_ms = sorted(latency / 1e6 for latency in result.latencies_ns())
    return Measured(
        result.completed / seconds,
        latencies_ms[len(latencies_ms) // 2],
        latencies_ms[len(latencies_ms) * 99 // 100],
        nodes_s / done * 1e6,
        clients_s / done * 1e6,
    )


async def run(arguments: argparse.Namespace, folder: Path) -> int:
    """All rounds; returns the exit code."""
    cluster = await start_cluster(folder / "hot", nodes=3, options=("--policy", f"{NAMESPACE}=linearizable"))
    clients: list[AsyncClient] = []
    counted = Counted()
    try:
        for _ in range(arguments.clients):
            client = AsyncClient(",".join(cluster.addresses))
            clients.append(client)
            await client.connect()
        print(f"node processes: {cluster.pids}", file=sys.stderr)
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append(await measure(clients, cluster, counted, callers=arguments.callers, seconds=arguments.seconds))
            print(rounds[-1], flush=True)
        number = int((await clients[0].namespace(NAMESPACE).get(KEY, level="linearizable")).value or b"0")
    finally:
        for client in clients:
            await client.__aexit__(None, None, None)
        await cluster.stop()
    best = max(one.rate_per_s for one in rounds)
    exact = counted.acknowledged <= number <= counted.acknowledged + counted.unknown
    told = f"{counted.acknowledged} acknowledged, {counted.unknown} unknown, {counted.refused} refused"
    print(f"{'ok' if exact else 'WRONG'}: the key holds {number}; {told}")
    print(f"{'met' if best >= RATE_MIN else 'MISSED'}: {best:,.0f} increments/s, at least {RATE_MIN:,.0f}")
    return 1 if not exact else 0 if best >= RATE_MIN else 8


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Increments of one key by many clients.")
    parser.add_argument("--callers", type=int, default=64, help="increments under way at once, default 64")
    parser.add_argument("--clients", type=int, default=4, help="clients that the callers share, default 4")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round, default 5")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kvstore-hot-") as folder:
        return asyncio.run(run(arguments, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
