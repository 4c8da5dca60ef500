"""Ctrl-C in the middle of a scenario: what stands still goes on and ends, and neither a process nor a folder is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.conftest import is_alive, process_state
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(120, func_only=True), pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

INTERRUPTED = 130


def descendants(pid: int) -> Iterator[int]:
    """Children, their children, and so on."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            yield int(entry.name)
            yield from descendants(int(entry.name))


def stands_still(pid: int) -> bool:
    try:
        return process_state(pid) == "T"
    except OSError:  # it has ended meanwhile
        return False


async def test_ctrl_c_ends_a_run_while_a_node_stands_still(toxiproxy_server: Path, tmp_path: Path) -> None:
    scratch, err = tmp_path / "scratch", tmp_path / "progress"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    kv = [sys.executable, "-P", "-c", "from kvclient.cli.main import run_process; run_process()"]
    command = [*kv, "chaos", "run", "F8", "--seed", "3", "--preset", "pa-ec"]
    with err.open("wb") as progress:
        run = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.DEVNULL, stderr=progress, start_new_session=True
        )
    try:
        # Toxiproxy with its keeper, and three nodes, of which one is stopped.
        await until(lambda: run.returncode is not None or any(map(stands_still, descendants(run.pid))), timeout_s=60)
        there = list(descendants(run.pid))
        assert len(there) >= 5
        run.send_signal(signal.SIGINT)
        async with asyncio.timeout(40):
            await run.wait()
    finally:
        if run.returncode is None:
            run.kill()
            await run.wait()
    assert run.returncode == INTERRUPTED, err.read_text()
    await until(lambda: not any(map(is_alive, there)), timeout_s=10)
    assert list(scratch.iterdir()) == []
    assert "Traceback" not in err.read_text()
