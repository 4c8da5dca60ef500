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
from random import Random
from typing import Any, TypeVar

from kvclient import AsyncClient
from kvclient.grpc_transport import GrpcTransport
from kvclient.transport import Ring as ClientRing
from kvclient.transport import Transport
from kvproto.errors import KvError
from kvstore.cluster.view import RingView
from kvstore.config import ClusterConfig, NodeLimits
from kvstore.core.ring import Member, Ring
from kvstore.core.ring_planner import plan_ring
from kvstore.node import LocalNode, Node
from kvstore.simulation.channel import SimChannel
from kvstore.simulation.clocks import ClientClock
from kvstore.simulation.disk import Backup, DiskSettings, SimDisk
from kvstore.simulation.events import EventLog
from kvstore.simulation.logs import caught_logs
from kvstore.simulation.loop import SimLoop, SimTask, traceback_of
from kvstore.simulation.machine import Machine
from kvstore.simulation.network import LinkSettings, Network, NetworkSettings
from kvstore.simulation.process import Process

T = TypeVar("T")

LINKED_S_MAX = 30.0
CLUSTER = ClusterConfig(id="sim", partitions=8)


class World:
    """Nodes, clients, links and disks. `nodes` is how many (n1, n2, …) or their names; `keep_events` keeps the log's lines;
    `check_every` turns of the loop all invariants are checked (0: only by `check` and at the end)."""

    def __init__(
        self,
        seed: object,
        *,
        nodes: int | Sequence[str] = 3,
        cluster: ClusterConfig = CLUSTER,
        network: NetworkSettings | None = None,
        disk: DiskSettings | None = None,
        limits: NodeLimits | None = None,
        keep_events: bool = False,
        check_every: int = 0,
        limit_s: float = 3600.0,
    ) -> None:
        names = [f"n{at + 1}" for at in range(nodes)] if isinstance(nodes, int) else list(nodes)
        self.seed = seed
        self.cluster = cluster
        self.loop = SimLoop(seed, limit_s=limit_s)  # type: ignore[abstract]  # what is missing raises NotImplementedError
        self.events = EventLog(kept=keep_events)
        self.rng = self.random("scenario")
        self.network = Network(self.loop, self.random("network"), self.events, network or NetworkSettings())
        self.machines: dict[str, Machine] = {}
        self.ring: Ring | None = None  # the newest that was installed
        self._clients: list[AsyncClient] = []
        self._processes: dict[str, Process] = {}
        if check_every:
            self.loop.after_turns, self.loop.turns_between = self.check, check_every
        addresses = {name: f"{name}:7400" for name in names}
        for name in names:
            self.network.hosts[addresses[name]] = name
            self.machines[name] = Machine(self, name, addresses, cluster, disk or DiskSettings(), limits or NodeLimits())

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
        return self._processes.setdefault(name, Process(self.loop, name))

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

    def crash(self, name: str, *, keep: int | None = None, silent: bool = False) -> None:
        """Kills a node's process, wherever it is. Of the writes no sync has covered the first `keep` survive (None: drawn).
        `silent`: the machine goes with it, so that no connection is reset and others learn it by keepalive only."""
        self.machines[name].crash(keep, silently=silent)

    def pause(self, name: str) -> None:
        """Stops a node or client from running; its messages and timers wait (SIGSTOP)."""
        process = self.process(name)
        if not process.is_paused:
            self.event("fault", f="pause", node=name)
            process.pause()
            self.network.silence(process, lambda: process.is_paused)

    def resume(self, name: str) -> None:
        """Lets a paused node or client run again."""
        self.event("fault", f="resume", node=name)
        self.process(name).resume()

    def wipe(self, name: str) -> None:
        """Empties a node's disk; the node must be down."""
        assert self.machines[name].node is None, f"{name} runs"
        self.event("fault", f="wipe", node=name)
        self.disk(name).wipe()

    def backup(self, name: str) -> Backup:
        """A copy of a node's disk as it is now."""
        return self.disk(name).backup()

    def restore(self, name: str, backup: Backup) -> None:
        """Puts an older copy back; the node must be down."""
        self.event("fault", f="restore", node=name)
        self.disk(name).restore(backup)

    def disk(self, name: str) -> SimDisk:
        """A node's disk, for its faults: `fail_next_write`, `slow_ms`, `flip_bit`, `unreadable`."""
        return self.machines[name].disk

    def skew(self, name: str, ms: int) -> None:
        """Sets a node's wall clock `ms` ahead of (or behind) the true time, at once."""
        self.event("fault", f="skew", node=name, ms=ms)
        self.machines[name].clock.skew_ms = ms

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
            spaces = local.ring.view.spaces.values()
            local.ring.view = RingView(name, self.ring, tuple(space.info for space in spaces))

    async def wait_linked(self, timeout_s: float = LINKED_S_MAX) -> None:
        """Returns once every running node has a link to every other one that runs. Raises `TimeoutError`."""
        until_s = self.loop.time() + timeout_s
        while not self.is_linked():
            if self.loop.time() > until_s:
                raise TimeoutError("some running nodes have no link to each other")
            await self.sleep(0.01)

    def is_linked(self) -> bool:
        """Whether every running node has a link to every other one that runs."""
        running = set(self.running)
        return all(
            state == "alive" for name in self.running for other, state, _ in self.machines[name].link_states() if other in running
        )

    # --- clients

    def client(self, name: str, *, targets: Sequence[str] = (), **options: Any) -> AsyncClient:
        """The real client, over simulated links from `name`. `targets` are the nodes it knows at first; `options` are its own."""
        process = self.process(name)
        addresses = [self.machines[node].address for node in targets or self.machines]

        def dial(address: str, ring: ClientRing) -> Transport:
            return GrpcTransport(address, ring, channel=lambda to: SimChannel(self.network, process, to, rng))

        rng = self.random(f"client/{name}/{len(self._clients)}")
        client = AsyncClient(",".join(addresses), dial=dial, clock=ClientClock(self.loop), rng=rng, **options)
        self._clients.append(client)
        return client

    # --- links

    def set_link(self, source: str, target: str, **changes: float) -> None:
        """Changes a directed link (`LinkSettings`: delay_ms, jitter_ms, loss, retransmit_ms) for what is sent from now on."""
        link = self.network.link(source, target)
        current = {name: getattr(link.settings, name) for name in LinkSettings.__dataclass_fields__}
        link.settings = LinkSettings(**{**current, **changes})
        self.event("fault", f="link", source=source, target=target, **changes)

    def cut(self, source: str, target: str) -> None:
        """Nothing passes from `source` to `target`; what was on its way may be lost with its connection."""
        self._block(source, target, "cut")

    def stall(self, source: str, target: str) -> None:
        """Nothing passes from `source` to `target` until it is healed; all of it arrives then, however late."""
        self._block(source, target, "stalled")

    def heal(self, source: str, target: str) -> None:
        """Everything passes from `source` to `target` again."""
        self.event("fault", f="heal", source=source, target=target)
        self.network.unblock(source, target)

    def partition(self, *groups: Iterable[str]) -> None:
        """Cuts every link between nodes or clients of different groups, both ways."""
        sides = [list(group) for group in groups]
        for at, side in enumerate(sides):
            for other in [name for index, names in enumerate(sides) if index != at for name in names]:
                for name in side:
                    self.cut(name, other)

    def isolate(self, name: str) -> None:
        """Cuts a node off from all other nodes, both ways; clients still reach it."""
        self.partition([name], [other for other in self.machines if other != name])

    def heal_all(self) -> None:
        """Frees every link and resumes every paused process; settings of links, disks and clocks stay."""
        for link in self.network.links():
            if link.blocked:
                self.heal(link.source, link.target)
        for machine in self.machines.values():
            if machine.process is not None and machine.process.is_paused:
                self.resume(machine.name)
        for process in self._processes.values():
            if process.is_paused:
                self.resume(process.name)

    def reset(self, left: str, right: str) -> None:
        """Resets every connection between the two; what was on its way is lost."""
        self.event("fault", f="reset", left=left, right=right, connections=self.network.reset(left, right))

    def _block(self, source: str, target: str, how: str) -> None:
        self.event("fault", f=how, source=source, target=target)
        self.network.block(source, target, how)

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
