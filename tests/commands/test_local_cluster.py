"""A local cluster's processes: ready means ready, one that dies is reported, and stopping leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from kvproto.errors import ClusterError, UserError
from kvstore.commands import local_node
from kvstore.commands.local_cluster import Death, LocalCluster
from kvstore.commands.local_layout import CLUSTER_FILE
from kvstore.config import load_config
from kvstore.config.addresses import split_address
from tests.commands.conftest import FAKE_NODE, is_alive, plan, process_state, running
from tests.support.waiting import until


def pids(cluster: LocalCluster) -> list[int]:
    found = [pid for pid in cluster.pids.values() if pid is not None]
    assert len(found) == len(cluster.pids)
    return found


def data(cluster: LocalCluster, node: str) -> Path:
    return next(place.data for place in cluster.layout.nodes if place.id == node)


async def test_all_nodes_can_be_reached_when_start_returns_and_none_is_left_after_stop(tmp_path: Path) -> None:
    async with running(plan(tmp_path)) as cluster:
        started = pids(cluster)
        for row in cluster.rows():
            socket.create_connection(split_address(str(row["address"])), timeout=5).close()
    assert not [pid for pid in started if is_alive(pid)]
    assert [(data(cluster, node) / "clean-stops").read_text() for node in ("n1", "n2", "n3")] == ["1", "1", "1"]


async def test_every_node_knows_the_others_and_all_share_the_clusters_settings(tmp_path: Path) -> None:
    layout = plan(tmp_path)
    layout.write_configs()
    configs = [load_config(place.config) for place in layout.nodes]
    assert [config.nodes for config in configs] == [("n1", "n2", "n3")] * 3
    assert len({config.cluster.fingerprint() for config in configs}) == 1
    assert configs[0].cluster.id == layout.cluster_id
    assert configs[1].peers["n1"] == configs[0].listen
    assert configs[2].data == layout.nodes[2].data


async def test_a_killed_node_is_reported_and_left_down(tmp_path: Path) -> None:
    deaths: asyncio.Queue[Death] = asyncio.Queue()
    async with running(plan(tmp_path), on_death=deaths.put_nowait) as cluster:
        victim = pids(cluster)[1]
        os.kill(victim, signal.SIGKILL)
        death = await asyncio.wait_for(deaths.get(), 10)
        assert (death.node, death.pid, death.code, death.restarted) == ("n2", victim, -signal.SIGKILL, False)
        assert "n2" in death.sentence()
        assert "left down" in death.sentence()
        assert cluster.pids["n2"] is None
        assert is_alive(pids_alive(cluster)["n1"])


def pids_alive(cluster: LocalCluster) -> dict[str, int]:
    return {node: pid for node, pid in cluster.pids.items() if pid is not None}


async def test_a_killed_node_comes_up_again_when_that_was_asked_for(tmp_path: Path) -> None:
    deaths: asyncio.Queue[Death] = asyncio.Queue()
    async with running(plan(tmp_path), restart_dead=True, on_death=deaths.put_nowait) as cluster:
        victim = pids(cluster)[1]
        os.kill(victim, signal.SIGKILL)
        death = await asyncio.wait_for(deaths.get(), 20)
        assert death.restarted
        again = pids(cluster)[1]
        assert again != victim
        assert is_alive(again)


async def test_a_node_that_does_not_come_up_again_is_left_down_after_one_attempt(tmp_path: Path) -> None:
    deaths: asyncio.Queue[Death] = asyncio.Queue()
    async with running(plan(tmp_path), restart_dead=True, on_death=deaths.put_nowait) as cluster:
        (data(cluster, "n1") / "refuse").touch()
        os.kill(pids(cluster)[0], signal.SIGKILL)
        assert not (await asyncio.wait_for(deaths.get(), 20)).restarted
        assert (data(cluster, "n1") / "starts").read_text() == "1"


async def test_what_we_end_ourselves_is_no_death(tmp_path: Path) -> None:
    deaths: list[Death] = []
    async with running(plan(tmp_path), restart_dead=True, on_death=deaths.append) as cluster:
        await cluster.act("stop", "n1")
        await cluster.kill("n2")
        await cluster.act("restart", "n3")
        assert (cluster.pids["n1"], cluster.pids["n2"]) == (None, None)
    assert deaths == []


async def test_a_failed_start_says_what_the_node_said_and_leaves_no_process(tmp_path: Path) -> None:
    layout = plan(tmp_path)
    layout.nodes[1].data.mkdir(parents=True)
    (layout.nodes[1].data / "refuse").touch()
    cluster = LocalCluster(layout, command=FAKE_NODE)
    with pytest.raises(ClusterError, match="n2 did not start: kv: the disk is on holiday"):
        await cluster.start()
    assert set(cluster.pids.values()) == {None}


async def test_a_taken_port_is_one_clear_sentence_and_nothing_starts(tmp_path: Path) -> None:
    layout = plan(tmp_path)
    with socket.create_server(split_address(layout.nodes[1].http)), pytest.raises(UserError) as caught:
        await LocalCluster(layout, command=FAKE_NODE).start()
    assert (
        caught.value.message
        == f"{layout.nodes[1].http} is in use by another process: choose another --base-port, or 0 for free ones"
    )
    assert not layout.nodes[0].log.exists()


async def test_a_paused_node_is_stopped_by_the_kernel_and_goes_on_when_resumed(tmp_path: Path) -> None:
    async with running(plan(tmp_path, nodes=1)) as cluster:
        (pid,) = pids(cluster)
        assert (await cluster.act("pause", "n1"))["state"] == "paused"
        assert process_state(pid) == "T"
        assert (await cluster.act("resume", "n1"))["state"] == "running"
        assert process_state(pid) != "T"


async def test_bug_pause_returned_before_the_node_stood_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP was sent and not waited for: on a busy machine the "paused" node went on for a while."""
    looks: list[bool] = []
    gate = asyncio.Event()
    look = local_node.is_stopped

    def is_stopped(pid: int) -> bool:
        looks.append(gate.is_set() and look(pid))
        return looks[-1]

    monkeypatch.setattr(local_node, "is_stopped", is_stopped)
    async with running(plan(tmp_path, nodes=1)) as cluster:
        pausing = asyncio.create_task(cluster.act("pause", "n1"))
        await until(lambda: len(looks) > 2)
        assert not pausing.done()
        gate.set()
        assert (await pausing)["state"] == "paused"
        assert looks[-1] and not any(looks[:-1])


