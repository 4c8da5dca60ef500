"""How stale reads are where nothing is wrong but distance: both sides write and read the same keys, each at nodes of its own.

Clients go straight to a key's first home replica, which has always heard of what it acknowledged. So each side is kept to its own
nodes here, and reads are coordinated by another replica than the other side's writes, as PBS has it (Bailis et al., VLDB 2012).
Nodes see each other all the time, over links that all take the same time. And because PBS knows no queue, a node writes so seldom
that the batch before has been answered: a link has one small batch under way, and the next one waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kvchaos.faults.link_state import Kind, Link
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.history import History, Recorder
from kvchaos.scenarios.columns import Column
from kvchaos.scenarios.load import Load
from kvchaos.scenarios.scenario import FAR, NEAR
from kvchaos.scenarios.stage import Say, merged, until
from kvchaos.scenarios.versions import versions
from kvclient import AsyncClient

N = 3
WRITES_MIN = 80
"""Answered writes of each side; many times as many reads go with them."""
WRITE_GAP_RTT = 1.5
"""From a write to the next of the same node, at least: the batch is answered after one round trip and the syncs of both disks."""
KEYS = 2
"""Few, so that many reads come soon after a write of their key."""


def may_be_stale(column: Column) -> bool:
    """Whether what is read and what is written need not have a replica in common; PBS is about plain writes, without consensus."""
    return not column.registers and column.r + column.w <= N


async def measure_apart(
    cluster: ProxiedCluster, clients: Mapping[str, AsyncClient], columns: Sequence[Column], *, seed: int, rtt_ms: int, say: Say
) -> dict[str, History]:
    """The histories of the columns whose reads may be stale, measured one after the other. Leaves the links of clients cut: whoever
    asked heals."""
    loop = asyncio.get_running_loop()
    near, *others = cluster.node_ids
    await cluster.plane.cut(Link(FAR, near), *(Link(NEAR, node) for node in others), kind=Kind.REFUSE)
    await cluster.plane.verify()
    found = {}
    for column in filter(may_be_stale, columns):
        say("staleness", f"{column.name}: each side at its own nodes, {rtt_ms} ms between them")
        gap_s = WRITE_GAP_RTT * rtt_ms / 1000
        # Keys of its own: what was written before is in no history of this.
        named = replace(column, name=f"apart-{column.name}")
        load = Load(named, clients, Recorder(lambda: int(loop.time() * 1e9)), seed=f"{seed}/apart", keys=KEYS, write_gap_s=gap_s)
        try:
            load.start()
            await until([load], lambda load, site: load.answered(site) >= WRITES_MIN)
            await load.stop()
        finally:
            await load.abort()
        header = {
            "scenario": "apart",
            "preset": column.name,
            "seed": seed,
            "levels": [column.level],
            "n": N,
            "r": column.r,
            "w": column.w,
            "rtt_ms": rtt_ms,
            "write_gap_ms": gap_s * 1000,
            "sites": list(load.sites),
            "versions": versions(),
        }
        found[column.name] = merged(header, load.recorder.history.events)
    return found
