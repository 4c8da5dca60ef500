"""After the last heal: the cluster comes to rest within a bound, and says what it holds.

Every node is asked for every key of its own at level `all` until all answer, all home replicas hold the same, and nothing is kept
for others any more. Then a client reads each key once more; these reads are the ones that checkers judge. Reading repairs: where
replicas have to agree `by_itself`, that is waited for first.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from kvchaos.history import Recorder
from kvchaos.operations import Operation, name_of
from kvchaos.performer import ClientPast, Performer
from kvchaos.register_performer import RegisterPerformer
from kvchaos.simulation.schedule import GRACE_MS, TYPED, Schedule
from kvchaos.simulation.spaces import MEMORY, SYNCED, BySpace, space_of
from kvchaos.typed_performer import TypedPerformer
from kvclient.grpc_transport import GrpcTransport
from kvclient.transport import Ring
from kvproto.columns import GroupReply, Kind, Level, OperationGroup
from kvproto.errors import RecordLost
from kvstore.core.record import (
    DamagedRecord,
    decode,
    deleted_ms,
    digest,
    expire_record,
)
from kvstore.repair.set_aside import ASIDE_NAME
from kvstore.simulation.channel import SimChannel
from kvstore.simulation.world import World
from kvstore.storage.layout import PREFIX_BYTES, system_key

BOUND_MS = 30_000
LOOK_S = 0.1
ASK_TIMEOUT_MS = 2000
OWN_QUESTION_S = 3.0
"""Longer than a node gives any question of its own."""
PROBE = "probe"
READER = 1_000_000
"""The process whose reads are those at rest: nobody else's number."""


