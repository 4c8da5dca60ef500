"""cas, lock and conditions, as people and programs see them: on the fake of `kvclient.testing`, and lock with real processes."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from kvclient.cli import connection
from kvclient.cli.conditional import run_holding
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore
from kvproto.errors import DeadlineExceeded, NotAllowed, QuorumUnreachable
from tests.cli.conftest import Kv
from tests.support.waiting import turns, until


@pytest.fixture
def cluster() -> FakeStore:
    return FakeStore(namespaces={"orders": "pc-ec"})


@pytest.fixture
def failures() -> list[Any]:
    """What the next clients are told to fail with: arguments of `fail_next`."""
    return []


@pytest.fixture
def kv_there(kv: Kv, cluster: FakeStore, failures: list[Any], monkeypatch: pytest.MonkeyPatch) -> Kv:
    def connect(at: str, **options: Any) -> AbstractAsyncContextManager[Any]:
        client = FakeAsyncClient(store=cluster, **options)
        for error in failures:
            client.fail_next(error)
        return client

    monkeypatch.setattr(connection, "connect", connect)
    return lambda *words, **streams: kv("-n", "orders", *words, **streams)


def test_cas_takes_one_value_for_another_and_else_ends_4_with_what_is_there(kv_there: Kv) -> None:
    assert kv_there("put", "k", "1", "--if-absent").code == 0
    done = kv_there("cas", "k", "1", "2")
    assert (done.code, done.text) == (0, "stored k (2 of 3 replicas, on disk)\n")
    failed = kv_there("cas", "k", "1", "3")
    assert (failed.code, failed.stdout) == (4, b"")
    assert failed.stderr.splitlines()[1].startswith("    k holds 2, version ")
    (row,) = kv_there("get", "k", "-o", "json").rows
    error = kv_there("cas", "k", "1", "3", "-o", "json").error
    assert (error["code"], error["may_have_applied"], error["retryable"]) == ("CONDITION_FAILED", False, False)
    assert (error["found"], error["value"], error["version"], error["expires_at"]) == (True, "2", row["version"], None)
    assert kv_there("cas", "k", "2", "-", stdin=b"\xff\x00").code == 0
    assert kv_there("get", "k", "-o", "raw").stdout == b"\xff\x00"
    assert kv_there("cas", "k", "1", "2", "-o", "json").error["value_base64"] == "/wA="


def test_what_a_condition_misses_is_told(kv_there: Kv) -> None:
    failed = kv_there("cas", "missing", "1", "2")
    assert failed.code == 4 and failed.stderr.endswith("    missing has no value\n")
    error = kv_there("put", "missing", "1", "--if-version", "00" * 20, "-o", "json").error
    assert (error["found"], error["value"], error["version"]) == (False, None, None)


def test_versions_are_conditions_of_put_del_and_touch(kv_there: Kv) -> None:
    first = kv_there("put", "k", "1", "-o", "raw").text.strip()
    second = kv_there("put", "k", "2", "--if-version", first, "-o", "raw").text.strip()
    for command in (["put", "k", "3"], ["del", "k"], ["touch", "k", "--ttl", "60"]):
        assert kv_there(*command, "--if-version", first).code == 4
        assert kv_there(*command, "--if-version", "00").code == 2
    assert kv_there("del", "k", "other", "--if-version", second).code == 2
    assert kv_there("touch", "k", "--ttl", "60", "--if-version", second).code == 0
    assert kv_there("get", "k", "-o", "json").rows[0]["expires_at"] is not None
    assert kv_there("del", "k", "--if-version", second).code == 0


def test_a_counter_in_a_linearizable_namespace_keeps_its_bounds(kv_there: Kv) -> None:
    assert kv_there("incr", "stock", "2").stdout == b"2\n"
    assert kv_there("decr", "stock", "2", "--min", "0").stdout == b"0\n"
    sold_out = kv_there("decr", "stock", "--min", "0")
    assert (sold_out.code, sold_out.stdout) == (4, b"") and "stock holds 0" in sold_out.stderr
    assert kv_there("incr", "stock", "9", "--max", "8", "-o", "json").error["value"] == "0"
    assert kv_there("get", "stock").stdout == b"0\n"


def test_levels_of_the_other_mode_end_2(kv_there: Kv) -> None:
    assert kv_there("get", "k", "--level", "timeline").code == 3
    assert kv_there("get", "k", "--bound-ms", "50").code == 3
    for options in (["--level", "quorum"], ["--level", "atomic"], ["--sloppy"], ["--r", "2"]):
        assert kv_there("get", "k", *options).code == 2
    assert kv_there("get", "k", "-n", "default", "--level", "linearizable").code == 2
    assert kv_there("get", "k", "-n", "default", "--level", "zone_quorum", "--no-sloppy").code == 3


# Locks.

SHOW = "import os, sys; print(os.environ['KV_LOCK_TOKEN']); sys.exit(int(sys.argv[1]))"


def test_lock_ends_with_the_commands_own_code_and_tells_it_a_growing_token(
    kv_there: Kv, capfd: pytest.CaptureFixture[str], cluster: FakeStore
) -> None:
    codes = [kv_there("lock", "job", "--", sys.executable, "-c", SHOW, str(code)).code for code in (0, 3, 7)]
    tokens = [int(line) for line in capfd.readouterr().out.split()]
    assert codes == [0, 3, 7] and tokens == sorted(set(tokens)) and len(tokens) == 3
    assert kv_there("get", "job").code == 3, "it was given back"


def test_a_command_that_a_signal_ended_ends_as_in_a_shell(kv_there: Kv) -> None:
    kill_itself = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert kv_there("lock", "job", "--", sys.executable, "-c", kill_itself).code == 128 + 9
    assert kv_there("get", "job").code == 3


def test_a_lock_that_was_not_had_ends_5_and_runs_nothing(kv_there: Kv, tmp_path: Path, failures: list[Any]) -> None:
    mark = tmp_path / "mark"
    touch = [sys.executable, "-c", f"open({str(mark)!r}, 'w')"]
    kv_there("put", "job", "somebody")
    held = kv_there("lock", "job", "--timeout", "0.2", "--", *touch)
    assert held.code == 5 and "somebody else holds the lock 'job'" in held.stderr
    assert kv_there("lock", "job", "--timeout", "0.2", "-o", "json", "--", *touch).error["code"] == "UNAVAILABLE"
    failures.append(QuorumUnreachable)
    assert kv_there("lock", "free", "--", *touch).code == 5
    failures[:] = [DeadlineExceeded("no time left", may_have_applied=True)] * 20
    assert kv_there("lock", "free", "--timeout", "0.1", "--", *touch).code == 5, "not known is not had"
    assert not mark.exists()


def test_lock_refuses_what_it_cannot_do_before_it_takes_anything(kv_there: Kv, failures: list[Any]) -> None:
    assert kv_there("lock", "job").code == 2
    missing = kv_there("lock", "job", "--", "no-such-command-anywhere")
    assert missing.code == 2 and "no-such-command-anywhere" in missing.stderr
    assert kv_there("lock", "job", "-n", "default", "--", sys.executable, "-c", "").code == 2, "no consensus"
    failures.append(NotAllowed)
    assert kv_there("lock", "job", "--", sys.executable, "-c", "").code == 7
    assert kv_there("get", "job", "-n", "orders").code != 0


WAIT = "import time; time.sleep(60)"


def test_a_command_whose_lease_is_lost_is_told_to_end(kv_there: Kv, cluster: FakeStore) -> None:
    with FakeClient(store=cluster) as other:
        orders = other.namespace("orders")
        real = cluster.execute

        def execute(index: int, group: Any, node: str) -> Any:
            """Somebody deletes the record of the lock before it is renewed."""
            if group.kind.name == "TOUCH":
                cluster._registers.held.clear()
            return real(index, group, node)

        cluster.execute = execute  # type: ignore[method-assign]
        lost = kv_there("lock", "job", "--lease", "0.6", "--", sys.executable, "-c", WAIT)
        assert (lost.code, lost.stderr) == (
            128 + signal.SIGTERM,
            f"kv: the lease of the lock job is lost: {sys.executable} is told to end\n",
        )
        assert not orders.get("job").found


def test_lock_works_in_the_shell_too(kv_there: Kv, capfd: pytest.CaptureFixture[str]) -> None:
    line = shlex.join(["lock", "job", "--", sys.executable, "-c", SHOW, "3"])
    ended = kv_there("shell", stdin=f"{line}\nget job\n".encode())
    assert ended.code == 3 and ended.stderr == "kv: job has no value\n"
    assert int(capfd.readouterr().out) > 0


class Held:
    """A lease that nobody takes away."""

    token = 7

    def __init__(self) -> None:
        self.lost = asyncio.Event()


REPORT = (
    "import os, signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), open(sys.argv[2], 'w').close(), sys.exit(9)))\n"
    "open(sys.argv[1], 'w').close()\n"
    "time.sleep(60)\n"
)
"""Says in the first file that it has begun, and in the second, a while after SIGTERM, that it has ended."""


async def test_who_is_told_to_end_tells_the_command_and_waits_for_its_end(tmp_path: Path) -> None:
    """Whoever has the lock next must not find it running."""
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    command = [sys.executable, "-c", REPORT, str(begun), str(ended)]
    before = signal.getsignal(signal.SIGTERM)
    running = asyncio.ensure_future(run_holding(command, Held(), name="job"))
    await until(begun.exists)
    assert signal.getsignal(signal.SIGTERM) is not before, "else this would be the end of the tests"
    signal.raise_signal(signal.SIGTERM)
    assert await running == 9 and ended.exists()
    assert signal.getsignal(signal.SIGTERM) is before


async def test_who_is_interrupted_waits_for_the_end_of_the_command_all_the_same(tmp_path: Path) -> None:
    """At a terminal Ctrl-C reaches both; here the command is told by hand."""
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    running = asyncio.ensure_future(run_holding([sys.executable, "-c", REPORT, str(begun), str(ended)], Held(), name="job"))
    await until(begun.exists)
    running.cancel()
    await turns()
    assert not running.done()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.exists()
