"""`kv` between other programs: pipes that close, input that ends midway, processes that are killed, outputs larger than memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from kvclient.cli.load import BATCH_ROWS_MAX
from kvclient.cli.progress_file import SUFFIX
from kvclient.cli.transfer_rows import Row, decode_row
from tests.support.kv_processes import KV, TIMEOUT_S, DevCluster, environment, run_kv, start_kv

LINES = 5 * BATCH_ROWS_MAX


def sh(script: str, cluster: DevCluster, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """A script in which `kv` is a command and talks to the cluster; it ends with the first failing part of a pipe."""
    function = f'kv() {{ "{KV[0]}" -m kvclient.cli.main "$@"; }}; set -o pipefail; '
    told = environment(KV_AT=cluster.at)
    return subprocess.run(
        ["bash", "-c", function + script], cwd=folder, env=told, capture_output=True, check=False, timeout=TIMEOUT_S
    )


def lines_of(count: int, prefix: str) -> bytes:
    return b"".join(b'{"key":"%s%06d","value":"%d"}\n' % (prefix.encode(), at, at) for at in range(count))


def test_a_value_comes_from_a_file_and_goes_to_one_unchanged(cluster: DevCluster, tmp_path: Path) -> None:
    data = os.urandom(100_000) + b"\n"
    (tmp_path / "in").write_bytes(data)
    done = sh("kv put file - < in && kv get file -o raw > out && kv get file > line", cluster, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes() == data
    assert (tmp_path / "line").read_bytes() == data + b"\n"


def test_several_keys_are_rows_that_other_programs_can_cut(cluster: DevCluster, tmp_path: Path) -> None:
    done = sh("kv put cut1 one; kv put cut2 'two\tlines\n'; kv get cut1 cut2 cut3 | cut -f2", cluster, tmp_path)
    assert done.stdout.splitlines()[-3:] == [b"one", rb"two\tlines\n", b"(not found)"]
    assert done.returncode == 3


def test_a_dump_piped_into_a_load_keeps_every_byte(cluster: DevCluster, tmp_path: Path) -> None:
    pairs = {"bin:bytes": bytes(range(256)), "bin:empty": b"", "bin:\N{SNOWMAN}": "\N{SNOWMAN}".encode(), "bin:\udcff": b"odd key"}
    as_bytes = {key.encode(errors="surrogateescape"): value for key, value in pairs.items()}
    rows = [{"key_base64": b64encode(key).decode(), "value_base64": b64encode(value).decode()} for key, value in as_bytes.items()]
    (tmp_path / "rows").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = "kv load rows && kv dump --prefix bin: > before && kv del $(kv scan bin: | cut -f1) bin:$'\\xff' && "
    script += "kv scan bin: && kv load - < before && kv dump --prefix bin: > after"
    done = sh(script, cluster, tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    before, after = (tmp_path / "before").read_bytes(), (tmp_path / "after").read_bytes()
    assert before == after
    rows_read = [row for row in map(decode_row, before.splitlines()) if isinstance(row, Row)]
    assert {row.key: row.values[0] for row in rows_read} == as_bytes


def test_a_reader_that_has_seen_enough_ends_a_scan_quietly(cluster: DevCluster, tmp_path: Path) -> None:
    (tmp_path / "many").write_bytes(lines_of(BATCH_ROWS_MAX, "head:"))
    done = sh("kv load many > loaded; kv scan head: | head -n 2; echo ${PIPESTATUS[0]}", cluster, tmp_path)
    assert done.stdout.splitlines() == [b"head:000000\t0", b"head:000001\t1", b"0"]
    assert done.stderr == b""


def test_a_load_that_was_killed_midway_goes_on_where_it_was(cluster: DevCluster, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(lines_of(LINES, "killed:"))
    notes = file.with_name(file.name + SUFFIX)
    loading = start_kv("--at", cluster.at, "load", str(file))
    while not notes.exists():
        assert loading.poll() is None, "it has ended before it could be killed"
    loading.kill()
    out, _ = loading.communicate(timeout=TIMEOUT_S)
    assert out == b""
    noted = json.loads(notes.read_text())["lines"]
    assert 0 < noted < LINES
    again = run_kv("--at", cluster.at, "load", str(file))
    assert again.returncode == 0
    assert f"continuing behind line {noted:,}" in again.stderr.decode()
    assert again.stdout.decode() == f"loaded {LINES - noted:,} keys\n"
    assert not notes.exists()
    dumped = run_kv("--at", cluster.at, "dump", "--prefix", "killed:")
    assert dumped.stdout == file.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="how ru_maxrss counts differs elsewhere")
def test_a_dump_of_much_data_takes_no_more_memory_than_one_of_little(cluster: DevCluster, tmp_path: Path) -> None:
    value = "x" * 10_000
    for name, count in (("small", 20), ("large", 3_000)):
        rows = (json.dumps({"key": f"{name}:{at:05d}", "value": value}) for at in range(count))
        (tmp_path / name).write_text("\n".join(rows) + "\n")
        assert run_kv("--at", cluster.at, "load", str(tmp_path / name)).returncode == 0
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    peak_bytes = {}
    for name in ("small", "large"):
        command = [sys.executable, "-c", measure, *KV, "--at", cluster.at, "dump", "--prefix", f"{name}:"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
        peak_bytes[name] = int(done.stdout) * 1024
    assert peak_bytes["large"] - peak_bytes["small"] < 3_000 * len(value) * 3 / 4, peak_bytes
