"""Faults of processes: SIGKILL, SIGSTOP, restart and a wiped disk, on a cluster that was started by `kv dev`, as a user would.

The cluster belongs to that command; this plane only sends signals to the pids it names and asks it, by its own sub-commands, to
start nodes again. A kill counts once `kv dev` has reported the death.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

READY_TIMEOUT_S = 90.0
ACTION_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0


class FaultFailed(Exception):
    """The fault did not take, or the cluster did not answer: a failure of the run, never a pass."""


class RestartFailed(FaultFailed):
    """A node did not start again on the data it had: the store's failure, not the injector's."""


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """One call of the plane; `at_s` is the event loop's time at which it had taken."""

    at_s: float
    name: str
    node: str


def kv_dev_command() -> tuple[str, ...]:
    """The installed `kv dev`, else the module behind it (a checkout that is only on the path)."""
    installed = Path(sys.executable).with_name("kv")
    return (str(installed), "dev") if installed.exists() else (sys.executable, "-P", "-m", "kvstore.commands.dev")


class ProcessPlane:
    """A local cluster and the faults of its processes; an async context manager that ends the cluster."""

    def __init__(self, root: Path, *, nodes: int = 3, preset: str = "pa-ec", command: Sequence[str] | None = None) -> None:
        self.root = root
        self.events: list[FaultEvent] = []
        self._nodes = nodes
        self._preset = preset
        self._command = tuple(command or kv_dev_command())
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._rows: dict[str, dict[str, Any]] = {}
        self._deaths: dict[int, asyncio.Event] = {}

    async def __aenter__(self) -> ProcessPlane:
        arguments = ("-o", "json", "--nodes", str(self._nodes), "--base-port", "0", "--preset", self._preset)
        self.root.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *arguments,
                *("--data", str(self.root), "--stop-with-parent"),
                stdin=asyncio.subprocess.PIPE,  # ends with us, however we end
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                ready = await self._next_event()
        except BaseException:
            await self._end()
            raise
        if ready is None or ready.get("event") != "ready":
            await self._end()
            raise FaultFailed(f"kv dev did not become ready: {self.log.read_text(errors='replace').strip()}")
        for row in ready["nodes"]:
            self._remember(row)
        self._reader = asyncio.create_task(self._read_events(), name="kv-dev-events")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end()

    @property
    def log(self) -> Path:
        """What `kv dev` writes to stderr."""
        return self.root / "kv-dev.log"

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Every node, up or down."""
        return tuple(self._rows)

    @property
    def addresses(self) -> str:
        """Where clients find the cluster."""
        return ",".join(row["address"] for row in self._rows.values())

    def pid(self, node: str) -> int:
        """The process id of the node's present or last life."""
        pid: int = self._rows[node]["pid"]
        return pid

    async def kill(self, *nodes: str) -> None:
        """SIGKILL to all of them at one moment; returns when each death has been reported."""
        pids = [self.pid(node) for node in nodes]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(ACTION_TIMEOUT_S):
                for node, pid in zip(nodes, pids, strict=True):
                    await self._deaths[pid].wait()
                    self._note("kill", node)
        except (ProcessLookupError, TimeoutError) as error:
            raise FaultFailed(f"kill {' '.join(nodes)}: {error!r}") from error

    async def restart(self, *nodes: str) -> None:
        """Starts them again on the data they have; returns when all are ready. Raises `RestartFailed` otherwise."""
        try:
            await asyncio.gather(*(self._act("restart", node) for node in nodes))
        except FaultFailed as error:
            raise RestartFailed(str(error)) from error

    async def pause(self, node: str) -> None:
        """SIGSTOP."""
        await self._act("pause", node)

    async def resume(self, node: str) -> None:
        """SIGCONT."""
        await self._act("resume", node)

    async def wipe(self, node: str) -> None:
        """Kills it and deletes its data; it stays down."""
        await self._act("wipe", node)

    async def _act(self, action: str, node: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *(action, node, "--data", str(self.root), "-o", "json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(ACTION_TIMEOUT_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise FaultFailed(f"{action} {node}: {err.decode(errors='replace').strip()}")
        row = json.loads(out)
        if row["pid"] is not None:
            self._remember(row)
        self._note(action, node)

    def _remember(self, row: dict[str, Any]) -> None:
        self._rows[row["id"]] = row
        self._deaths.setdefault(row["pid"], asyncio.Event())

    def _note(self, name: str, node: str) -> None:
        self.events.append(FaultEvent(asyncio.get_running_loop().time(), name, node))

    async def _read_events(self) -> None:
        while (event := await self._next_event()) is not None:
            if event.get("event") == "died":
                self._deaths.setdefault(event["pid"], asyncio.Event()).set()

    async def _next_event(self) -> dict[str, Any] | None:
        assert self._process is not None and self._process.stdout is not None, "the plane is not open"
        line = await self._process.stdout.readline()
        event: dict[str, Any] | None = json.loads(line) if line else None
        return event

    async def _end(self) -> None:
        """Lets `kv dev` end its nodes; they end by themselves if it has to be killed."""
        process = self._process
        assert process is not None, "started before it is ended"
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader  # ends with the pipe
