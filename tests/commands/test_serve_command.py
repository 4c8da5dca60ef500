"""`kv serve`: one ready line, a clean stop, and one clear sentence with the right exit code when it does not start or go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from kvclient.cli.exit_codes import ExitCode
from kvproto.errors import KvError, StorageError, UserError
from kvproto.options import EVENT_ENGINE_OFF
from kvstore.commands.local_node import SERVE
from kvstore.commands.outcomes import Exit
from kvstore.commands.serve import run_node
from kvstore.config import NodeConfig
from tests.commands.conftest import plan

TIMEOUT_S = 30


def serve(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SERVE, "--config", str(config), *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


class Served:
    """A node that runs."""

    def __init__(self, config: Path, *arguments: str) -> None:
        command = [*SERVE, "--config", str(config), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, err


def listening_on(config: Path, address: str) -> str:
    """The same node at another address, without http."""
    return "\n".join(
        [f'listen = "{address}"', *(line for line in config.read_text().splitlines() if line[:4] not in ("list", "http"))]
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    layout = plan(tmp_path, nodes=1)
    layout.write_configs()
    return layout.nodes[0].config


@pytest.fixture
def served(config: Path) -> Iterator[Served]:
    node = Served(config)
    yield node
    if node.process.poll() is None:
        node.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_node_says_that_it_is_ready_and_stops_cleanly(served: Served, number: signal.Signals) -> None:
    assert served.ready.startswith("n1 is ready on 127.0.0.1:")
    code, err = served.end(number)
    assert code == 0
    assert "Traceback" not in err


def test_the_ready_line_is_an_object_for_programs(config: Path) -> None:
    node = Served(config, "-o", "json")
    ready = json.loads(node.ready)
    node.end()
    assert (ready["event"], ready["id"], ready["pid"]) == ("ready", "n1", node.process.pid)
    assert ready["config"] == str(config)


def test_a_child_of_kv_dev_stops_when_its_parent_is_gone(config: Path) -> None:
    node = Served(config, "--stop-with-parent")
    assert node.process.stdin is not None
    node.process.communicate(timeout=TIMEOUT_S)  # closes its standard input and nothing else
    assert node.process.returncode == 0


def test_every_problem_of_the_file_is_listed_and_the_node_does_not_start(config: Path) -> None:
    config.write_text(config.read_text().replace("listen", "lisen") + 'polcy = "siblings"\n')
    done = serve(config)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean 'listen'?" in done.stderr
    assert "did you mean 'cluster.namespaces.default.policy'?" in done.stderr
    assert not (config.parent / "data").exists()


def test_a_port_in_use_is_one_clear_sentence(config: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        config.write_text(
            "\n".join(f'listen = "{taken}"' if line.startswith("listen") else line for line in config.read_text().splitlines())
        )
        done = serve(config)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"kv: n1 cannot start: {taken} is in use by another process (listen)\n"


def test_data_of_another_cluster_is_refused(served: Served, config: Path) -> None:
    served.end()
    config.write_text(config.read_text().replace('id = "dev-', 'id = "other-'))
    done = serve(config, "-o", "json")
    assert done.returncode == 2
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert error["code"] == "WRONG_CLUSTER"


def test_a_data_directory_in_use_is_refused_and_its_holder_goes_on(served: Served, config: Path, tmp_path: Path) -> None:
    other = config.with_name("other.toml")
    port = plan(tmp_path, nodes=1).nodes[0].address
    other.write_text(listening_on(config, port))
    done = serve(other)
    assert done.returncode == 2
    assert str(served.process.pid) in done.stderr
    assert served.process.poll() is None


def test_grpcs_event_engine_is_off_unless_the_user_chose(config: Path) -> None:
    program = (
        "import sys; sys.argv = ['serve', '--config', 'missing.toml']\n"
        "import os\n"
        "from kvstore.commands.serve import serve\n"
        "assert 'grpc' not in sys.modules\n"
        "try: serve()\n"
        "except SystemExit: print(os.environ['GRPC_EXPERIMENTS'])\n"
    )
    for environment, expected in (({}, EVENT_ENGINE_OFF), ({"GRPC_EXPERIMENTS": "mine"}, "mine")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
            env={name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"} | environment,
        )
        assert done.stdout.strip() == expected


class FailingNode:
    """Starts, and ends by itself with `failure`."""

    failure: ClassVar[KvError | None] = None
    refusal: ClassVar[KvError | None] = None
    stopped: ClassVar[bool] = False

    def __init__(self, config: NodeConfig) -> None:
        self.config = config

    async def start(self) -> None:
        if self.refusal:
            raise self.refusal

    async def wait_closed(self) -> None:
        return

    async def stop(self) -> None:
        type(self).stopped = True


class SlowNode(FailingNode):
    """Asked to stop while it is still starting."""

    async def start(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("refusal", "failure", "code"),
    [
        (UserError("no"), None, Exit.REFUSED),
        (StorageError("the directory is in use"), None, Exit.REFUSED),
        (None, StorageError("the disk failed"), Exit.UNAVAILABLE),
        (None, KvError("a bug"), Exit.INTERNAL),
        (None, None, Exit.DONE),
    ],
)
async def test_the_exit_code_tells_a_refused_start_from_a_node_that_gave_up(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    refusal: KvError | None,
    failure: KvError | None,
    code: Exit,
) -> None:
    monkeypatch.setattr("kvstore.node.Node", FailingNode)
    monkeypatch.setattr(FailingNode, "refusal", refusal)
    monkeypatch.setattr(FailingNode, "failure", failure)
    node = NodeConfig(node_id="n1", listen="127.0.0.1:1", advertise="127.0.0.1:1", data=tmp_path)
    assert await run_node(node, config_path=tmp_path, output="human") is code
    error = refusal or failure
    assert (error is not None and error.message in capsys.readouterr().err) or error is None


async def test_a_node_asked_to_stop_while_it_starts_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kvstore.node.Node", SlowNode)
    monkeypatch.setattr(SlowNode, "stopped", False)
    node = NodeConfig(node_id="n1", listen="127.0.0.1:1", advertise="127.0.0.1:1", data=tmp_path)
    assert await run_node(node, config_path=tmp_path, output="human") is Exit.DONE
    assert SlowNode.stopped


def test_exit_codes_are_those_of_the_kv_command() -> None:
    assert {code.name: code.value for code in Exit}.items() <= {code.name: code.value for code in ExitCode}.items()


def test_bug_a_folder_called_kvstore_where_the_user_stood_was_run_instead_of_the_store(tmp_path: Path) -> None:
    """Nodes are started with `python -m`, which looks for packages in the current folder first."""
    (tmp_path / "kvstore").mkdir()
    (tmp_path / "kvstore" / "__init__.py").write_text("raise SystemExit(99)\n")
    done = subprocess.run([*SERVE, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and "--config" in done.stdout, done.stderr
