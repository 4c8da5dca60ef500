"""One cluster of real nodes behind proxies for the tests of a file; each test leaves it healed and seen to be so."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvchaos.faults.nodes import Condition
from kvchaos.faults.proxied_cluster import ProxiedCluster, Settings
from kvclient import AsyncClient


@asynccontextmanager
async def proxied(
    root: Path, *, sites: tuple[str, ...] = ("clients",), namespaces: Settings | None = None
) -> AsyncIterator[ProxiedCluster]:
    """A cluster; its processes find the packages where the tests do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        async with ProxiedCluster(root, sites=sites, namespaces=namespaces) as cluster:
            yield cluster


async def tidy(cluster: ProxiedCluster) -> None:
    """Whatever a test did or failed to do: every node runs, every link is open, and that is so."""
    down = [node for node, condition in cluster.nodes.conditions.items() if condition is Condition.DOWN]
    await cluster.plane.restart(*down)
    await cluster.plane.heal(unseen_ok=True)
    await cluster.plane.verify()


def client_of(cluster: ProxiedCluster, site: str | None = None, *, timeout_s: float = 5.0) -> AsyncClient:
    """A client at a site."""
    return AsyncClient(cluster.addresses(site), address_map=cluster.address_map(site), timeout_s=timeout_s)
