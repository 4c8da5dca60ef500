"""The table of exit codes, each brought about by a real `kv` process."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvclient.cli.exit_codes import ExitCode
from tests.house.repository import ROOT
from tests.support.kv_processes import DevCluster, environment, run_kv, start_kv


def code(cluster: DevCluster, *words: str) -> int:
    return run_kv("--at", cluster.at, *words).returncode


@pytest.fixture
def paused(cluster: DevCluster) -> Iterator[DevCluster]:
    """The cluster with one of its three nodes standing still: its connections hold, and it answers nothing."""
    cluster.act("pause", "n2")
    yield cluster
    cluster.act("resume", "n2")
    assert run_kv("--at", cluster.at, "status", "--wait", "converged", "--timeout", "30").returncode == 0


def test_0_done(cluster: DevCluster) -> None:
    assert code(cluster, "put", "done", "1") == 0
    assert code(cluster, "del", "was-never-there") == 0
    assert code(cluster, "status", "--wait", "converged", "--timeout", "30") == 0


def test_1_internal_error(tmp_path: Path) -> None:
    # A command that another distribution has added, with a bug.
    (tmp_path / "buggy.py").write_text(
        "import click\n@click.command()\ndef buggy():\n    'Fails.'\n    raise RuntimeError('bug')\n"
    )
    metadata = tmp_path / "buggy-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[kv.commands]\nbuggy = buggy:buggy\n")
    ended = run_kv("buggy", PYTHONPATH=f"{environment()['PYTHONPATH']}:{tmp_path}")
    assert ended.returncode == 1
    assert ended.stderr.endswith(b"kv: internal error: RuntimeError: bug\n")


def test_2_wrong_usage_or_refused_input(cluster: DevCluster, tmp_path: Path) -> None:
    assert code(cluster, "put", "only-a-key") == 2
    assert code(cluster, "frobnicate") == 2
    assert code(cluster, "get", "k", "-n", "no-such-namespace") == 2
    assert code(cluster, "put", "k", "1", "--if-absent") == 2, "a condition outside of linearizable namespaces"
    assert code(cluster, "cas", "k", "1", "2") == 2
    (tmp_path / "node.toml").write_text("nodeid = 'n1'\n")
    assert run_kv("serve", "--config", str(tmp_path / "node.toml")).returncode == 2


def test_3_not_found(cluster: DevCluster) -> None:
    code(cluster, "put", "is-there", "1")
    assert code(cluster, "get", "is-not-there") == 3
    assert code(cluster, "get", "is-there", "is-not-there") == 3


def test_4_siblings_need_resolving(cluster: DevCluster) -> None:
    for value in ("apples", "pears"):
        assert code(cluster, "put", "cart", value, "--context", "") == 0
    assert code(cluster, "get", "cart") == 4


def test_4_a_condition_failed(cluster: DevCluster) -> None:
    assert code(cluster, "-n", "orders", "put", "17", "open", "--if-absent") == 0
    assert code(cluster, "-n", "orders", "put", "17", "open", "--if-absent") == 4
    assert code(cluster, "-n", "orders", "cas", "17", "open", "paid") == 0
    assert code(cluster, "-n", "orders", "cas", "17", "open", "paid") == 4
    assert code(cluster, "-n", "orders", "decr", "stock", "--min", "0") == 4


def test_lock_ends_with_the_commands_own_code_and_5_if_it_was_not_had(cluster: DevCluster) -> None:
    patient = ("--timeout", "30")
    assert code(cluster, "-n", "orders", "lock", "job", *patient, "--", "sh", "-c", "exit 3") == 3
    holder = start_kv(
        "--at", cluster.at, "-n", "orders", "lock", "job", "--", "sh", "-c", "echo held $KV_LOCK_TOKEN; exec sleep 60"
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().startswith(b"held ")
    assert code(cluster, "-n", "orders", "lock", "job", "--timeout", "0.3", "--", "true") == 5
    holder.send_signal(signal.SIGTERM)
    holder.communicate(timeout=30)
    assert holder.returncode == 128 + signal.SIGTERM
    assert code(cluster, "-n", "orders", "lock", "job", *patient, "--", "true") == 0, "it was given back"


def test_5_unavailable_and_certainly_not_applied(paused: DevCluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run_kv("--at", nobody, "put", "k", "1", "--timeout", "0.3").returncode == 5
    assert code(paused, "get", "k", "--level", "all", "--timeout", "0.5") == 5
    assert code(paused, "status", "--wait", "converged", "--timeout", "0.5") == 5


def test_6_outcome_unknown(paused: DevCluster) -> None:
    assert code(paused, "put", "perhaps", "1", "--level", "all", "--timeout", "0.7") == 6


def test_7_not_allowed(tmp_path: Path) -> None:
    with DevCluster(tmp_path / "cluster", "--nodes", "1", "--tls") as secured:
        assert code(secured, "put", "k", "1") == 7, "without TLS"
        tls = tmp_path / "cluster" / "tls"
        ca = ("--ca", str(tls / "ca.pem"))
        assert code(secured, *ca, "put", "k", "1") == 7, "without a certificate"
        assert code(secured, *ca, "--cert", str(tls / "client.pem"), "--key", str(tls / "client.key"), "put", "k", "1") == 0


def test_8_a_checked_promise_was_broken() -> None:
    small = ROOT / "tests" / "simulation" / "planted" / "ack-before-quorum.json"
    assert run_kv("sim", "run", "--schedule", str(small), "--bug", "ack-before-quorum").returncode == 8


def test_9_inconclusive(tmp_path: Path) -> None:
    # The only client is cut off from every node: nothing is answered, so no promise is tried.
    cut = ", ".join(f'[0, "cut", {{"source": "c1", "target": "n{node}"}}, 0]' for node in (1, 2, 3))
    schedule = tmp_path / "cut.json"
    schedule.write_text(f'{{"seed": 1, "clients": 1, "faults": [{cut}], "operations": [[0, 50, "put", "k", "w1"]]}}')
    assert run_kv("sim", "run", "--schedule", str(schedule)).returncode == 9


def test_130_interrupted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        getting = start_kv("--at", f"127.0.0.1:{silent.getsockname()[1]}", "get", "k", "--timeout", "50")
        silent.settimeout(30)
        connection, _ = silent.accept()  # it waits for an answer now
        getting.send_signal(signal.SIGINT)
        out, err = getting.communicate(timeout=30)
        connection.close()
    assert (getting.returncode, out, err) == (130, b"", b"kv: interrupted\n")


def test_no_other_code_exists() -> None:
    assert sorted(ExitCode) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130]
