"""One suite for every backend of the fault plane, as far as each has the calls; cases are in plane_cases.py.

Toxiproxy and network namespaces have all of them; `kv dev`'s processes have no links; a simulated world has all of them, on
virtual time. What only Toxiproxy can do, or do wrong, is in test_fault_plane.py, and in the quick tier; real nodes here are in
the long one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from kvchaos.faults.link_state import Link
from kvchaos.faults.linked_cluster import LinkedCluster
from kvchaos.faults.nodes import Condition
from kvchaos.faults.probes import status
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.history import Recorder
from kvchaos.netns.cluster import NetnsCluster
from kvchaos.netns.namespaces import why_not
from kvchaos.processes import ProcessPlane
from kvchaos.simulation.plane import SimPlane
from kvclient import AsyncClient
from kvstore.simulation.world import World
from tests.chaos.plane_cases import EVERY, OF_PROCESSES, Case, Subject

pytestmark = pytest.mark.timeout(120, func_only=True)

SITES = ("clients", "apart")


@pytest.fixture(scope="module")
def found() -> Iterator[None]:
    """Nodes find the packages where the tests do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        yield


def subject_of(cluster: LinkedCluster) -> Subject:
    async def alive_at(node: str) -> set[str]:
        peers = (await status(cluster.nodes.places[node].listen)).peers
        return {peer for peer, state, _ in peers if state == "alive"}

    return Subject(cluster.plane, lambda site: cluster.client(site, timeout_s=5.0), alive_at, time.monotonic, asyncio.sleep)


async def tidy(cluster: LinkedCluster) -> None:
    down = [node for node, condition in cluster.nodes.conditions.items() if condition is Condition.DOWN]
    await cluster.plane.restart(*down)
    await cluster.plane.heal(unseen_ok=True)
    await cluster.plane.verify()


# --- real links


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["toxiproxy", pytest.param("netns", marks=pytest.mark.long)])
async def shared(
    request: pytest.FixtureRequest, found: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LinkedCluster]:
    kind: type[LinkedCluster] = ProxiedCluster
    if request.param == "netns":
        if missing := why_not():
            pytest.skip(f"not run: {missing}")
        kind = NetnsCluster
    else:
        request.getfixturevalue("toxiproxy_server")
    async with kind(tmp_path_factory.mktemp(request.param), sites=SITES, recorded=True) as cluster:
        yield cluster


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.__name__)
async def test_real_nodes(case: Case, shared: LinkedCluster) -> None:
    try:
        await case(subject_of(shared))
    finally:
        await tidy(shared)


# --- processes of kv dev


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(found: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessPlane]:
    async with ProcessPlane(tmp_path_factory.mktemp("processes")) as plane:
        yield plane


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", OF_PROCESSES, ids=lambda case: case.__name__)
async def test_processes_of_kv_dev(case: Case, processes: ProcessPlane) -> None:
    async def nobody(node: str) -> set[str]:
        raise AssertionError(f"what {node} sees is no matter of processes")

    def client(site: str) -> AsyncClient:
        return AsyncClient(processes.addresses, timeout_s=5.0)

    await case(Subject(processes, client, nobody, time.monotonic, asyncio.sleep))


# --- the simulation


@pytest.mark.parametrize("case", EVERY, ids=lambda case: case.__name__)
@pytest.mark.parametrize("seed", [1, 2])
def test_simulated_nodes(case: Case, seed: int) -> None:
    world = World(seed)

    async def scenario(world: World) -> None:
        await world.start()
        recorder = Recorder(lambda: world.loop.now_ns)

        async def alive_at(node: str) -> set[str]:
            return {other for other, state, _ in world.machines[node].link_states() if state == "alive"}

        def client(site: str) -> AsyncClient:
            return world.client(site, timeout_s=5.0)

        await case(Subject(SimPlane(world, recorder), client, alive_at, lambda: world.now_s, world.sleep))

    world.run(scenario)


def test_a_world_says_what_it_cannot_do() -> None:
    world = World(1)

    async def scenario(world: World) -> None:
        plane = SimPlane(world, Recorder(lambda: 0))
        for call in (plane.cut(Link("n1", "n2")), plane.delay(Link("n1", "n2"), 5), plane.flip("n1", "log")):
            with pytest.raises(ValueError, match="a world cannot"):
                await call

    world.run(scenario)
