"""Two of three disks are lost: registers are refused, until an operator gives one of the disks up; then what is left goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.kv_processes import DevCluster, run_kv

VALUES = {f"key-{number}": f"value-{number}" for number in range(30)}


@pytest.mark.timeout(180)
def test_registers_go_on_when_one_of_two_lost_disks_is_given_up(tmp_path: Path) -> None:
    with DevCluster(tmp_path / "cluster", "--preset", "pc-ec") as cluster:

        def kv(*words: str, code: int = 0, stdin: str = "") -> str:
            done = run_kv("--at", cluster.at, *words, stdin=stdin.encode())
            assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
            return done.stdout.decode()

        kv("load", "-", stdin="".join(json.dumps({"key": key, "value": value}) + "\n" for key, value in VALUES.items()))
        kv("status", "--wait", "converged", "--timeout", "60")  # the third replica has everything, too
        cluster.act("wipe", "n2", "n3")
        cluster.act("restart", "n2", "n3")
        kv("status", "--wait", "converged", "--timeout", "60", code=5)
        kv("get", "key-1", code=5)
        kv("repair", "--accept-loss", "n1", "--yes", code=2)
        told = json.loads(kv("-o", "json", "repair", "--accept-loss", "n2", "--yes"))
        assert (told["id"], told["without"]) == ("n3", ["n2"]) and told["waiting"] > 0
        kv("status", "--wait", "converged", "--timeout", "60")
        rows = map(json.loads, kv("dump").splitlines())
        assert {row["key"]: row["value"] for row in rows} == VALUES
        kv("put", "key-1", "after")
        kv("namespace", "create", "later", "--preset", "pc-ec")
        kv("repair", "--accept-loss", "n2", "--yes", code=2)
