"""One node's machine: what stays when its process goes (address, disk, clock), and the process with the real `Node` in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from kvproto.errors import KvError, UserError
from kvproto.frames import FrameNet
from kvstore.api.http_server import HttpServer
from kvstore.config import AUTO, OFF, ClusterConfig, MembershipConfig, NodeConfig, NodeLimits
from kvstore.node import Node
from kvstore.runtime import Clock, JobT, StartWorker
from kvstore.seams import Sockets
from kvstore.simulation.channel import SimChannel
from kvstore.simulation.clocks import NodeClock
from kvstore.simulation.disk import DiskSettings, SimDirectory, SimDisk, SimEngine, SimWorker
from kvstore.simulation.frames import SimFrames
from kvstore.simulation.process import Process
from kvstore.simulation.server import SimServer
from kvstore.transport.security import PlainText, Security

if TYPE_CHECKING:
    import asyncio

    from kvstore.simulation.loop import SimTask
    from kvstore.simulation.world import World


class Killed(Exception):
    """The process of a node was killed while somebody waited for it to start or stop."""


class SimSeams:
    """What a simulated node is handed (contract: kvstore/seams.py)."""

    def __init__(self, machine: Machine, process: Process, rng: Random) -> None:
        self.clock: Clock = machine.clock
        self.rng = rng
        self._disk = machine.disk
        self._process = process
        network = machine.world.network
        self.channel: Callable[[str], Any] = lambda address: SimChannel(network, process, address, rng)
        self.start_worker: StartWorker = self._start_worker
        self.server: Callable[[Any, int], Any] = lambda interceptors, connections_max: SimServer(network, process, rng)
        self.sockets: Callable[[int], Sockets] = lambda connections_max: Sockets(connections_max, connections_max)
        self.frames: FrameNet = SimFrames(network, process, machine.address)
        self.timer: Callable[[], float] = process.loop.time
        self.http: type[HttpServer] | None = None
        self.security: Security = PlainText()

    def secure(self, config: NodeConfig) -> None:
        """See `Seams.secure`: there is nobody to hide from."""
        raise UserError("a simulated node has no [tls]", subject="tls")

    def open_directory(self, path: Path, *, cluster_id: str, node_id: str) -> SimDirectory:
        """See `Seams.open_directory`."""
        return self._disk.open_directory(self._process, path, cluster_id, node_id)

    def open_engine(self, path: Path, *, write_buffer_bytes: int, cache_bytes: int) -> SimEngine:
        """See `Seams.open_engine`."""
        return self._disk.open_engine(path)

    def _start_worker(self, work: Callable[[JobT], bool], name: str) -> SimWorker[JobT]:
        return SimWorker(self._process, self._disk, work)


class Machine:
    """A node that may run, on a machine that stays."""

    def __init__(
        self,
        world: World,
        name: str,
        addresses: Mapping[str, str],
        cluster: ClusterConfig,
        disk: DiskSettings,
        limits: NodeLimits,
        membership: MembershipConfig,
        *,
        frames: bool,
    ) -> None:
        self.world = world
        self.name = name
        self.address = addresses[name]
        self.clock = NodeClock(world.loop)
        self.process: Process | None = None
        self.node: Node | None = None
        self.lives = 0

        def note(kind: str, **facts: Any) -> None:
            world.events.add(world.loop.now_ns, kind, node=name, **facts)

        self.disk = SimDisk(name, world.random(f"{name}/disk"), disk, note)
        self._config = NodeConfig(
            node_id=name,
            listen=self.address,
            advertise=self.address,
            data=Path(name),
            peers={other: address for other, address in addresses.items() if other != name},
            cluster=cluster,
            limits=limits,
            membership=membership,
            frames=AUTO if frames else OFF,
        )
        self._waiting: list[asyncio.Future[Any]] = []
        self._exit: SimTask | None = None
        self._starting: SimTask | None = None

    async def start(self) -> None:
        """A new process with a new `Node`; returns when it serves. Raises what the node raises, or `Killed`."""
        assert self.node is None, f"{self.name} runs already"
        world = self.world
        self.lives += 1
        process = self.process = Process(world.loop, self.name)
        rng = world.random(f"{self.name}/{self.lives}")
        node = self.node = Node(self._config, SimSeams(self, process, rng))
        world.event("start", node=self.name, life=self.lives)
        try:
            await self._in_process(process, node.start(), starting=True)
        except KvError:
            self._end(process)
            raise
        if self.node is not node:  # at a step of a job, in the very turn in which it had started
            raise Killed(f"{self.name} was killed")
        world.event("serving", node=self.name)
        world.give_ring(self.name)
        self._exit = process.spawn(self._watch(process, node), name=f"exit@{self.name}")

    async def stop(self) -> None:
        """The clean end of the node, and then of its process. Asserts that the node leaves no task behind."""
        process, node = self.process, self.node
        assert process is not None and node is not None, f"{self.name} does not run"
        self.world.event("stop", node=self.name)
        try:
            await self._in_process(process, node.stop())
            while process.is_alive and self._starting is not None and not self._starting.done():
                await self.world.sleep(0.001)  # whoever waits for its start hears of the end first
        finally:
            left = [task for task in self.world.loop.tasks_of(process) if not task.get_name().startswith(("exit@", "stop@"))]
            if process.is_alive and left and sys.exc_info()[0] is None:
                waiting = self.world.loop.describe_waiting(process)
                self._end(process)
                raise AssertionError(f"{self.name} left tasks behind:\n{waiting}")
            self._end(process)

    def crash(self, keep: int | None, *, silently: bool) -> None:
        """The process is gone, and what no sync has covered with it, but for the first `keep` batches."""
        process = self.process
        assert process is not None and self.node is not None, f"{self.name} does not run"
        self.world.network.kill(process, silently=silently)
        self._end(process)
        kept = self.disk.crash(keep)
        self.world.event("fault", f="crash", node=self.name, kept=kept, silent=silently)

    def link_states(self) -> list[tuple[str, str, int]]:
        """The node's links to its peers: (id, state, queued)."""
        return [] if self.node is None else list(self.node.link_states())

    def _end(self, process: Process) -> None:
        if process.is_alive:
            self.world.network.kill(process, silently=False)
            process.kill()
        if self.process is process:
            self.process = self.node = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_exception(Killed(f"{self.name} was killed"))

    async def _in_process(self, process: Process, work: Coroutine[Any, Any, None], *, starting: bool = False) -> None:
        """Runs `work` in `process` and waits for it here, but not beyond the end of the process."""
        over: asyncio.Future[None] = self.world.loop.create_future()
        task = process.spawn(work)
        if starting:
            self._starting = task

        def tell(task: asyncio.Task[None]) -> None:
            if over.done():
                return
            error = task.exception()
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)

        task.add_done_callback(tell)
        self._waiting.append(over)
        try:
            await over
        finally:
            if over in self._waiting:
                self._waiting.remove(over)

    async def _watch(self, process: Process, node: Node) -> None:
        """A node that stops of itself, because its disk failed, ends its process; as `kv serve` does."""
        await node.wait_closed()
        if node.failure is not None:
            self.world.event("failed", node=self.name, error=node.failure.message)
            self.world.loop.main.post(self._end, process)
