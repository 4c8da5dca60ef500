"""`kv` as its users have it: real processes, and a real cluster of `kv dev` to talk to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 60.0
KV = (sys.executable, "-m", "kvclient.cli.main")


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what would steer `kv`, and with the packages where the tests find them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KV_") and name != "NO_COLOR"}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **changes}


def run_kv(*words: str, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """One `kv` process, to its end."""
    return subprocess.run(
        [*KV, *words], input=stdin, env=environment(**variables), capture_output=True, check=False, timeout=TIMEOUT_S
    )


def start_kv(*words: str, **variables: str) -> subprocess.Popen[bytes]:
    """One `kv` process with pipes on all sides; whoever starts it ends it."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*KV, *words], stdin=pipe, stdout=pipe, stderr=pipe, env=environment(**variables))


class DevCluster:
    """A running `kv dev`; a context manager that ends it. `nodes` are the rows of its ready line."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root = root
        self._process = start_kv("dev", "-o", "json", "--base-port", "0", "--data", str(root), "--stop-with-parent", *options)
        assert self._process.stdout is not None, "started with a pipe"
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"kv dev did not become ready: {self._process.communicate(timeout=TIMEOUT_S)[1].decode()}")
        self.nodes: list[dict[str, Any]] = json.loads(line)["nodes"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.communicate(timeout=TIMEOUT_S)

    @property
    def at(self) -> str:
        """Every node's address, for `--at`."""
        return ",".join(node["address"] for node in self.nodes)

    def act(self, action: str, *ids: str) -> None:
        """`kv dev ACTION` on each of these nodes."""
        for node_id in ids:
            done = run_kv("dev", action, node_id, "--data", str(self.root))
            assert done.returncode == 0, done.stderr.decode()
