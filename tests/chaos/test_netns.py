"""What only network namespaces have: packets that the kernel drops. Run where there are root, `ip` and `iptables`, in the long
tier."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_state import Direction, Kind, Link
from kvchaos.faults.probes import status
from kvchaos.netns.cluster import FRAMES_PORT, NetnsCluster
from kvchaos.netns.namespaces import PREFIX, inside, remove_left, run, why_not
from kvproto.errors import AvailabilityError

pytestmark = [pytest.mark.long, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120, func_only=True)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NetnsCluster]:
    if missing := why_not():
        pytest.skip(f"not run: {missing}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        async with NetnsCluster(tmp_path_factory.mktemp("netns"), sites=("clients", "apart")) as cluster:
            yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def namespaces(shared: NetnsCluster) -> AsyncIterator[NetnsCluster]:
    yield shared
    await shared.plane.heal(unseen_ok=True)
    await shared.plane.verify()


CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.0)
except OSError as error:
    print(error)
"""


def connect(cluster: NetnsCluster, link: Link) -> str:
    """What comes of a connection from where a link comes from to the port at which its target takes frames; "" if it is made."""
    path = cluster.injector.routes[link]
    host, within = path.listen.rpartition(":")[0], cluster.injector.routes[Link(link.target, link.source)].namespace
    return inside(within, sys.executable, "-I", "-S", "-c", CONNECT, host, str(FRAMES_PORT)).strip()


async def test_packets_of_one_direction_are_lost_syn_packets_too(namespaces: NetnsCluster) -> None:
    plane, link = namespaces.plane, Link("n1", "n2")
    for direction in (Direction.REQUESTS, Direction.RESPONSES):
        await plane.cut(link, direction=direction)
        await plane.verify()  # by packets that the rule of this very direction has met
        assert set(namespaces.injector.rules(link, namespaces.injector.states[link])) <= (await namespaces.injector.counts()).keys()
        alive = [peer for peer, state, _ in (await status(namespaces.nodes.places["n2"].listen)).peers if state == "alive"]
        assert "n1" in alive, "what n2 calls at n1 is another link"
        await plane.heal()
        await plane.verify()


async def test_the_port_for_frames_is_cut_with_the_link_and_in_no_other_direction(namespaces: NetnsCluster) -> None:
    await namespaces.plane.cut(Link("n1", "n2"))
    assert connect(namespaces, Link("n1", "n2")) == "timed out"
    assert connect(namespaces, Link("n2", "n1")) != "timed out"
    await namespaces.plane.verify()


async def test_a_write_whose_response_is_dropped_is_unknown_and_there(namespaces: NetnsCluster) -> None:
    async with namespaces.client("clients") as here, namespaces.client("apart", timeout_s=1.0) as apart:
        await apart.put("warm", b"1")
        await namespaces.plane.partition([["apart"], namespaces.node_ids], direction=Direction.RESPONSES)
        with pytest.raises(AvailabilityError) as caught:
            await apart.put("dropped", b"arrived")
        assert caught.value.may_have_applied and (await here.get("dropped")).value == b"arrived"
        await namespaces.plane.verify()


async def test_a_rule_that_somebody_took_away_or_added_is_an_injector_failure(namespaces: NetnsCluster) -> None:
    link, rules = Link("n1", "n2"), namespaces.injector
    await namespaces.plane.cut(link, kind=Kind.REFUSE)
    [rule] = rules.rules(link, rules.states[link])
    words = rule.text.split()[1:]
    inside(rule.namespace, "iptables", "-w", "-D", *words)
    with pytest.raises(InjectorFailure, match="there is no -A INPUT"):
        await namespaces.plane.verify()
    inside(rule.namespace, "iptables", "-w", "-A", *words)
    await namespaces.plane.verify()


async def test_what_dropped_packets_cannot_do_is_refused_before_anything_happens(namespaces: NetnsCluster) -> None:
    with pytest.raises(ValueError, match="namespaces cut links, and do not make them slow"):
        await namespaces.plane.delay(Link("n1", "n2"), 50)
    assert namespaces.plane.unseen == []


async def test_what_a_killed_run_has_left_is_removed_by_the_next(namespaces: NetnsCluster) -> None:
    gone = f"{PREFIX}-{2**22}-0-n1"  # above every process id that Linux gives
    run("ip", "netns", "add", gone)
    remove_left()
    there = run("ip", "netns", "list")
    assert gone not in there and f"{PREFIX}-{os.getpid()}-" in there


async def test_where_there_can_be_no_namespaces_that_is_said(
    namespaces: NetnsCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(InjectorFailure, match="no network namespaces: ip and iptables cannot be found"):
        async with NetnsCluster(tmp_path / "cluster"):
            pass