async def test_whether_a_node_stands_still_is_seen_without_taking_its_end_away(tmp_path: Path) -> None:
    async with running(plan(tmp_path, nodes=1)) as cluster:
        (pid,) = pids(cluster)
        assert not local_node.is_stopped(pid)
        await cluster.act("pause", "n1")
        assert local_node.is_stopped(pid) and local_node.is_stopped(pid)
        await cluster.act("resume", "n1")
        assert not local_node.is_stopped(pid)
    assert local_node.is_stopped(pid), "it has ended"
    assert (data(cluster, "n1") / "clean-stops").read_text() == "1"


async def test_a_paused_node_still_stops_cleanly(tmp_path: Path) -> None:
    async with running(plan(tmp_path, nodes=1)) as cluster:
        await cluster.act("pause", "n1")
    assert (data(cluster, "n1") / "clean-stops").read_text() == "1"


async def test_a_node_that_does_not_listen_is_killed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvstore.commands.local_node.STOP_GRACE_S", 0.1)
    layout = plan(tmp_path, nodes=1)
    layout.nodes[0].data.mkdir(parents=True)
    (layout.nodes[0].data / "deaf").touch()
    async with running(layout) as cluster:
        (pid,) = pids(cluster)
    assert not is_alive(pid)
    assert not (data(cluster, "n1") / "clean-stops").exists()


async def test_restart_starts_another_process_on_the_same_data(tmp_path: Path) -> None:
    async with running(plan(tmp_path)) as cluster:
        before = pids(cluster)[0]
        row = await cluster.act("restart", "n1")
        assert row["pid"] != before
        assert (data(cluster, "n1") / "starts").read_text() == "2"
        assert (data(cluster, "n1") / "clean-stops").read_text() == "1"


async def test_wipe_deletes_the_data_and_leaves_the_node_down_until_it_is_restarted(tmp_path: Path) -> None:
    async with running(plan(tmp_path)) as cluster:
        assert (await cluster.act("wipe", "n3"))["state"] == "down"
        assert not data(cluster, "n3").exists()
        await cluster.act("restart", "n3")
        assert (data(cluster, "n3") / "starts").read_text() == "1"


@pytest.mark.parametrize(("action", "node"), [("pause", "n9"), ("explode", "n1")])
async def test_an_unknown_node_or_action_is_refused_with_what_there_is(tmp_path: Path, action: str, node: str) -> None:
    cluster = LocalCluster(plan(tmp_path), command=FAKE_NODE)
    with pytest.raises(UserError, match=r"did you mean|valid here"):
        await cluster.act(action, node)


async def test_a_node_that_is_down_cannot_be_paused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="n1 is not running: kv dev restart n1"):
        await LocalCluster(plan(tmp_path), command=FAKE_NODE).act("pause", "n1")


async def test_the_cluster_file_names_the_processes_that_run(tmp_path: Path) -> None:
    async with running(plan(tmp_path)) as cluster:
        rows = json.loads((tmp_path / CLUSTER_FILE).read_text())["nodes"]
        assert {row["id"]: row["pid"] for row in rows} == cluster.pids
        await cluster.kill("n2")
        rows = json.loads((tmp_path / CLUSTER_FILE).read_text())["nodes"]
        assert [row["state"] for row in rows] == ["running", "down", "running"]
