from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from kvchaos.targets import etcd_binary
from tests.bench import ours
from tests.bench.etcd_cluster import MEMBERS, member_command, start_cluster
from tests.bench.facts import filesystem, gather_facts, interpreter
from tests.bench.processes import BenchError, cpu_seconds, free_ports, read_line, send_signal, start, stop
from tests.bench.raw_leveldb import BATCH_PUTS, RawLevelDB
from tests.bench.workload import Workload

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
KV = """#!{python}
import json, signal, subprocess, sys
assert sys.argv[1:3] == ["dev", "--nodes"] and sys.argv[4:6] == ["--base-port", "0"], sys.argv
nodes = [subprocess.Popen(["sleep", "60"]) for _ in range(int(sys.argv[3]))]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
ready = [{{"id": f"n{{i}}", "address": f"h:{{i}}", "pid": node.pid}} for i, node in enumerate(nodes)]
print(json.dumps({{"event": "ready", "nodes": ready}}), flush=True)
signal.sigwait([signal.SIGTERM])
for node in nodes:
    node.terminate()
    node.wait()
"""


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def fake_etcd_binary(path: Path, version: str) -> Path:
    return executable(path, f"echo 'etcd Version: {version}'\necho 'Git SHA: 0'")


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No Go and no etcd, an empty cache."""
    monkeypatch.delenv("KV_BENCH_ETCD", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("kvchaos.targets.etcd_binary.shutil.which", lambda name: None)
    return tmp_path


def test_without_go_and_etcd_the_reason_is_given(bare_machine: Path) -> None:
    with pytest.raises(BenchError, match="neither Go"):
        etcd_binary.find_etcd()


def test_the_machines_own_etcd_is_used_with_its_version_when_none_can_be_built(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = fake_etcd_binary(bare_machine / "bin" / "etcd", "3.4.30")
    monkeypatch.setattr("kvchaos.targets.etcd_binary.shutil.which", lambda name: str(own) if name == "etcd" else None)
    assert etcd_binary.find_etcd() == etcd_binary.EtcdBinary(own, "3.4.30")


def test_a_built_etcd_is_used_again_and_a_named_one_wins(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = fake_etcd_binary(etcd_binary.cache_folder() / "etcd", "3.6.16")
    assert etcd_binary.find_etcd().path == built
    named = fake_etcd_binary(bare_machine / "other", "3.7.0")
    monkeypatch.setenv("KV_BENCH_ETCD", str(named))
    assert etcd_binary.find_etcd() == etcd_binary.EtcdBinary(named, "3.7.0")


def test_what_is_no_etcd_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "etcd"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(BenchError, match="not an etcd version"):
        etcd_binary.read_version(other)
    with pytest.raises(BenchError, match="does not run"):
        etcd_binary.read_version(tmp_path / "nothing")


def test_a_failed_build_says_why_and_leaves_nothing_behind(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = bare_machine / "bin" / "go"
    go.parent.mkdir()
    go.write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")
    with pytest.raises(BenchError, match="no network"):
        etcd_binary.build(etcd_binary.cache_folder() / "etcd")
    assert list(etcd_binary.cache_folder().iterdir()) == []


def test_every_member_knows_every_other_and_syncs_its_log() -> None:
    binary = etcd_binary.EtcdBinary(Path("etcd"), "3.6.16")
    commands = [member_command(binary, Path("d"), member=i, clients=[1, 2, 3], peers=[4, 5, 6]) for i in range(MEMBERS)]
    assert len({command[command.index("--initial-cluster") + 1] for command in commands}) == 1
    assert {command[command.index("--listen-client-urls") + 1] for command in commands} == {
        f"http://127.0.0.1:{i}" for i in (1, 2, 3)
    }
    assert not any("unsafe-no-fsync" in argument for command in commands for argument in command)


async def test_a_member_that_cannot_start_is_reported_and_nothing_is_left_running(tmp_path: Path) -> None:
    broken = etcd_binary.EtcdBinary(Path("/bin/false"), "0")
    with pytest.raises(BenchError, match="a member ended while starting"):
        await start_cluster(broken, tmp_path / "etcd")


async def test_kv_dev_is_started_as_a_user_would_and_its_nodes_can_be_paused_and_stopped(tmp_path: Path) -> None:
    command = tmp_path / "kv"
    command.write_text(KV.format(python=sys.executable))
    command.chmod(0o755)
    cluster = await ours.start_cluster(tmp_path / "cluster", nodes=3, command=command)
    assert cluster.addresses == ["h:0", "h:1", "h:2"]
    cluster.pause([1])
    await until(lambda: [state(pid) for pid in cluster.pids] == ["S", "T", "S"])
    cluster.resume()
    await until(lambda: [state(pid) for pid in cluster.pids] == ["S", "S", "S"])
    await cluster.stop()
    assert [state(pid) for pid in cluster.pids] == ["gone"] * 3


async def test_without_the_kv_command_the_reason_is_given(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="kv command is not installed"):
        await ours.start_cluster(tmp_path / "cluster", nodes=3, command=tmp_path / "kv")


async def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = await start([sys.executable, "-c", STUBBORN], log=log, talks=True)
    assert await read_line(process, timeout_s=20, what="stubborn", log=log) == b"on\n"
    log.write_text("busy\nstill busy\n\n")
    with pytest.raises(BenchError, match=r"stubborn: no answer within 0 s \(still busy\)"):
        await read_line(process, timeout_s=0.01, what="stubborn", log=log)
    assert not await stop(process, patience_s=0.01)
    assert process.returncode == -signal.SIGKILL
    send_signal([process.pid], signal.SIGCONT)
    assert await stop(process)


def test_free_ports_differ_and_cpu_time_of_the_gone_counts_nothing() -> None:
    assert len(set(free_ports(6))) == 6
    assert cpu_seconds([2**22 + 1]) == 0.0
    if Path("/proc/self/stat").exists():
        assert cpu_seconds([os.getpid()]) > 0.0


def test_raw_leveldb_writes_whole_batches_of_the_same_keys(tmp_path: Path) -> None:
    workload = Workload(keys=500)
    raw = RawLevelDB(tmp_path / "raw", workload)
    rate = raw.measure_puts_per_s(seconds=0.05, seed="s")
    assert rate >= BATCH_PUTS
    assert sorted(key for key, _ in raw._database) == workload.keys
    raw.close()


def test_the_filesystem_is_that_of_the_longest_mount_point_above(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    mounts = f"dev / ext4 rw 0 0\ntmp {tmp_path / 'a'} tmpfs rw 0 0\ndev /elsewhere xfs rw 0 0\n"
    assert filesystem(inner, mounts) == "tmpfs"
    assert filesystem(tmp_path, mounts) == "ext4"
    assert filesystem(tmp_path, "") == "an unknown filesystem"
    assert json.dumps(gather_facts(inner, rounds=3, seconds=3.0))


@pytest.mark.parametrize(
    ("config_args", "base_prefix", "build"),
    [
        ("'--prefix=/opt/x' '--enable-optimizations' '--with-lto'", "/opt/x", "an optimised build"),
        ("'--enable-shared' '--prefix=/usr'", "/usr", "its distribution's build"),
        ("'--enable-shared'", "/opt/x", "built without --enable-optimizations: slower than most"),
    ],
)
def test_a_table_says_how_its_interpreter_was_built(config_args: str, base_prefix: str, build: str) -> None:
    assert interpreter(config_args, base_prefix).endswith(f"({build})")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


async def until(condition: object, timeout_s: float = 10.0) -> None:
    assert callable(condition)
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
