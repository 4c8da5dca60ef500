"""Faults of processes take, are seen, and are the plane's failure when they do not; here over stand-ins for the nodes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvchaos.processes import FaultFailed, ProcessPlane, RestartFailed
from tests.commands.conftest import is_alive, process_state
from tests.support.waiting import until

FAKE_DEV = (sys.executable, str(Path(__file__).parents[1] / "commands" / "fake_dev.py"))


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessPlane]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    async with ProcessPlane(tmp_path / "cluster", command=FAKE_DEV) as running:
        yield running


async def test_killed_nodes_are_dead_when_kill_returns_and_alive_when_restart_does(plane: ProcessPlane) -> None:
    before = [plane.pid(node) for node in ("n1", "n3")]
    await plane.kill("n1", "n3")
    assert [is_alive(pid) for pid in before] == [False, False]
    assert is_alive(plane.pid("n2"))
    await plane.restart("n1", "n3")
    after = [plane.pid(node) for node in ("n1", "n3")]
    assert set(before).isdisjoint(after)
    assert all(is_alive(pid) for pid in after)
    assert sorted((event.name, event.node) for event in plane.events) == [
        ("kill", "n1"),
        ("kill", "n3"),
        ("restart", "n1"),
        ("restart", "n3"),
    ]


async def test_pause_and_resume(plane: ProcessPlane) -> None:
    await plane.pause("n2")
    assert process_state(plane.pid("n2")) == "T"
    await plane.resume("n2")
    assert process_state(plane.pid("n2")) != "T"


async def test_wipe_leaves_a_node_down_and_without_data(plane: ProcessPlane) -> None:
    data = plane.root / "n1" / "data"
    assert data.is_dir()
    await plane.wipe("n1")
    assert not data.exists()
    assert not is_alive(plane.pid("n1"))


async def test_a_fault_on_a_node_that_is_not_there_fails_the_run(plane: ProcessPlane) -> None:
    with pytest.raises(FaultFailed, match="n9"):
        await plane.pause("n9")
    await plane.kill("n1")
    with pytest.raises(FaultFailed, match="kill n1"):
        await plane.kill("n1")


async def test_a_node_that_does_not_start_again_is_told_from_a_fault_that_did_not_take(plane: ProcessPlane) -> None:
    await plane.kill("n2")
    (plane.root / "n2" / "data" / "refuse").touch()
    with pytest.raises(RestartFailed, match="n2 did not start"):
        await plane.restart("n2")


async def test_nothing_is_left_when_the_plane_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    async with ProcessPlane(tmp_path / "cluster", command=FAKE_DEV) as plane:
        pids = [plane.pid(node) for node in plane.node_ids]
    assert not [pid for pid in pids if is_alive(pid)]


async def test_a_cluster_that_does_not_come_up_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    (tmp_path / "cluster" / "n1" / "data").mkdir(parents=True)
    (tmp_path / "cluster" / "n1" / "data" / "refuse").touch()
    with pytest.raises(FaultFailed, match="n1 did not start"):
        async with ProcessPlane(tmp_path / "cluster", command=FAKE_DEV):
            pass


OWNER = """
import asyncio, sys
from pathlib import Path
from kvchaos.processes import ProcessPlane

async def main():
    async with ProcessPlane(Path(sys.argv[1]), command=sys.argv[2:]) as plane:
        print(*(plane.pid(node) for node in plane.node_ids), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_bug_a_cluster_outlived_the_run_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test run that was ended by its time limit left its nodes, which then ran for ever."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tmp_path / "cluster"), *FAKE_DEV), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pids = [int(word) for word in (await owner.stdout.readline()).split()]
    assert len(pids) == 3 and all(map(is_alive, pids))
    owner.kill()
    await owner.wait()
    await until(lambda: not any(map(is_alive, pids)), timeout_s=30)
