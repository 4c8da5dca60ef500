"""One node of a local cluster as a child process: started until it says it is ready, signalled by its own pid, ended for sure.

Each child has a session of its own, so that Ctrl-C reaches only us, and its standard input is a pipe from us, so that it stops
even when we are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from enum import Enum

from kvproto.errors import ClusterError, UserError
from kvstore.commands.local_layout import NodePlace

SERVE: tuple[str, ...] = (sys.executable, "-P", "-m", "kvstore.commands.serve")  # -P: never from a folder the user stands in
READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 15.0
LOG_TAIL_BYTES = 4096


class NodeState(Enum):
    """What we last did with its process, or saw happen to it."""

    DOWN = "down"
    RUNNING = "running"
    PAUSED = "paused"


class LocalNode:
    """The process at one place. `started` counts its lives; one that ends and is not `ended_by_us` has died."""

    def __init__(self, place: NodePlace, *, command: Sequence[str] | None = None) -> None:
        self.place = place
        self.state = NodeState.DOWN
        self.started = 0
        # One action at a time: a restart that somebody asks for must not meet one that follows a death.
        self.lock = asyncio.Lock()
        self._command = command or SERVE
        self._process: asyncio.subprocess.Process | None = None
        self._ended_life = 0

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive and self._process is not None else None

    def row(self) -> dict[str, object]:
        """What the ready line and cluster.json say of it."""
        return {
            "id": self.place.id,
            "address": self.place.address,
            "http": self.place.http,
            "pid": self.pid,
            "data": str(self.place.data),
            "config": str(self.place.config),
        }

    async def start(self) -> None:
        """Starts it and waits for its ready line; raises `ClusterError` with its last words when it ends before that."""
        if self.pid is not None:
            raise UserError(f"{self.place.id} is running already (pid {self.pid})", subject=self.place.id)
        with self.place.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--config", str(self.place.config), "-o", "json", "--stop-with-parent"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.started += 1
        try:
            ready = await self._read_ready_line(self._process)
        except BaseException:
            await self.crash()
            raise
        if not ready:
            self._ended_life = self.started
            await self.wait()
            raise ClusterError(f"{self.place.id} did not start: {self.last_words()}", subject=self.place.id)
        self.state = NodeState.RUNNING

    async def _read_ready_line(self, process: asyncio.subprocess.Process) -> bytes:
        """The line itself, or b"" when the process ended without it."""
        assert process.stdout is not None, "started with a pipe"
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                async for line in process.stdout:
                    if _is_ready(line):
                        return line
                return b""
        except TimeoutError:
            raise ClusterError(f"{self.place.id} was not ready after {READY_TIMEOUT_S:.0f} s: {self.last_words()}") from None

    async def wait(self) -> int:
        """Waits until this life of the process has ended; its return code, negative for a signal."""
        process = self._process
        assert process is not None, "never started"
        code = await process.wait()
        if process is self._process:
            self.state = NodeState.DOWN
        return code

    def ended_by_us(self, life: int) -> bool:
        """Whether we brought about the end of its `life`-th process."""
        return life <= self._ended_life

    def last_words(self) -> str:
        """The last line it wrote to its log, and where the rest is."""
        with contextlib.suppress(OSError):
            lines = self.place.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip().splitlines()
            if lines:
                return f"{_message(lines[-1])} (its log: {self.place.log})"
        return f"it said nothing (its log: {self.place.log})"

    async def end(self) -> None:
        """Ends it: politely first, after a while by SIGKILL; a paused one is woken so that it can stop. Down already: nothing."""
        if self.pid is None:
            return
        self._ended_life = self.started
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await self.wait()
        except TimeoutError:
            await self.crash()

    async def crash(self) -> None:
        """SIGKILL, and waits for its end. Down already: nothing."""
        if self.pid is not None:
            self.kill()
            await self.wait()

    def kill(self) -> None:
        """SIGKILL without waiting; nothing when it is down."""
        self._ended_life = self.started
        self._signal(signal.SIGKILL)

    async def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing. Returns when it stands still: the signal alone is only on its way.
        Raises `UserError` when it is down, `ClusterError` when it goes on all the same."""
        self._signal_running(signal.SIGSTOP)
        self.state = NodeState.PAUSED
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                while self.pid is not None and not is_stopped(self.pid):  # noqa: ASYNC110 - nothing tells of it but looking
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise ClusterError(f"{self.place.id} has not stood still for {STOP_GRACE_S:.0f} s", subject=self.place.id) from None

    def resume(self) -> None:
        """SIGCONT, also when it was not paused. Raises `UserError` when it is down."""
        self._signal_running(signal.SIGCONT)
        self.state = NodeState.RUNNING

    async def wipe(self) -> None:
        """Kills it and deletes its data directory, as a lost disk would; it stays down."""
        await self.crash()
        if self.place.data.exists():
            await asyncio.to_thread(shutil.rmtree, self.place.data)

    def _signal_running(self, number: signal.Signals) -> None:
        if self.pid is None:
            raise UserError(f"{self.place.id} is not running: kv dev restart {self.place.id} starts it", subject=self.place.id)
        self._signal(number)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def is_stopped(child: int) -> bool:
    """Whether every thread of a child process stands still, or it has ended. Takes neither away from others who wait for it; where
    the system cannot tell without that, True."""
    if not hasattr(os, "waitid"):  # macOS before CPython 3.13
        return True
    try:
        return os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _is_ready(line: bytes) -> bool:
    found = _parse(line)
    return isinstance(found, dict) and found.get("event") == "ready"


def _message(line: str) -> str:
    """The sentence in a line of the log: that of an error object, else the line."""
    found = _parse(line)
    error = found.get("error") if isinstance(found, dict) else None
    return str(error.get("message", line)) if isinstance(error, dict) else line


def _parse(line: str | bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None
