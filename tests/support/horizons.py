"""Rounds of horizons over a cluster of tests, made when a test says so."""

from __future__ import annotations

from kvstore.repair.horizons import Horizons
from kvstore.repair.register_upkeep import RegisterUpkeep
from tests.support.cluster import Cluster
from tests.support.waiting import until


def upkeep(on: Cluster, node: str) -> RegisterUpkeep:
    """What `node` does for its registers."""
    found = on.members[node].local.register_upkeep
    assert found is not None
    return found


async def hear(on: Cluster, *nodes: str) -> None:
    """Every node knows what it holds; `nodes`, or all, have heard all others that they can reach."""
    if len(on.ids) == 1:
        return
    for node in on.ids:
        horizons = upkeep(on, node).horizons
        horizons.follow()
        for namespace in horizons._groups:
            horizons.want(namespace)
        assert await horizons.scan()
    for node in nodes or on.ids:
        await _round(upkeep(on, node).horizons)


async def _round(horizons: Horizons) -> None:
    horizons.ask()
    await until(lambda: not horizons._open)