class Rest:
    """Brings one world to rest and records what it finds."""

    def __init__(self, world: World, schedule: Schedule, recorder: Recorder, revive: Callable[[], Awaitable[None]]) -> None:
        self._world = world
        self._revive = revive
        self._schedule = schedule
        self._recorder = recorder

    async def come(self) -> None:
        """Waits until every key can be read everywhere and replicas agree, at most `BOUND_MS`, and records what was found."""
        world, began_s = self._world, self._world.now_s
        process = world.process(PROBE)
        rng = world.random(PROBE)
        rings = Ring(lambda: None)
        probes = {
            name: GrpcTransport(machine.address, rings, channel=lambda to: SimChannel(world.network, process, to, rng))
            for name, machine in world.machines.items()
        }
        unread: list[list[str]] = []
        if self._schedule.by_itself:
            await self._agree_by_themselves(began_s + BOUND_MS / 1000)
            began_s = self._world.now_s
        while True:
            unread = await world.spawn(PROBE, self._ask_all(probes))
            if not unread and self._is_at_rest():
                break
            if world.now_s - began_s > BOUND_MS / 1000:
                break
            await world.sleep(LOOK_S)
            await self._revive()
        for probe in probes.values():
            await world.spawn(PROBE, probe.close())
        after_ms = round((world.now_s - began_s) * 1000)
        self._recorder.note("world", "info", "rest", value={"after_ms": after_ms, "bound_ms": BOUND_MS, "unread": unread})
        for name in world.machines:
            self._recorder.note("world", "info", "holds", value=self._holds(name), node=name)
            self._recorder.note("world", "info", "trees", value=self._trees(name), node=name)
            self._check_trees(name)
            for key, names in self._filed(name).items():
                self._recorder.note("world", "info", "filed", key=key, value=sorted(names), node=name)
            if left := self._left_behind(name):
                self._recorder.note("world", "info", "resources", value={"in_flight": 0, "queues": {}, "left": left}, node=name)
        await world.spawn(PROBE, self._read_all())

    async def _agree_by_themselves(self, until_s: float) -> None:
        world = self._world
        while not self._is_at_rest():
            if world.now_s > until_s:
                self._recorder.note("world", "info", "differ", value={"bound_ms": BOUND_MS})
                return
            await world.sleep(LOOK_S)
            await self._revive()

    def _is_at_rest(self) -> bool:
        """Whether nothing is left to be handed over, repaired or found out, as far as one can see from outside."""
        is_done = not any(self._left_behind(name) or self._is_unsure(name) for name in self._world.machines)
        # Two lost acceptors wait for each other until an operator gives one up (ADR 26).
        return is_done and len(self._lost_acceptors()) != 1 and self._agree() and self._trees_agree()

    async def note_resources(self) -> None:
        """Records what every node that runs still has to do. A node may just be asking a question of its own, such as what the list
        of namespaces says, so it is looked at until it was seen idle: what goes on for `OWN_QUESTION_S` outlives its deadline. Not
        while an acceptor is to be readmitted: it reads that list again and again, through whoever it can reach."""
        if self._lost_acceptors():
            return
        world = self._world
        least = self._in_flight()
        until_s = world.now_s + OWN_QUESTION_S
        while any(least.values()) and world.now_s < until_s:
            await world.sleep(LOOK_S)
            now = self._in_flight()  # without those that a step of a job has killed meanwhile
            least = {name: min(count, now[name]) for name, count in least.items() if name in now}
        for name, count in least.items():
            self._recorder.note("world", "info", "resources", value={"in_flight": count, "queues": {}, "left": []}, node=name)

    def _in_flight(self) -> dict[str, int]:
        """Of every node that can be looked into."""
        world = self._world
        up = [name for name in world.running if world.node(name).local is not None and not world.process(name).is_paused]
        return {name: world.local(name).coordinator.in_flight for name in up}

    async def _ask_all(self, probes: dict[str, GrpcTransport]) -> list[list[str]]:
        unread: dict[str, str] = {}
        for name in self._world.running:
            keys = [key for key in self._schedule.keys if name in self._owners(key)]
            for at, error in (await self._ask(probes[name], keys)).items():
                unread.setdefault(keys[at], f"through {name}: {error}")
        return [[key, unread[key]] for key in sorted(unread)]

    async def _ask(self, probe: GrpcTransport, keys: Sequence[str]) -> dict[int, str]:
        """Positions that could not be read through a node, and why."""
        if not keys:
            return {}
        by_space: dict[str, list[int]] = {}
        for at, key in enumerate(keys):
            by_space.setdefault(space_of(self._schedule, key), []).append(at)
        return {
            positions[at]: error
            for space, positions in sorted(by_space.items())
            for at, error in (await self._ask_space(probe, space, [keys[position] for position in positions])).items()
        }

    async def _ask_space(self, probe: GrpcTransport, space: str, keys: Sequence[str]) -> dict[int, str]:
        errors: dict[int, str] = dict.fromkeys(range(len(keys)), "no answer")
        answered = self._world.loop.create_future()

        def take(replies: list[GroupReply], last: bool) -> None:
            for reply in replies:
                for at in range(len(keys)) if reply.positions is None else reply.positions:
                    if reply.error is None:
                        errors.pop(at, None)
                    else:
                        errors[at] = f"{type(reply.error).__name__}: {reply.error.message}"
            if last and not answered.done():
                answered.set_result(None)

        encoded = [key.encode() for key in keys]
        level = Level.LINEARIZABLE if self._schedule.has_registers else Level.ALL
        group = OperationGroup(Kind.GET, space, encoded, timeouts_ms=(ASK_TIMEOUT_MS,), level=level)
        probe.exchange([group], take)
        self._world.loop.call_later(2 * ASK_TIMEOUT_MS / 1000, lambda: None if answered.done() else answered.set_result(None))
        await answered
        return errors

    async def _read_all(self) -> None:
        client = self._world.client(PROBE)
        performer: Performer | TypedPerformer | RegisterPerformer
        level = "all"
        if self._schedule.has_registers:
            level = "linearizable"
            performer = RegisterPerformer(client, self._recorder, READER, numbers=1, timeout_ms=5000, final=True)
        elif self._schedule.policy in TYPED:
            performer = TypedPerformer(
                client, self._recorder, READER, numbers=1, timeout_ms=5000, final=True, in_map=self._schedule.policy == "map"
            )
        else:
            store: Any = BySpace(client, self._schedule) if self._schedule.memory_bytes else client
            performer = Performer(store, self._recorder, READER, numbers=1, past=ClientPast(list), timeout_ms=5000, final=True)
        for number, key in enumerate(self._schedule.keys):
            await performer.perform(Operation(0, 0, "get", key, f"final{number}", level=level))

    # --- what disks hold

    def _owners(self, key: str) -> tuple[str, ...]:
        view = self._view()
        partition = view.ring.partition_of(key.encode())
        owners: tuple[str, ...] = view.preference[partition][: self._schedule.copies]
        return owners

    def _store_key(self, key: str) -> bytes:
        view = self._view()
        prefix: bytes = view.space(space_of(self._schedule, key)).prefixes[view.ring.partition_of(key.encode())]
        return prefix + key.encode()

    def _view(self) -> Any:
        return self._world.local(self._world.running[0]).ring.view

    def _holds(self, name: str) -> dict[str, str]:
        if not self._world.running or self._schedule.has_registers:  # what is accepted need not be the same everywhere
            return {}
        # In memory each keeps what it has room for.
        keys = [key for key in self._schedule.keys if name in self._owners(key) and space_of(self._schedule, key) != MEMORY]
        return {key: self._digest(name, self._store_key(key)) for key in keys}

    def _filed(self, name: str) -> dict[str, set[str]]:
        """By key the writes in the files of a node that came back after a long absence, which only it had, and in what lies aside
        there to be judged."""
        disk = self._world.machines[name].disk
        lines = [line for place, data in disk.files.items() if place.startswith("set-aside/") for line in data.splitlines()]
        found = [(bytes.fromhex(row["key_hex"]), bytes.fromhex(row["record"])) for row in map(json.loads, lines)]
        aside = system_key(ASIDE_NAME)
        found += [(key[len(aside) + PREFIX_BYTES :], record) for key, record in disk.held().items() if key.startswith(aside)]
        filed: defaultdict[str, set[str]] = defaultdict(set)
        for key, record in found:
            with suppress(DamagedRecord):  # bits have flipped in it where it lay
                names = [name_of(sibling.value) for sibling in decode(record).siblings if not sibling.tombstone]
                filed[key.decode(errors="replace")].update(names)
        return filed

    def _left_behind(self, name: str) -> list[str]:
        """What a node still keeps for others: hints, and copies of keys that it is no home replica of."""
        if name not in self._world.running or self._world.node(name).local is None:
            return []
        local = self._world.local(name)
        if self._schedule.has_registers:
            return []
        left = [f"{local.hints.pending(target)} hints for {target}" for target in local.hints.targets]
        others = [key for key in self._schedule.keys if name not in self._owners(key)]
        kept = [key for key in others if self._digest(name, self._store_key(key)) not in ("", "lost")]
        return left + [f"a copy of {key}, which is not its own" for key in kept]

    # --- hash trees

    def _shared(self, name: str) -> dict[str, bytes]:
        """Where `name` keeps keys that are used and compared: partition (as text), and the prefix of its store keys."""
        if self._schedule.has_registers:
            return {}
        view = self._view()
        used = {
            (space, view.ring.partition_of(key.encode()))
            for key in self._schedule.keys
            if name in self._owners(key) and (space := space_of(self._schedule, key)) != MEMORY
        }
        return {
            str(partition) if space == SYNCED else f"{space}/{partition}": view.space(space).prefixes[partition]
            for space, partition in sorted(used)
        }

    def _trees(self, name: str) -> dict[str, str]:
        """The root of each partition that is used, as this node tells it to its peers."""
        if name not in self._world.running or self._world.node(name).local is None:
            return {}
        forest = self._world.local(name).storage.forest
        if forest is None:
            return {}
        trees = {partition: forest.tree(prefix) for partition, prefix in self._shared(name).items()}
        return {partition: "unknown" if tree is None else f"{tree.root:016x}" for partition, tree in trees.items()}

    def _trees_agree(self) -> bool:
        told: dict[str, set[str]] = {}
        for name in self._world.machines:
            for partition, root in self._trees(name).items():
                told.setdefault(partition, set()).add(root)
        return all(len(roots) == 1 and "unknown" not in roots for roots in told.values())

    def _check_trees(self, name: str) -> None:
        """Asserts that they are the trees of what this node holds."""
        if name in self._world.running and self._world.node(name).local is not None:
            self._world.local(name).store.check_trees(self._shared(name).values())

    def _is_unsure(self, name: str) -> bool:
        """Whether a node still answers that it does not know what it has lost."""
        if name not in self._world.running or self._world.node(name).local is None:
            return False
        local = self._world.local(name)
        return bool(local.store.is_rebuilding or local.store.unsure)

    def _lost_acceptors(self) -> list[str]:
        """Nodes that have no vote on registers yet, the list of namespaces among them."""
        running = [name for name in self._world.running if self._world.node(name).local is not None]
        return [name for name in running if self._world.local(name).linearizable.registers.is_lost]

    def _digest(self, name: str, store_key: bytes) -> str:
        """Of what the node answers from: a record that is damaged on the disk may still be whole in memory."""
        if name not in self._world.running or self._world.node(name).local is None:
            return "down"
        try:
            record = self._world.local(name).store.durable(store_key)
        except RecordLost:
            return "lost"
        if record is not None and self._schedule.grace_ms < GRACE_MS:
            # Sweeps go on at rest, each node's at its own time: what is over and what is nothing any more are the same.
            record = expire_record(record, self._world.machines[name].clock.now_ms())
            if deleted_ms(record) is not None:
                return ""
        return "" if record is None else digest(record).hex()

    def _agree(self) -> bool:
        held: dict[str, set[str]] = {}
        for name in self._world.machines:
            for key, found in self._holds(name).items():
                held.setdefault(key, set()).add(found)
        return all(len(found) == 1 for found in held.values())
