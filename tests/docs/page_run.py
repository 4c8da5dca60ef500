"""Runs one page as a reader would: in a folder of his own, block by block, with a cluster that answers where the page says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kvstore.commands.ports import find_free_port_pairs
from kvstore.config import load_config
from kvstore.runtime import system_random
from tests.docs.blocks import Block, Typed, output_matches, typed_in
from tests.docs.rewriting import exit_code_of, rewritten, runs_on, shortened
from tests.support.kv_processes import environment

TIMEOUT_S = 100
BASE_CONFIG = 'node_id = "n1"\nlisten = "127.0.0.1:7400"\ndata = "data"\n'
BIN = Path(sys.executable).parent


class PageRun:
    """A context manager that ends whatever the page has started. `addresses` are of the cluster that is there already."""

    def __init__(self, folder: Path, addresses: Sequence[str]) -> None:
        self._folder = folder
        self._addresses = list(addresses)
        self._free = [f"127.0.0.1:{port}" for port in find_free_port_pairs(3, rng=system_random())]  # for nodes of the page's own
        self._running: list[subprocess.Popen[str]] = []
        self._python: subprocess.Popen[str] | None = None
        (folder / ".venv").symlink_to(BIN.parent)  # the page's reader stands in a checkout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._python is not None:
            self._python.communicate(timeout=TIMEOUT_S)
        for process in reversed(self._running):
            process.send_signal(signal.SIGINT)  # as the reader would, with Ctrl-C
            process.communicate(timeout=TIMEOUT_S)

    def run(self, block: Block, *, name: str) -> None:
        """Runs one block; `name` is what a failure calls it."""
        if block.language == "console":
            for typed in typed_in(block.body):
                self._type(typed, name)
        elif block.language == "toml":
            self._read_config(block.body)
        else:
            self._execute(block.body, name)

    def _type(self, typed: Typed, name: str) -> None:
        command = shortened(rewritten(typed.command, self._addresses, self._folder))
        if runs_on(command):
            self._start(command, name)
            return
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == exit_code_of(command), f"{name}: `{command}` ended {done.returncode}: {done.stdout}"
        assert not typed.shown or output_matches(typed.shown, done.stdout), f"{name}: `{command}` printed: {done.stdout}"

    def _start(self, command: str, name: str) -> None:
        """Starts what the reader leaves running in another terminal, and waits until it says that it is ready."""
        is_cluster = command.split()[1] == "dev"
        base_port = " --base-port 0" if is_cluster else ""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command.partition('#')[0]}{base_port}"],
            cwd=self._folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.append(process)
        assert process.stdout is not None
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ctrl-C ends all nodes") or " is ready on " in line:
                break
        else:
            raise AssertionError(f"{name}: `{command}` ended before it was ready: {''.join(said)}")
        watchdog.cancel()
        if is_cluster:
            self._addresses = [words[1] for line in said if (words := line.split()) and words[0].startswith("n") and "pid" in words]

    def _read_config(self, text: str) -> None:
        """Reads it as node.toml, a part of one beside what every node needs; it stays there for the commands of the page."""
        whole = text if "node_id" in text else BASE_CONFIG + text
        path = self._folder / "node.toml"
        path.write_text(rewritten(whole, self._free, self._folder), encoding="utf-8")
        load_config(path)

    def _execute(self, source: str, name: str) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-m", "tests.docs.python_process"],
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        process = self._python
        assert process.stdin is not None and process.stdout is not None
        asked = {"name": name, "source": rewritten(source, self._addresses, self._folder)}
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        answer = process.stdout.readline()
        watchdog.cancel()
        failure = json.loads(answer) if answer else "the process ended"
        assert failure is None, f"{name}: {failure}"

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
        return environment(PATH=path, KV_AT=self._addresses[0], KV_HISTORY="")
