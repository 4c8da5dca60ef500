"""The simulated world: the interface that scenarios are written against.

    world = World(seed=1)                                  # nodes n1, n2, n3, nothing runs yet

    async def scenario(world: World) -> None:
        await world.start()                                # every node, until they are linked
        client = world.client("c1")                        # the real AsyncClient, over links named after it
        await client.put("k", b"v")
        world.cut("n1", "n2")                              # one way; `world.partition(["n1"], ["n2", "n3"])` both ways
        world.crash("n3"); await world.restart("n3")
        world.heal_all()

    outcome = world.run(scenario)                          # runs it on virtual time, closes the world, checks that nothing is left
    world.events.digest                                    # equal for equal seeds, in every process

Each node and each client is a process (process.py): it can be paused, and a node can be killed. Code of a scenario runs in the
process "world" and may call clients from there; workloads that a pause of their client shall stop are started with
`world.spawn("c1", work())`. Everything random is drawn from generators seeded with the seed and a name; a scenario draws from
`world.rng`. Faults return at once, and what they do happens from then on. Every fault is an event of the log.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

from kvclient import AsyncClient
from kvclient.grpc_transport import GrpcTransport
from kvclient.transport import Ring as ClientRing
from kvclient.transport import Transport
from kvproto.errors import KvError
from kvstore.config import ClusterConfig, MembershipConfig, NodeLimits
from kvstore.core.ring import Member, Ring
from kvstore.core.ring_planner import plan_ring
from kvstore.local_node import LocalNode
from kvstore.node import Node
from kvstore.simulation.channel import SimChannel
from kvstore.simulation.clocks import ClientClock
from kvstore.simulation.connection import NetworkSettings
from kvstore.simulation.disk import DiskSettings
from kvstore.simulation.events import EventLog
from kvstore.simulation.faults import Faults
from kvstore.simulation.frames import SimFrames
from kvstore.simulation.logs import caught_logs
from kvstore.simulation.loop import SimLoop, SimTask
from kvstore.simulation.machine import Machine
from kvstore.simulation.network import Network
from kvstore.simulation.process import Process
from kvstore.simulation.tracing import traceback_of

T = TypeVar("T")

LINKED_S_MAX = 30.0
SIM_WORTH_FRAMES = 3
"""Batches of a client to a node, before it sends frames: schedules are short."""

CLUSTER = ClusterConfig(id="sim", partitions=8)


class World(Faults):
    """Nodes, clients, links and disks. `nodes` is how many (n1, n2, …) or their names; with `frames` batches between nodes travel
    as such, and not over gRPC; `keep_events` keeps the log's lines; every `check_every` turns of the loop all invariants are
    checked (0: only by `check` and at the end)."""

    def __init__(
        self,
        seed: object,
        *,
        nodes: int | Sequence[str] = 3,
        cluster: ClusterConfig = CLUSTER,
        network: NetworkSettings | None = None,
        disk: DiskSettings | None = None,
        limits: NodeLimits | None = None,
        membership: MembershipConfig | None = None,
        frames: bool = False,
        keep_events: bool = False,
        check_every: int = 0,
        limit_s: float = 3600.0,
    ) -> None:
        names = [f"n{at + 1}" for at in range(nodes)] if isinstance(nodes, int) else list(nodes)
        self.seed = seed
        self.cluster = cluster
        self.frames = frames
        self.loop = SimLoop(seed, limit_s=limit_s)  # type: ignore[abstract]  # what is missing raises NotImplementedError
        self.events = EventLog(kept=keep_events)
        self.rng = self.random("scenario")
        self.network = Network(self.loop, self.random("network"), self.events, network or NetworkSettings())
        self.machines: dict[str, Machine] = {}
        self.ring: Ring | None = None  # the newest that was installed
        self._clients: list[AsyncClient] = []
        self.clients: dict[str, Process] = {}
        if check_every:
            self.loop.after_turns, self.loop.turns_between = self.check, check_every
        addresses = {name: f"{name}:7400" for name in names}
        for name in names:
            self.network.hosts[addresses[name]] = name
            self.machines[name] = Machine(
                self,
                name,
                addresses,
                cluster,
                disk or DiskSettings(),
                limits or NodeLimits(),
                membership or MembershipConfig(),
                frames=frames,
            )

    # --- running

    def run(self, scenario: Callable[[World], Coroutine[Any, Any, T]]) -> T:
        """Runs `scenario` to its end, closes the world, and returns what it returned. A world runs once."""

        async def main() -> T:
            result = await scenario(self)
            await self.close()
            return result

        with caught_logs(self._take_log):
            return self.loop.run(main())

    def random(self, name: str) -> Random:
        """A generator of its own for `name`, seeded with the world's seed."""
        return Random(f"{self.seed}/{name}")

    def event(self, kind: str, **facts: Any) -> None:
        """Adds to the log, at this moment."""
        self.events.add(self.loop.now_ns, kind, **facts)

    @property
    def defects(self) -> list[str]:
        """Exceptions that nobody caught: in callbacks, tasks, handlers, rounds. None are to be expected, whatever the faults."""
        return self.loop.defects

    def process(self, name: str) -> Process:
        """The living process of a node or client."""
        machine = self.machines.get(name)
        if machine is not None:
            assert machine.process is not None, f"{name} does not run"
            return machine.process
        return self.clients.setdefault(name, Process(self.loop, name))

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> SimTask:
        """Runs `work` as a task of the process `name`, usually a client's; await the task for its result."""
        return self.process(name).spawn(work)

    # --- nodes

    @property
    def running(self) -> list[str]:
        """The nodes that run, paused ones included, in order."""
        return [name for name, machine in self.machines.items() if machine.node is not None]

    def node(self, name: str) -> Node:
        """A running node."""
        node = self.machines[name].node
        assert node is not None, f"{name} does not run"
        return node

    def local(self, name: str) -> LocalNode:
        """The half of a running node that works without a network: store, ring, coordinator."""
        local = self.node(name).local
        assert local is not None, f"{name} is not built yet"
        return local

    async def start(self, *names: str) -> None:
        """Starts nodes (all that do not run) together and waits until all that run are linked. Raises what a start raises."""
        chosen = names or [name for name in self.machines if name not in self.running]
        starts = [self.loop.main.spawn(self.machines[name].start()) for name in chosen]
        for start in starts:
            await start
        await self.wait_linked()

    async def stop(self, name: str) -> None:
        """Stops a node cleanly; its process ends."""
        await self.machines[name].stop()

    async def restart(self, name: str, *, linked: bool = True) -> None:
        """Starts a node that was stopped or crashed, or failed; waits for its links, unless told not to."""
        await self.machines[name].start()
        if linked:
            await self.wait_linked()

    def install_epoch(self, *names: str, members: Iterable[str] | None = None, ring: Ring | None = None) -> Ring:
        """Gives the nodes `names` (all that run) a ring of the next epoch: `ring`, or one planned for `members` (those of the
        last ring). Moves no data. Nodes that start later are given it when they have started."""
        previous = self.ring or self.local(self.running[0]).ring.view.ring
        if ring is None:
            chosen = [member.id for member in previous.members] if members is None else list(members)
            cluster = self.cluster
            ring = plan_ring(
                [Member(name, self.machines[name].address, cluster.zones.get(name, "")) for name in chosen],
                partitions=cluster.partitions,
                replicas=cluster.replicas,
                previous=previous,
                epoch=previous.epoch + 1,
            )
        self.ring = ring
        self.event("fault", f="epoch", epoch=ring.epoch, nodes=list(names))
        for name in names or self.running:
            self.give_ring(name)
        return ring

    def give_ring(self, name: str) -> None:
        """Installs the newest ring on a node that runs."""
        if self.ring is not None:
            local = self.local(name)
            local.ring.view = local.ring.view.with_ring(self.ring)

    async def wait_linked(self, timeout_s: float = LINKED_S_MAX) -> None:
        """Returns once every running node has a link to every other one that runs. Raises `TimeoutError`."""
        until_s = self.loop.time() + timeout_s
        while not self.is_linked():
            if self.loop.time() > until_s:
                raise TimeoutError("some running nodes have no link to each other")
            await self.sleep(0.01)

    def is_linked(self) -> bool:
        """Whether every running node has a link to every other one that runs, and has heard from it what it owes."""
        running = set(self.running)
        return all(
            state == "alive" and self.local(name).upkeep.doubts.knows(other)
            for name in self.running
            for other, state, _ in self.machines[name].link_states()
            if other in running
        )

    # --- clients

    def client(self, name: str, *, targets: Sequence[str] = (), **options: Any) -> AsyncClient:
        """The real client, over simulated links from `name`. `targets` are the nodes it knows at first; `options` are its own."""
        process = self.process(name)
        addresses = [self.machines[node].address for node in targets or self.machines]

        def dial(address: str, ring: ClientRing) -> Transport:
            net = SimFrames(self.network, process, "") if self.frames else None
            channel = partial(SimChannel, self.network, process, rng=rng)
            return GrpcTransport(address, ring, channel=channel, frames=net, worth_frames=SIM_WORTH_FRAMES)

        rng = self.random(f"client/{name}/{len(self._clients)}")
        client = AsyncClient(",".join(addresses), dial=dial, clock=ClientClock(self.loop), rng=rng, **options)
        self._clients.append(client)
        return client

    # --- time, checks, end

    async def sleep(self, seconds: float) -> None:
        """Lets virtual time pass."""
        waiter = self.loop.create_future()
        self.loop.call_later(seconds, lambda: None if waiter.done() else waiter.set_result(None))
        await waiter

    @property
    def now_s(self) -> float:
        """Seconds of virtual time, as the loop counts them."""
        return self.loop.time()

    def check(self) -> None:
        """Asserts the invariants of every state machine, and that there are no defects."""
        for machine in self.machines.values():
            if machine.node is not None:
                machine.node.check()
        for client in self._clients:
            if client.dispatcher is not None:
                for link in client.membership.all_links():
                    link.check()
        assert not self.defects, "\n".join(self.defects)

    async def close(self) -> None:
        """Heals everything, closes the clients, stops the nodes, and asserts that nothing is left: no task, timer or connection."""
        self.heal_all()
        self.check()
        self.loop.after_turns = None
        for client in self._clients:
            await client.close()
        for name in self.running:
            try:
                await self.stop(name)
            except KvError as error:
                self.event("stopped", node=name, error=str(error))
        await self.sleep(6.0)  # longer than any keepalive
        left = [task for task in self.loop.tasks_of() if task.process.is_alive and task.get_name() != "main"]
        assert not left, f"tasks are left:\n{self.loop.describe_waiting()}"
        timers = [f"{handle.process.name}: {handle.callback!r} at {handle.when()}" for handle in self.loop.timers()]
        assert not timers, f"timers are left: {timers}"
        assert not (open_ := self.network.open_connections()), f"connections are left: {open_}"
        assert not self.defects, "\n".join(self.defects)

    def _take_log(self, level: str, event: str, facts: dict[str, Any]) -> None:
        facts = {name: str(value) for name, value in sorted(facts.items()) if name != "exc_info"}
        name = self.loop.current.name
        self.events.add(self.loop.now_ns, "log", process=name, level=level, event=event, **facts)
        if event == "round_failed":
            error = sys.exc_info()[1]
            self.defects.append(f"{name}: {event} {facts} {error!r}{traceback_of(error)}")
