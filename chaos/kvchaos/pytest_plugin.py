"""pytest-kvchaos: fixtures for chaos tests of applications, on a real cluster whose every link goes through Toxiproxy.

`chaos_cluster` is the cluster, `fault_plane` breaks it, `history` writes down what the application was told, with the faults; it is
kept as history.jsonl in the test's tmp_path. `@pytest.mark.chaos(nodes=…, sites=…, namespaces=…)` says what cluster, and that a
coroutine is a test. Loaded by every run of pytest where it is installed, so it imports the rest when it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # plain pytest goes on; who asks for a cluster is told
    async_fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from kvchaos.faults.plane import FaultPlane
    from kvchaos.faults.proxied_cluster import ProxiedCluster
    from kvchaos.ledger import Ledger

MARKER = "chaos(nodes=3, sites=('clients',), namespaces=None): the cluster of a chaos test, as ProxiedCluster takes it"


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", MARKER)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, obj: object) -> None:
    """A coroutine marked `chaos` is a test in whichever mode pytest-asyncio runs; it looks at marks when it makes the item."""
    if not inspect.iscoroutinefunction(obj) or not collector.config.pluginmanager.hasplugin("asyncio"):
        return
    marks = {mark.name for mark in getattr(obj, "pytestmark", [])}
    if "asyncio" not in marks and ("chaos" in marks or collector.get_closest_marker("chaos") is not None):
        pytest.mark.asyncio(obj)


@pytest.fixture
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Calls and faults, on one clock."""
    from kvchaos.ledger import Ledger

    ledger = Ledger({"scenario": request.node.nodeid})
    yield ledger
    path = tmp_path / "history.jsonl"
    ledger.write(path)
    request.node.add_report_section("teardown", "history", str(path))


@async_fixture
async def chaos_cluster(request: pytest.FixtureRequest, tmp_path: Path, history: Ledger) -> AsyncIterator[ProxiedCluster]:
    """A cluster of its own for each test; a fault that nobody has seen fails it."""
    from kvchaos.faults.proxied_cluster import ProxiedCluster

    marker = request.node.get_closest_marker("chaos")
    options: dict[str, Any] = {} if marker is None else dict(marker.kwargs)
    async with ProxiedCluster(tmp_path / "cluster", recorder=history, **options) as cluster:
        yield cluster


@pytest.fixture
def fault_plane(chaos_cluster: ProxiedCluster) -> FaultPlane:
    """What breaks links and processes of the cluster."""
    return chaos_cluster.plane
