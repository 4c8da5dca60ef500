"""Nodes as processes of ours: `kv serve` on files that we write, signalled by their own pids, ended with us.

The same faults as `kvchaos.processes.ProcessPlane`, for clusters whose addresses and peers we choose. A fault counts when it is
seen: a kill when the process is gone, a pause when it stands still, a start when the node says that it is ready.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from kvchaos.disks.cutting import CannotCut
from kvchaos.disks.damage import NothingToDamage
from kvchaos.disks.recorded import RecordedDisk
from kvchaos.processes import FaultFailed, RestartFailed

T = TypeVar("T")

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
ACTION_TIMEOUT_S = 10.0
LAST_WORDS_BYTES = 4096
OFFSET_VARIABLE = "KV_CLOCK_OFFSET_FILE"
OFFSET_BYTES = 8
STOPS_MAX = 200
"""How often nodes are stopped to find one with something that is written and not synced."""
STOPS_INTERVAL_S = 0.01


class NodeDied(FaultFailed):
    """A node ended though nobody had ended it, or did not when it was told to: the store's failure, not the injector's."""


class Condition(Enum):
    """What we last did with a node."""

    DOWN = "down"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One node's addresses and folder: where it listens, what it tells clients, where it dials the others, further settings.

    `frames`: where it takes frames, "" for the store's own choice; `peer_frames`: where it dials those of the others, if that is
    not what they say.
    """

    id: str
    listen: str
    advertise: str
    http: str
    peers: Mapping[str, str]
    folder: Path
    cluster: Mapping[str, str | int | float] = field(default_factory=dict)
    bind: str = ""
    """What it listens on where that is not the address at which it is reached; then it is told that this is meant."""
    namespaces: Mapping[str, Mapping[str, str | int | float]] = field(default_factory=dict)
    frames: str = ""
    peer_frames: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Its node.toml."""
        return self.folder / "node.toml"

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What its process writes to stderr, over all its lives."""
        return self.folder / "node.log"

    @property
    def clock_offset(self) -> Path:
        """What its clock is wrong by: a signed 64-bit number of milliseconds, little-endian, which its process reads."""
        return self.folder / "clock-offset-ms"

    def render(self) -> str:
        """The text of node.toml."""
        tables: dict[str, Mapping[str, str | int | float]] = {"peers": self.peers, "peer_frames": self.peer_frames}
        tables |= {"cluster": self.cluster}
        tables |= {f"cluster.namespaces.{name}": settings for name, settings in self.namespaces.items()}
        top: dict[str, str | int | float] = {"node_id": self.id, "listen": self.bind or self.listen, "advertise": self.advertise}
        top |= {"http": self.http, "data": self.data.name, **({"insecure": True} if self.bind else {})}
        top |= {"frames": self.frames} if self.frames else {}
        lines = _rows(top)
        for name, settings in tables.items():
            lines += ["", f"[{name}]", *_rows(settings)]
        return "\n".join(lines) + "\n"


def kv_serve_command() -> tuple[str, ...]:
    """The installed `kv serve`, else the module behind it (a checkout that is only on the path)."""
    installed = Path(sys.executable).with_name("kv")
    return (str(installed), "serve") if installed.exists() else (sys.executable, "-P", "-m", "kvstore.commands.serve")


