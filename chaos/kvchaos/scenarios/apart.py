"""How stale reads are where nothing is wrong but distance: both sides write and read the same keys, each at nodes of its own.

Clients go straight to a key's first home replica, which has always heard of what it acknowledged. So each side is kept to its own
nodes here, and reads are coordinated by another replica than the other side's writes, as PBS has it (Bailis et al., VLDB 2012).
Nodes see each other all the time, over links that all take the same time.
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
APART_MIN = 200
"""Answered operations of each kind and side."""


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
        # Keys of its own: what was written before is in no history of this.
        named = replace(column, name=f"apart-{column.name}")
        load = Load(named, clients, Recorder(lambda: int(loop.time() * 1e9)), seed=f"{seed}/apart")
        try:
            load.start()
            await until([load], lambda load, site: load.answered(site) >= APART_MIN)
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
            "sites": list(load.sites),
            "versions": versions(),
        }
        found[column.name] = merged(header, load.recorder.history.events)
    return found
