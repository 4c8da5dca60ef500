"""`kv dev` as programs and people use it: one ready line, actions from another process, and a clean end however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import is_alive

FAKE_DEV = (sys.executable, str(Path(__file__).with_name("fake_dev.py")))
TIMEOUT_S = 30


class Dev:
    """A running `kv dev -o json`; its lines are read in order."""

    def __init__(self, *arguments: str, stdin: int | None = None) -> None:
        command = [*FAKE_DEV, "-o", "json", "--base-port", "0", *arguments]
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.ready = self.event()

    def event(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line, "kv dev ended without a word"
        found: dict[str, Any] = json.loads(line)
        return found

    def pids(self) -> list[int]:
        return [node["pid"] for node in self.ready["nodes"]]

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, err


def act(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FAKE_DEV, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    running = Dev("--data", str(tmp_path / "cluster"))
    yield running
    if running.process.poll() is None:
        running.end()


def test_the_ready_line_is_the_contracts(dev: Dev, tmp_path: Path) -> None:
    assert dev.ready["event"] == "ready"
    assert [node["id"] for node in dev.ready["nodes"]] == ["n1", "n2", "n3"]
    for node in dev.ready["nodes"]:
        assert {"id", "address", "http", "pid", "data", "config"} <= node.keys()
        assert is_alive(node["pid"])
        assert Path(node["config"]).is_file()
        assert Path(node["data"]).is_relative_to(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_node_and_the_command_cleanly(dev: Dev, number: signal.Signals) -> None:
    code, err = dev.end(number)
    assert (code, err) == (0, "")
    assert not [pid for pid in dev.pids() if is_alive(pid)]


def test_a_cluster_ends_cleanly_when_whoever_started_it_is_gone(tmp_path: Path) -> None:
    dev = Dev("--data", str(tmp_path / "cluster"), "--stop-with-parent", stdin=subprocess.PIPE)
    dev.process.communicate(timeout=TIMEOUT_S)  # closes its standard input and nothing else
    assert dev.process.returncode == 0
    assert not [pid for pid in dev.pids() if is_alive(pid)]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only a pidfd can be waited for without being the parent")
def test_nodes_end_even_when_the_command_itself_is_killed(dev: Dev) -> None:
    # A pidfd can be waited for without being the parent.
    handles = [os.pidfd_open(pid) for pid in dev.pids()]
    dev.process.kill()
    dev.process.communicate(timeout=TIMEOUT_S)
    import select

    waiting = select.poll()
    for handle in handles:
        waiting.register(handle, select.POLLIN)
    ended: set[int] = set()
    while len(ended) < len(handles):
        events = waiting.poll(TIMEOUT_S * 1000)
        assert events, "a node outlived kv dev"
        for handle, _ in events:
            ended.add(handle)
            waiting.unregister(handle)
    for handle in handles:
        os.close(handle)


def test_a_dead_node_is_an_event_and_a_sentence_and_stays_down(dev: Dev) -> None:
    victim = dev.pids()[1]
    os.kill(victim, signal.SIGKILL)
    assert dev.event() == {"event": "died", "node": "n2", "pid": victim, "code": -9, "restarted": False}
    assert [is_alive(pid) for pid in dev.pids()] == [True, False, True]
    code, err = dev.end()
    assert code == 0
    assert f"n2 (pid {victim}) was killed by signal 9; left down: kv dev restart n2 --data" in err


def test_nodes_are_acted_on_from_another_process(dev: Dev) -> None:
    root = ("--data", dev.ready["data"])
    assert "n1 is down" in act("stop", "n1", *root).stdout
    assert not is_alive(dev.pids()[0])
    row = json.loads(act("restart", "n1", *root, "-o", "json").stdout)
    assert (row["event"], row["state"]) == ("restart", "running")
    assert is_alive(row["pid"])
    assert "n2 is paused" in act("pause", "n2", *root).stdout
    assert "n2 is running" in act("resume", "n2", *root).stdout
    assert "n3 is down" in act("wipe", "n3", *root).stdout
    assert dev.end()[0] == 0
    assert not is_alive(row["pid"])


def test_bug_a_node_that_did_not_start_was_told_as_unavailable_to_another_process(dev: Dev) -> None:
    """`kv dev` itself ends with 2 then; who had asked for the restart ended with 5 and was told to try again."""
    (Path(dev.ready["nodes"][0]["data"]) / "refuse").touch()
    done = act("restart", "n1", "--data", dev.ready["data"], "-o", "json")
    assert done.returncode == 2
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["retryable"]) == ("CLUSTER_REFUSED", False)
    assert "n1 did not start: kv: the disk is on holiday" in error["message"]


def test_a_second_command_on_the_same_directory_is_refused(dev: Dev) -> None:
    second = act("--base-port", "0", "--data", dev.ready["data"])
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert f"already (pid {dev.process.pid})" in second.stderr
    assert all(is_alive(pid) for pid in dev.pids())


def test_a_cluster_comes_up_again_as_it_was(dev: Dev) -> None:
    dev.end()
    again = Dev("--data", dev.ready["data"])
    try:
        assert again.ready["cluster_id"] == dev.ready["cluster_id"]
        assert (Path(again.ready["nodes"][0]["data"]) / "starts").read_text() == "2"
    finally:
        again.end()


def test_without_data_nothing_is_left_on_disk() -> None:
    dev = Dev("--nodes", "1")
    root = Path(dev.ready["data"])
    assert root.is_dir()
    dev.end()
    assert not root.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("stop", "n1", "--data", "{tmp}"), "no kv dev is running on"),
        (("stop", "n1"), "--data DIR is needed"),
        (("--nodes", "0"), "--nodes"),
        (("--preset", "pa-xx"), "--preset"),
    ],
)
def test_what_cannot_be_done_is_refused_with_2(tmp_path: Path, arguments: tuple[str, ...], word: str) -> None:
    done = act(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stdout == ""


def test_an_unknown_node_is_refused_with_those_there_are(dev: Dev) -> None:
    done = act("stop", "n7", "--data", dev.ready["data"], "-o", "json")
    assert done.returncode == 2
    error = json.loads(done.stderr)["error"]
    assert error["code"] == "BAD_REQUEST"
    assert "'n7'" in error["message"]
