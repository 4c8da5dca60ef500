"""Runs `kv` inside the test's process, with streams of its own and a store in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kvclient.cli import connection, main
from kvstore.embedded import open_embedded
from tests.cli.fake_store import FakeClient
from tests.support.kv_processes import DevCluster


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        (line,) = [line for line in self.stderr.splitlines() if line.startswith('{"error"')]
        error: dict[str, Any] = json.loads(line)["error"]
        return error


class Stream(io.TextIOWrapper):
    """A standard stream over bytes in memory, a terminal if told so."""

    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        self.bytes = io.BytesIO(data)
        self._terminal = terminal
        super().__init__(self.bytes, encoding="utf-8", errors="surrogateescape", write_through=True)

    def isatty(self) -> bool:
        return self._terminal


Kv = Callable[..., Outcome]

_connect = connection.connect


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    store = FakeClient()
    monkeypatch.setattr(connection, "connect", store.connect)
    return store


@pytest.fixture
def kv(store: FakeClient, monkeypatch: pytest.MonkeyPatch) -> Kv:
    for name in ("KV_AT", "KV_NAMESPACE", "KV_TLS", "KV_CA", "KV_CERT", "KV_KEY", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("GRPC_EXPERIMENTS", "GRPC_VERBOSITY"):
        monkeypatch.setenv(name, "")

    def run(
        *arguments: str, stdin: bytes = b"", terminal: bool = False, term: str = "xterm-256color", typed: bool = False
    ) -> Outcome:
        out, err = Stream(terminal=terminal), Stream(terminal=terminal)
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdin", Stream(stdin, terminal=typed))
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            if terminal:
                patch.setenv("TERM", term)
            code = main.main(list(arguments))
        out.flush()
        return Outcome(code, out.bytes.getvalue(), err.bytes.getvalue().decode())

    return run


@pytest.fixture
def kv_here(kv: Kv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kv:
    """`kv` on a real client and a real node with its LevelDB, inside this process."""
    monkeypatch.setattr(connection, "connect", _connect)
    monkeypatch.setattr("kvclient.async_client.open_embedded", open_embedded)
    monkeypatch.setenv("KV_AT", f"embedded:{tmp_path / 'store'}")
    return kv


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """Three real nodes that the tests of one file share: each leaves them running, and uses keys of its own. Kept for the whole
    session, the nodes of each worker would go on asking each other how they are, for a tenth of the suite's processor time."""
    with DevCluster(tmp_path_factory.mktemp("kv") / "cluster", "--policy", "orders=linearizable") as running:
        yield running