class NodeProcesses:
    """The nodes at `places`. Nothing runs before `start`; `end` ends whatever does. `disks`: of nodes whose power can be cut.
    `prefixes`: what stands before the command of a node, and becomes it."""

    def __init__(
        self,
        places: Sequence[NodePlace],
        *,
        command: Sequence[str] | None = None,
        disks: Mapping[str, RecordedDisk] | None = None,
        prefixes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.places = {place.id: place for place in places}
        self.conditions = dict.fromkeys(self.places, Condition.DOWN)
        self.clocks_ms: dict[str, int] = {}
        """By how much clocks are wrong; those that are not named are right."""
        self._command = tuple(command or kv_serve_command())
        self._disks = dict(disks or {})
        self._prefixes = dict(prefixes or {})
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Every node, up or down."""
        return tuple(self.places)

    def pid(self, node: str) -> int:
        """The process id of the node's present or last life."""
        return self._processes[node].pid

    async def start(self) -> None:
        """Writes every file and starts every node. Raises `RestartFailed` with the last words of the first that does not."""
        for place in self.places.values():
            place.folder.mkdir(parents=True, exist_ok=True)
            place.config.write_text(place.render(), encoding="utf-8")
            place.clock_offset.write_bytes(bytes(OFFSET_BYTES))
        await self.restart(*self.places)

    async def end(self) -> None:
        """Ends every node, paused ones too. Raises `NodeDied`, when all are gone, for one that had to be killed."""
        for failure in await asyncio.gather(*map(self._stop, self._processes), return_exceptions=True):
            if failure is not None:
                raise failure

    async def kill(self, *nodes: str) -> None:
        """SIGKILL to all of them at one moment; returns when they are gone."""
        self._require(*nodes)
        for node in nodes:
            self.conditions[node] = Condition.DOWN
            self._processes[node].kill()
        async with _patience(f"kill {' '.join(nodes)}"):
            await asyncio.gather(*(self._processes[node].wait() for node in nodes))

    async def pause(self, node: str) -> None:
        """SIGSTOP: it keeps its connections, the system goes on accepting for it, and it answers nothing."""
        self._require(node)
        self._processes[node].send_signal(signal.SIGSTOP)
        self.conditions[node] = Condition.PAUSED
        async with _patience(f"pause {node}"):
            while not _stands_still(self.pid(node)):  # noqa: ASYNC110 - nothing tells of it but looking
                await asyncio.sleep(0.001)
        self._require(node)

    async def resume(self, node: str) -> None:
        """SIGCONT."""
        self._require(node)
        self._processes[node].send_signal(signal.SIGCONT)
        self.conditions[node] = Condition.RUNNING

    async def restart(self, *nodes: str) -> None:
        """Ends those that run, cleanly, and starts all of them on the data they have. Raises `NodeDied`, `RestartFailed`."""
        await asyncio.gather(*map(self._stop, nodes))
        starts = [asyncio.ensure_future(self._start(node)) for node in nodes]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            raise

    def skew(self, node: str, offset_ms: int) -> None:
        """From now on its clock is wrong by so much, also after a restart."""
        if node not in self.places:
            raise FaultFailed(f"no node {node!r}: there are {', '.join(self.places)}")
        with self.places[node].clock_offset.open("r+b") as file:  # in place: its process has mapped the file
            file.write(offset_ms.to_bytes(OFFSET_BYTES, "little", signed=True))
        self.clocks_ms[node] = offset_ms

    async def wipe(self, node: str) -> None:
        """Kills it if it runs and deletes its data, as a lost disk would; it stays down."""
        if self.conditions[node] is not Condition.DOWN:
            await self.kill(node)
        if self.places[node].data.exists():
            await asyncio.to_thread(shutil.rmtree, self.places[node].data)

    async def cut_power(self, *nodes: str) -> int:
        """Kills them at one moment, at which at least one has written what it has not synced, and takes from their disks what was
        not; how many bytes. They stay down. Their next lives are not recorded. Raises `FaultFailed`."""
        self._require(*nodes)
        if blind := [node for node in nodes if node not in self._disks]:
            raise FaultFailed(f"nobody wrote down what {', '.join(blind)} has synced: its power cannot be cut")
        disks = {node: self._disks[node] for node in nodes}
        for _ in range(STOPS_MAX):
            await asyncio.gather(*map(self.pause, nodes))
            if any(await asyncio.gather(*(asyncio.to_thread(disk.unsynced_bytes) for disk in disks.values()))):
                break
            for node in nodes:
                await self.resume(node)
            await asyncio.sleep(STOPS_INTERVAL_S)
        else:
            raise FaultFailed(f"nothing was written and not synced at {STOPS_MAX} moments: there is nothing to lose")
        await self.kill(*nodes)
        lost = 0
        for node, disk in disks.items():
            del self._disks[node]
            try:
                lost += (await asyncio.to_thread(disk.cut_back)).bytes_lost
            except CannotCut as error:
                raise FaultFailed(f"{node}: {error}") from error
        return lost

    async def damage(self, node: str, how: Callable[[Path], T]) -> T:
        """Does `how` (kvchaos.disks.damage) to the files of a node, whether it runs or not. Raises `FaultFailed`."""
        try:
            return await asyncio.to_thread(how, self.places[node].data)
        except (NothingToDamage, OSError, ValueError) as error:
            raise FaultFailed(f"{node}: {error}") from error

    def said(self, node: str) -> str:
        """Everything that it has written to its log, over all its lives."""
        log = self.places[node].log
        return log.read_text(errors="replace") if log.exists() else ""

    def check(self) -> None:
        """Raises `NodeDied` for a node that should live and does not."""
        for node, condition in self.conditions.items():
            if condition is not Condition.DOWN and (code := self._processes[node].returncode) is not None:
                raise NodeDied(f"{node} ended with {code}: {self._last_words(node)}")

    def _require(self, *nodes: str) -> None:
        for node in nodes:
            if node not in self.places:
                raise FaultFailed(f"no node {node!r}: there are {', '.join(self.places)}")
            if self.conditions[node] is Condition.DOWN:
                raise FaultFailed(f"{node} is down")
        self.check()

    async def _start(self, node: str) -> None:
        place = self.places[node]
        with place.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._prefixes.get(node, ()),
                *self._command,
                *("--config", str(place.config), "-o", "json", "--stop-with-parent"),
                stdin=asyncio.subprocess.PIPE,  # it ends with us, however we end
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, OFFSET_VARIABLE: str(place.clock_offset), **self._recording(node)},
                start_new_session=True,
            )
        self._processes[node] = process
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                ready = await _is_ready(process)
        except BaseException as error:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if isinstance(error, TimeoutError):
                raise RestartFailed(f"{node} was not ready after {READY_TIMEOUT_S:g} s: {self._last_words(node)}") from None
            raise
        if not ready:
            await process.wait()
            raise RestartFailed(f"{node} did not start: {self._last_words(node)}")
        self.conditions[node] = Condition.RUNNING

    def _recording(self, node: str) -> Mapping[str, str]:
        return self._disks[node].environment if node in self._disks else {}

    async def _stop(self, node: str) -> None:
        self.conditions[node] = Condition.DOWN
        process = self._processes.get(node)
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise NodeDied(f"{node} did not stop within {STOP_TIMEOUT_S:g} s of SIGTERM: {self._last_words(node)}") from None

    def _last_words(self, node: str) -> str:
        log = self.places[node].log
        lines = log.read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace").strip().splitlines() if log.exists() else []
        return f"{lines[-1] if lines else 'it said nothing'} (its log: {log})"


async def _is_ready(process: asyncio.subprocess.Process) -> bool:
    """Whether its ready line came; False when it ended without."""
    assert process.stdout is not None, "started with a pipe"
    async for line in process.stdout:
        if json.loads(line).get("event") == "ready":
            return True
    return False


def _stands_still(child: int) -> bool:
    """Whether every thread of a child stands still, or it has ended; takes neither away from others who wait for it."""
    if not hasattr(os, "waitid"):  # macOS before CPython 3.13
        return True
    try:
        return os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


@asynccontextmanager
async def _patience(what: str) -> AsyncIterator[None]:
    """A time limit whose end is a fault that did not take."""
    try:
        async with asyncio.timeout(ACTION_TIMEOUT_S):
            yield
    except TimeoutError:
        raise FaultFailed(f"{what} did not take within {ACTION_TIMEOUT_S:g} s") from None


def _rows(settings: Mapping[str, str | int | float]) -> list[str]:
    # A JSON string of printable text is a TOML basic string.
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
