"""Processes of these tests find the packages where the tests do, and each test ends with none of them left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvstore.commands.local_cluster import Death, LocalCluster
from kvstore.commands.local_layout import ClusterLayout, plan_layout
from kvstore.runtime import system_random

FAKE_NODE = (sys.executable, str(Path(__file__).with_name("fake_node.py")))


@pytest.fixture(autouse=True)
def packages_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def plan(root: Path, nodes: int = 3) -> ClusterLayout:
    return plan_layout(root, nodes=nodes, base_port=0, preset=None, rng=system_random())


@asynccontextmanager
async def running(
    layout: ClusterLayout, *, restart_dead: bool = False, on_death: Callable[[Death], None] | None = None
) -> AsyncIterator[LocalCluster]:
    cluster = LocalCluster(layout, command=FAKE_NODE, restart_dead=restart_dead, on_death=on_death)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs; one that has ended but is not reaped yet does not."""
    try:
        return process_state(pid) not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def process_state(pid: int) -> str:
    """The letter that the system's process table shows: T is stopped, Z has ended and is not reaped."""
    if Path("/proc/self/stat").exists():
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    shown = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    if not shown:
        raise ProcessLookupError(pid)
    return shown[0]
