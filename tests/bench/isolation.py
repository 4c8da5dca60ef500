"""The three isolation lines: what one slow thing does to the p99 of everything else (no head-of-line blocking).

Each is a paced mix of puts and gets, once without and once with the disturbance, in one run and on the same cluster. Operations
that fail count as endless.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.bench.client_handle import ClientProcess, Figures
from tests.bench.lines import Pair
from tests.bench.ours import KvCluster
from tests.bench.processes import BenchError

RATE_PER_S = 1_000.0
"""Well below what three nodes do on two cores: queueing at saturation would drown what is asked here."""
SETTLE_S = 4.0
"""A stalled node is noticed by keepalive after 1.5 to 3.5 s (kvproto.options); the line is about the state after that."""
CONVERGE_TIMEOUT_S = 20.0
SLOW_CALLERS = 8
CLASSIFY_ATTEMPTS_MAX = 6
FINE_KEYS_MIN = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """One round of an isolation line: p99 with and without in ms, and a sentence on what else was seen."""

    pair: Pair
    note: str


async def measure_large_value(client: ClientProcess, *, seconds: float, seed: str) -> Outcome:
    """One caller puts and gets a 1 MB value in a loop. Raises `BenchError`, also when no such call was finished."""
    load = {"seed": seed, "rate_per_s": RATE_PER_S, "seconds": seconds}
    without = await client.paced(**load)
    beside = await client.paced(**load, beside="large", callers=1)
    if not beside.beside_calls:
        raise BenchError("large value: not one put and get of 1 MB was finished beside the load")
    ran = f"{beside.beside_calls / seconds:.1f} puts and gets of 1 MB a second ran beside"
    return Outcome(pair(beside, without), f"{ran}; {failures(beside)}")


async def measure_stalled_replica(cluster: KvCluster, client: ClientProcess, *, seconds: float, seed: str, node: int) -> Outcome:
    """SIGSTOP to one node; measured once the cluster has had SETTLE_S of the same load to notice. Raises `BenchError`."""
    load = {"seed": seed, "rate_per_s": RATE_PER_S}
    without = await client.paced(**load, seconds=seconds)
    cluster.pause([node])
    try:
        noticing = await client.paced(**load, seconds=SETTLE_S)
        stalled = await client.paced(**load, seconds=seconds)
    finally:
        cluster.resume()
    worst = "was endless" if noticing.p100_ms is None else f"took {noticing.p100_ms:.0f} ms"
    noticed = f"while it was being noticed the slowest operation {worst} and {failures(noticing)}"
    return Outcome(pair(stalled, without), f"{noticed}; after that {failures(stalled)}")


async def prepare_slow_keys(cluster: KvCluster, client: ClientProcess) -> str:
    """Stops the last two nodes of five and finds which keys wait for them; returns a sentence. Raises `BenchError` if none does.

    Keys are told apart by asking, twice with the same answer: the client's and the nodes' view of the two is then steady.
    """
    cluster.pause(range(len(cluster.pids))[-2:])
    before, counts = (-1, -1), await client.classify()
    for _ in range(CLASSIFY_ATTEMPTS_MAX - 1):
        if counts == before:
            break
        before, counts = counts, await client.classify()
    fine, slow = counts
    if not slow:
        raise BenchError("slow keys: every key is answered although two of five nodes are stopped")
    if fine < FINE_KEYS_MIN:
        raise BenchError(f"slow keys: only {fine} of {fine + slow} keys are answered with two of five nodes stopped")
    return f"{slow} of {fine + slow} keys cannot reach their quorum with two of five nodes stopped"


async def measure_slow_key(client: ClientProcess, *, seconds: float, seed: str) -> Outcome:
    """SLOW_CALLERS callers put keys that have two stopped owners; the load uses the others. After `prepare_slow_keys`."""
    load = {"seed": seed, "rate_per_s": RATE_PER_S, "seconds": seconds, "only_fine": True}
    without = await client.paced(**load)
    beside = await client.paced(**load, beside="slow", callers=SLOW_CALLERS)
    calls = max(1, beside.beside_calls)
    waited_ms = SLOW_CALLERS * seconds / calls * 1_000
    return Outcome(pair(beside, without), f"each slow call took {waited_ms:.0f} ms on average; {failures(beside)}")


def failures(figures: Figures) -> str:
    """How many of the load's operations failed, as a clause."""
    return f"{sum(figures.errors.values())} of the load failed {figures.errors or ''}".rstrip()


def pair(beside: Figures, without: Figures) -> Pair:
    """The p99 of both. Raises `BenchError` if the load failed even without the disturbance."""
    if without.p99_ms is None:
        raise BenchError(f"isolation: the load fails even without a disturbance: {without.errors}")
    return Pair(math.inf if beside.p99_ms is None else beside.p99_ms, without.p99_ms)
