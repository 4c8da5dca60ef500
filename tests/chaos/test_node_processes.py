"""Nodes that we start ourselves: their files, their faults, their end; here over stand-ins for the nodes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvchaos.faults import nodes as node_processes
from kvchaos.faults.nodes import Condition, NodeDied, NodePlace, NodeProcesses
from kvchaos.ports import address, find_free_ports
from kvchaos.processes import FaultFailed, RestartFailed
from kvstore.config import AUTO, load_config, parse_config
from tests.commands.conftest import FAKE_NODE, is_alive, process_state
from tests.support.waiting import until


def plan(root: Path) -> list[NodePlace]:
    ports = {node: find_free_ports(5) for node in ("n1", "n2")}
    return [
        NodePlace(
            node,
            listen=address(ports[node][0]),
            advertise=address(ports[node][1]),
            http=address(ports[node][2]),
            peers={other: f"127.0.0.1:{ports[other][1]}" for other in ports if other != node},
            folder=root / node,
            cluster={"id": "chaos", "partitions": 64},
            namespaces={"default": {"preset": "pa-el", "n": 2}, "orders": {"preset": "pa-ec"}},
            frames=address(ports[node][3]),
            peer_frames={other: address(ports[other][4]) for other in ports if other != node},
        )
        for node in ports
    ]


@pytest.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NodeProcesses]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    processes = NodeProcesses(plan(tmp_path), command=FAKE_NODE)
    try:
        await processes.start()
        yield processes
    finally:
        await processes.end()
        assert not any(is_alive(processes.pid(node)) for node in processes.node_ids)


def test_a_node_is_told_its_addresses_its_peers_and_the_clusters_settings(tmp_path: Path) -> None:
    place = plan(tmp_path)[0]
    place.folder.mkdir()
    place.config.write_text(place.render())
    config = load_config(place.config)
    assert (config.listen, config.advertise, config.http, config.data) == (place.listen, place.advertise, place.http, place.data)
    assert dict(config.peers) == dict(place.peers)
    assert (config.frames, dict(config.peer_frames)) == (place.frames, dict(place.peer_frames))
    assert (config.cluster.id, config.cluster.partitions) == ("chaos", 64)
    assert {name: space.preset for name, space in config.cluster.namespaces.items()} == {"default": "pa-el", "orders": "pa-ec"}


def test_a_node_may_listen_on_every_address_and_choose_itself_where_it_takes_frames(tmp_path: Path) -> None:
    place = replace(plan(tmp_path)[0], bind="0.0.0.0:7400", frames="", peer_frames={})
    config = parse_config(place.render(), base=tmp_path)
    assert (config.listen, config.insecure, config.frames, dict(config.peer_frames)) == ("0.0.0.0:7400", True, AUTO, {})
    assert parse_config(replace(place, frames="0.0.0.0:7401").render(), base=tmp_path).frames == "0.0.0.0:7401"


async def test_killed_nodes_are_gone_and_come_back_as_others(nodes: NodeProcesses) -> None:
    before = [nodes.pid(node) for node in nodes.node_ids]
    await nodes.kill("n1", "n2")
    assert not any(map(is_alive, before)) and set(nodes.conditions.values()) == {Condition.DOWN}
    nodes.check()  # their end was ours
    await nodes.restart("n1", "n2")
    assert all(is_alive(nodes.pid(node)) for node in nodes.node_ids)


async def test_a_paused_node_stands_still_until_it_goes_on(nodes: NodeProcesses) -> None:
    await nodes.pause("n2")
    assert process_state(nodes.pid("n2")) == "T" and nodes.conditions["n2"] is Condition.PAUSED
    await nodes.resume("n2")
    assert process_state(nodes.pid("n2")) != "T"


async def test_a_restart_of_a_running_node_is_a_clean_one_and_a_paused_one_can_be_killed(nodes: NodeProcesses) -> None:
    await nodes.restart("n1")
    data = nodes.places["n1"].data
    assert ((data / "starts").read_text(), (data / "clean-stops").read_text()) == ("2", "1")
    await nodes.pause("n1")
    await nodes.kill("n1")
    assert not is_alive(nodes.pid("n1"))


async def test_a_wiped_node_is_down_and_without_data(nodes: NodeProcesses) -> None:
    await nodes.wipe("n1")
    assert not nodes.places["n1"].data.exists() and not is_alive(nodes.pid("n1"))
    await nodes.wipe("n1")
    await nodes.restart("n1")
    assert (nodes.places["n1"].data / "starts").read_text() == "1"


async def test_faults_of_nodes_that_are_down_or_unknown_fail(nodes: NodeProcesses) -> None:
    with pytest.raises(FaultFailed, match="no node 'n9'"):
        await nodes.pause("n9")
    await nodes.kill("n1")
    for fault in (nodes.kill, nodes.pause, nodes.resume):
        with pytest.raises(FaultFailed, match="n1 is down"):
            await fault("n1")


async def test_a_node_that_died_of_itself_is_named_with_its_last_words(nodes: NodeProcesses) -> None:
    nodes.places["n2"].log.write_text("the disk is on fire\n")
    os.kill(nodes.pid("n2"), signal.SIGKILL)
    await until(lambda: nodes._processes["n2"].returncode is not None)
    with pytest.raises(NodeDied, match="n2 ended with -9: the disk is on fire"):
        nodes.check()


async def test_a_node_that_does_not_stop_is_killed_and_told(nodes: NodeProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_processes, "STOP_TIMEOUT_S", 0.2)
    await nodes.kill("n2")
    (nodes.places["n2"].data / "deaf").touch()
    await nodes.restart("n2")
    with pytest.raises(NodeDied, match=r"n2 did not stop within 0\.2 s"):
        await nodes.end()
    assert not is_alive(nodes.pid("n2"))


async def test_a_node_that_does_not_start_again_is_told_with_its_last_words(nodes: NodeProcesses) -> None:
    await nodes.kill("n1")
    (nodes.places["n1"].data / "refuse").touch()
    with pytest.raises(RestartFailed, match="n1 did not start: kv: the disk is on holiday"):
        await nodes.restart("n1")
    assert nodes.conditions["n1"] is Condition.DOWN
