"""The fault plane keeps its word on real nodes: each fault takes, is seen, is healed, and one that does not take is no pass."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from kvchaos.checkers.lost_writes import check_lost_writes
from kvchaos.faults import linked_cluster, verification
from kvchaos.faults.expectations import Expectation
from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_plane import LinkPlane
from kvchaos.faults.link_state import OPEN, Direction, Kind, Link
from kvchaos.faults.nodes import NodeDied, NodePlace
from kvchaos.faults.plane import FaultPlane
from kvchaos.faults.probes import probe, status
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.faults.proxies import Route
from kvchaos.history import NEMESIS
from kvchaos.workloads import UniqueWrites
from kvproto.errors import AvailabilityError
from kvstore.config import load_config
from kvstore.transport import grpc_peers
from tests.chaos.echo import calling
from tests.chaos.proxied import client_of, proxied, tidy
from tests.chaos.test_proxies import RECOVERY_S
from tests.commands.conftest import process_state
from tests.support.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120, func_only=True)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(toxiproxy_server: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProxiedCluster]:
    async with proxied(tmp_path_factory.mktemp("plane"), sites=("clients", "apart")) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(shared: ProxiedCluster) -> AsyncIterator[ProxiedCluster]:
    del shared.recorder.history.events[:]
    yield shared
    await tidy(shared)


async def alive_at(cluster: ProxiedCluster, node: str) -> set[str]:
    """Whom a node takes for alive."""
    return {peer for peer, state, _ in (await status(cluster.nodes.places[node].listen)).peers if state == "alive"}


async def stop_behind_its_back(cluster: ProxiedCluster, node: str) -> None:
    """SIGSTOP of which the plane knows nothing."""
    pid = cluster.nodes.pid(node)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: process_state(pid) == "T")


def faults(cluster: ProxiedCluster) -> list[tuple[str, str]]:
    return [(event.f, event.value["phase"]) for event in cluster.recorder.history.events if event.process == NEMESIS]


async def test_calls_are_events_with_their_arguments_and_the_times_of_begin_and_effect(cluster: ProxiedCluster) -> None:
    plane: FaultPlane = cluster.plane
    await plane.isolate("n1", kind=Kind.REFUSE)
    await plane.verify()
    assert [await alive_at(cluster, node) for node in cluster.node_ids] == [set(), {"n3"}, {"n2"}]
    await plane.heal()
    await plane.verify()
    assert faults(cluster) == [(f, phase) for f in ("isolate", "verify", "heal", "verify") for phase in ("begin", "active")]
    first, *_, last = cluster.recorder.history.events
    assert first.value == {"node": "n1", "kind": "refuse", "direction": "both", "phase": "begin"} and first.time_ns < last.time_ns
    assert cluster.recorder.history.events[2].value["links"] == dict.fromkeys(["n1->n2", "n1->n3", "n2->n1", "n3->n1"], "refused")


async def test_each_way_of_cutting_one_direction_is_seen_from_outside_and_by_the_nodes(cluster: ProxiedCluster) -> None:
    await cluster.plane.cut(Link("n1", "n2"), direction=Direction.REQUESTS)
    await cluster.plane.cut(Link("n2", "n3"), direction=Direction.RESPONSES)
    await cluster.plane.cut(Link("n3", "n1"), kind=Kind.STALL)
    await cluster.plane.verify()
    assert [await alive_at(cluster, node) for node in cluster.node_ids] == [{"n3"}, {"n1"}, {"n2"}]
    await cluster.plane.heal()
    await cluster.plane.verify()
    assert [len(await alive_at(cluster, node)) for node in cluster.node_ids] == [2, 2, 2]


async def test_slow_links_and_such_that_break_connections_are_seen_and_seen_to_be_gone(cluster: ProxiedCluster) -> None:
    await cluster.plane.delay(Link("n1", "n2"), 50)
    await cluster.plane.throttle(Link("n2", "n3"), 200)
    await cluster.plane.reset(Link("n3", "n1"))
    await cluster.plane.truncate(Link("n1", "n3"), 10_000)
    await cluster.plane.verify()
    await cluster.plane.heal()
    await cluster.plane.verify()


async def test_a_bridge_sees_both_halves_that_do_not_see_each_other(cluster: ProxiedCluster) -> None:
    await cluster.plane.bridge("n2", kind=Kind.REFUSE)
    await cluster.plane.verify()
    assert [await alive_at(cluster, node) for node in cluster.node_ids] == [{"n2"}, {"n1", "n3"}, {"n2"}]


async def test_a_write_whose_response_is_lost_is_unknown_and_there_and_one_whose_request_is_lost_is_not(
    cluster: ProxiedCluster,
) -> None:
    async with client_of(cluster) as here, client_of(cluster, "apart", timeout_s=1.0) as apart:
        await apart.put("warm", b"1")
        for direction, value in ((Direction.RESPONSES, b"arrived"), (Direction.REQUESTS, b"lost")):
            await cluster.plane.partition([["apart"], cluster.node_ids], direction=direction)
            with pytest.raises(AvailabilityError) as caught:
                await apart.put(f"one-way/{direction.value}", value)
            assert caught.value.may_have_applied
            found = await here.get(f"one-way/{direction.value}")
            assert list(found.values) == ([value] if direction is Direction.RESPONSES else [])
            await cluster.plane.verify()
            await cluster.plane.heal()


# --- the connections of a link


async def test_nodes_are_told_to_send_each_other_frames_through_proxies_and_clients_have_none(cluster: ProxiedCluster) -> None:
    routes = cluster.proxies.routes
    for node, place in cluster.nodes.places.items():
        config = load_config(place.config)
        frames = {other: routes[Link(node, other)].frames for other in cluster.node_ids if other != node}
        assert dict(config.peer_frames) == {other: route.listen for other, route in frames.items() if route is not None}
        assert set(config.peer_frames) == set(config.peers), "a peer without an entry would be sent everything by gRPC"
        for other, route in frames.items():
            assert route is not None and route.upstream == load_config(cluster.nodes.places[other].config).frames
    assert [routes[link].frames for link in cluster.links_of_sites()] == [None] * 6
    proxies = [proxy for link, route in routes.items() for proxy in route.named(link).values()]
    listening = [address for proxy in proxies for address in (proxy.listen, proxy.upstream)]
    assert len({proxy.listen for proxy in proxies}) == 18 and len(set(listening)) == 18 + 6, "nobody listens where another does"


async def test_a_cut_between_nodes_ends_both_connections_of_its_links_and_of_no_other(cluster: ProxiedCluster) -> None:
    await cluster.plane.isolate("n1", kind=Kind.REFUSE)
    for link, route in cluster.proxies.routes.items():
        cut = link in cluster.links() and "n1" in (link.source, link.target)
        for name, proxy in route.named(link).items():
            seen = await probe(proxy.listen, Expectation(refused=cut))
            assert seen.refused is cut, name
    await cluster.plane.verify()


# --- processes


async def test_nothing_acknowledged_is_lost_to_a_kill_and_a_pause_under_load(cluster: ProxiedCluster) -> None:
    async with client_of(cluster) as client:
        load = UniqueWrites(client, writers=4, own_keys=4, shared_keys=2, rng=random.Random(6), recorder=cluster.recorder)
        load.start()
        try:
            await load.acknowledge_more(30, timeout_s=30)
            await cluster.plane.kill("n3")
            await load.acknowledge_more(30, timeout_s=30)
            await cluster.plane.restart("n3")
            await cluster.plane.pause("n2")
            await load.acknowledge_more(30, timeout_s=30)
            await cluster.plane.resume("n2")
            await load.acknowledge_more(30, timeout_s=30)
            await load.stop()
        finally:
            await load.abort()
        await cluster.plane.verify()
        verdict = check_lost_writes(load.writes, await load.read_all(timeout_s=30))
    assert verdict.is_ok and verdict.acknowledged >= 120, verdict.sentence()
    assert [f for f, phase in faults(cluster) if phase == "active"] == ["kill", "restart", "pause", "resume", "verify"]


async def test_a_wiped_node_comes_back_empty_behind_the_same_proxies_and_is_rebuilt(cluster: ProxiedCluster) -> None:
    async with client_of(cluster) as client:
        await client.put("wiped", b"1", level="all")
        held = (await status(cluster.nodes.places["n1"].listen)).keys  # with those of the tests before this one
        await cluster.plane.wipe("n1")
        await cluster.plane.restart("n1")
        await cluster.plane.verify()
        n1 = cluster.nodes.places["n1"].listen
        async with asyncio.timeout(20):
            while (of_n1 := await status(n1)).keys < held or of_n1.rebuilding:  # which it does without anybody reading
                await asyncio.sleep(0.01)
        assert (await client.get("wiped", level="all")).value == b"1"


async def test_a_node_that_died_of_itself_is_no_failure_of_the_injector(cluster: ProxiedCluster) -> None:
    os.kill(cluster.nodes.pid("n2"), signal.SIGKILL)
    await until(lambda: cluster.nodes._processes["n2"].returncode is not None)
    with pytest.raises(NodeDied, match="n2 ended with -9"):
        await cluster.plane.verify()
    await cluster.plane.restart("n2")


# --- faults that do not take


async def test_a_fault_that_somebody_took_off_again_is_an_injector_failure(cluster: ProxiedCluster) -> None:
    link = Link("n1", "n2")
    await cluster.plane.cut(link)
    for proxy in cluster.proxies._proxies[link].values():
        await asyncio.to_thread(proxy.destroy_toxic, "hole_upstream")
    with pytest.raises(InjectorFailure, match="n1->n2: the server has"):
        await cluster.plane.verify()
    assert faults(cluster)[-1] == ("verify", "failed")


async def test_a_cut_that_somebody_took_off_for_frames_alone_is_an_injector_failure(cluster: ProxiedCluster) -> None:
    link = Link("n1", "n2")
    await cluster.plane.cut(link, kind=Kind.REFUSE)
    await asyncio.to_thread(cluster.proxies._proxies[link]["n1->n2 frames"].enable)
    with pytest.raises(InjectorFailure, match=r"differ: n1->n2: the server has .*; n1->n2 frames: the server has "):
        await cluster.plane.verify()


@pytest.mark.parametrize("which", ["connections", "connections for frames"])
async def test_a_link_that_is_not_as_the_server_says_is_an_injector_failure(cluster: ProxiedCluster, which: str) -> None:
    """What is believed and what the server tells agree, and both are wrong: only the probe shows it."""
    link = Link("n1", "n2")
    proxies = cluster.proxies
    await cluster.plane.cut(link, kind=Kind.REFUSE)
    open_all_the_time = Route(cluster.nodes.places["n2"].listen, proxies.routes[link].upstream)
    real = proxies.routes[link]
    proxies.routes[link] = open_all_the_time if which == "connections" else replace(real, frames=open_all_the_time)
    try:
        wrong = await verification._look(link, proxies, cluster.nodes, None)
    finally:
        proxies.routes[link] = real
    assert wrong == f"should be refused, but {which} are accepted"


async def test_a_fault_that_is_healed_unseen_is_an_injector_failure_unless_that_was_meant(cluster: ProxiedCluster) -> None:
    await cluster.plane.cut(Link("n1", "n2"), kind=Kind.REFUSE)
    with pytest.raises(InjectorFailure, match="healed without having been seen: cut"):
        await cluster.plane.heal()
    assert set(cluster.proxies.states.values()) == {OPEN}
    await cluster.plane.cut(Link("n1", "n2"), kind=Kind.REFUSE)
    await cluster.plane.heal(unseen_ok=True)


async def test_what_is_no_link_and_no_node_is_refused_before_anything_happens(cluster: ProxiedCluster) -> None:
    with pytest.raises(ValueError, match="no such link: n1->n9"):
        await cluster.plane.cut(Link("n1", "n9"))
    with pytest.raises(ValueError, match="no node 'n9'"):
        await cluster.plane.isolate("n9")
    assert faults(cluster) == []


class PastTheProxies(ProxiedCluster):
    """n1 dials n2 where that really listens."""

    def _plan(self) -> tuple[list[NodePlace], dict[Link, Route]]:
        places, routes = super()._plan()
        return [replace(places[0], peers={**places[0].peers, "n2": routes[Link("n1", "n2")].upstream}), *places[1:]], routes


async def test_a_cluster_of_which_a_node_goes_past_its_proxies_does_not_come_up(
    toxiproxy_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "VIEWS_TIMEOUT_S", 1.0)
    with pytest.raises(InjectorFailure, match=r"^n1 takes n2 for alive$"):
        async with PastTheProxies(tmp_path / "cluster", nodes=2):
            pass


class SeenOnce:
    """A plane on which nothing is wrong at the first look after a cut, and something at the second."""

    is_cut = was_seen = False

    async def partition(self, groups: Sequence[Sequence[str]], kind: Kind) -> None:
        self.is_cut = True

    async def verify(self) -> None:
        if self.was_seen:
            raise InjectorFailure("n1 takes n2 for alive")
        self.was_seen = self.is_cut

    async def heal(self) -> None:
        self.is_cut = self.was_seen = False


async def test_bug_a_link_that_was_only_being_dialled_anew_was_taken_for_one_behind_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert linked_cluster.DIALLED_ANEW_S > 2 * grpc_peers.REDIAL_S
    monkeypatch.setattr(linked_cluster, "DIALLED_ANEW_S", 0.0)
    cluster = ProxiedCluster(tmp_path, nodes=2)
    cluster.plane = cast(LinkPlane, SeenOnce())
    with pytest.raises(InjectorFailure, match=r"^n1 takes n2 for alive$"):
        await cluster._prove_routes()


async def test_a_run_that_ends_with_a_fault_nobody_saw_is_an_injector_failure(toxiproxy_server: Path, tmp_path: Path) -> None:
    with pytest.raises(InjectorFailure, match="over without having been seen: cut"):
        async with ProxiedCluster(tmp_path / "cluster", nodes=1) as cluster:
            await cluster.plane.cut(Link("clients", "n1"))


# --- the wedge


async def test_a_fault_on_a_node_that_stands_still_behind_our_back_wedges_the_injector_which_says_so(
    cluster: ProxiedCluster,
) -> None:
    link = Link("n1", "n2")
    loop = asyncio.get_running_loop()
    await stop_behind_its_back(cluster, "n2")
    try:
        async with calling(cluster.proxies.routes[link].listen) as caller:
            await caller.push_until_stuck()
            began_s = loop.time()
            with pytest.raises(InjectorFailure, match=r"n1->n2: add.*started again"):
                await cluster.plane.cut(link)
            assert loop.time() - began_s < RECOVERY_S
    finally:
        os.kill(cluster.nodes.pid("n2"), signal.SIGCONT)
    assert faults(cluster)[-1] == ("cut", "failed")
    await cluster.plane.verify()


async def test_healing_past_a_wedge_replaces_the_server_and_is_noted(cluster: ProxiedCluster) -> None:
    link = Link("n1", "n2")
    loop = asyncio.get_running_loop()
    await cluster.plane.delay(link, 20)
    await cluster.plane.verify()
    await stop_behind_its_back(cluster, "n2")
    try:
        async with calling(cluster.proxies.routes[link].listen) as caller:
            await caller.push_until_stuck()
            began_s = loop.time()
            await cluster.plane.heal()
            assert loop.time() - began_s < RECOVERY_S
    finally:
        os.kill(cluster.nodes.pid("n2"), signal.SIGCONT)
    assert cluster.recorder.history.events[-1].value["injector_restarted"] is True
    await cluster.plane.verify()


async def test_a_node_that_the_plane_paused_is_cut_and_healed_without_a_wedge(cluster: ProxiedCluster) -> None:
    link = Link("n1", "n2")
    restarts = cluster.proxies.restarts
    await cluster.plane.pause("n2")
    async with calling(cluster.proxies.routes[link].listen) as caller:
        await caller.push_until_stuck()
        await cluster.plane.cut(link)
        await cluster.plane.heal(unseen_ok=True)
    await cluster.plane.verify()
    assert cluster.proxies.restarts == restarts
