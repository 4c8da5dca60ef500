"""Every setting of the dial in one simulated cluster, side by side: each has a key of its own, and a history of its own.

The clients of all settings do the same at the same moments, so that one schedule of faults meets them all: slow disks, so that a
write is on one replica long before it is on the next; a cut with clients on either side; a crash; a node that stands still.
kvchaos.checkers.promised says by whom a history is judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from kvchaos.checkers.judge import judge
from kvchaos.checkers.promised import VERIFIED_BY, check_exact, stronger
from kvchaos.checkers.violations import Violation
from kvchaos.history import Recorder, calls_of
from kvchaos.operations import Operation
from kvchaos.performer import ClientPast, Performer
from kvchaos.register_performer import RegisterPerformer
from kvchaos.simulation.crash_points import CrashPoints
from kvchaos.simulation.nemesis import Nemesis
from kvchaos.simulation.patch import Patch
from kvchaos.simulation.schedule import Fault, Schedule
from kvchaos.simulation.stopwatch import Stopwatch
from kvclient import AsyncClient
from kvclient.dial import Level, Promise, Setting, promise_of
from kvclient.namespace import AsyncNamespace
from kvstore.config import ClusterConfig, MembershipConfig, NamespaceConfig, NodeLimits
from kvstore.simulation.connection import LinkSettings, NetworkSettings
from kvstore.simulation.disk import DiskSettings
from kvstore.simulation.loop import START_NS
from kvstore.simulation.world import World

CLIENTS = ("c1", "c2", "c3")
WRITERS, READERS = 3, 6
"""Processes; each uses the client of its number modulo three."""

CUT_MS, HEAL_MS, CRASH_MS, PAUSE_MS, END_MS = 4000, 9000, 11_000, 12_500, 14_500
EPISODES = 12
TIMEOUT_MS = 800
BOUND_MS = 3000
LOOKS_MAX = 300
LINEARIZABLE = "linearizable"
UNSEEN = frozenset({Promise.ATOMIC, Promise.UNSEEN_ONLY})


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one setting: what broke of its promise, and what of the next stronger one."""

    setting: Setting
    broken: tuple[Violation, ...]
    beyond: tuple[Violation, ...]
    acknowledged: int


def name_of(setting: Setting) -> str:
    """Of a namespace with its preset and n."""
    return f"{setting.preset}-{setting.n}"


def namespaces_for(settings: Sequence[Setting]) -> dict[str, NamespaceConfig]:
    """Those that the settings are of."""
    names = sorted({(name_of(one), one.n, one.preset, one.mode) for one in settings})
    return {
        name: NamespaceConfig(id=number, name=name, n=n, preset=preset, mode=mode)
        for number, (name, n, preset, mode) in enumerate(names, 2)
    }


class Dialled:
    """A namespace whose every call is made with one setting, whatever level it is asked for."""

    def __init__(self, space: AsyncNamespace, setting: Setting) -> None:
        self._space = space
        self._setting = setting

    def how(self, *, writes: bool) -> dict[str, Any]:
        """What a call says about consistency."""
        setting = self._setting
        if setting.mode == LINEARIZABLE:
            if writes:
                return {}
            return {"level": setting.read.value, **({"bound_ms": BOUND_MS} if setting.read is Level.BOUNDED else {})}
        if writes:
            return {"w": setting.w if setting.write is Level.COUNT else 0, "sloppy": setting.sloppy}
        if setting.read is Level.ATOMIC:
            return {"level": "atomic"}
        return {"r": setting.r if setting.read is Level.COUNT else 0, "sloppy": setting.sloppy}

    async def get(self, key: str, *, timeout_s: float, **asked: Any) -> Any:
        """Reads a key; at rest at the level that is asked for."""
        how = {"level": "all"} if asked.get("level") == "all" else self.how(writes=False)
        return await self._space.get(key, timeout_s=timeout_s, **how)

    async def put(self, key: str, value: bytes, *, timeout_s: float, context: bytes | None = None, **_: Any) -> Any:
        """Writes a key."""
        contexts: dict[str, Any] = {} if self._setting.mode == LINEARIZABLE else {"context": context}
        return await self._space.put(key, value, timeout_s=timeout_s, **contexts, **self.how(writes=True))


class _Player:
    """The clients' side of one setting."""

    def __init__(self, world: World, clients: Sequence[AsyncClient], setting: Setting, name: str) -> None:
        self.setting = setting
        self.key = name
        # What is told of a read in the history: the checker of what is never un-seen goes by it.
        self.level = "atomic" if promise_of(setting) in UNSEEN else "preset"
        promises = VERIFIED_BY[promise_of(setting)]
        header: dict[str, Any] = {"n": setting.n, "r": setting.r, "w": setting.w, "promises": list(promises)}
        if promise_of(setting) is Promise.BOUNDED:
            header["bound_ms"] = BOUND_MS
        self.recorder = Recorder(lambda: world.loop.now_ns - START_NS, header)
        stores = [Dialled(client.namespace(name_of(setting)), setting) for client in clients]
        pasts = [ClientPast(list) for _ in clients]
        self._performers = [self._performer(stores[at % len(stores)], pasts[at % len(stores)], at) for at in range(PROCESSES)]
        self._final = self._performer(stores[-1], ClientPast(list), PROCESSES * 1000, final=True)

    def _performer(self, store: Any, past: Any, process: int, *, final: bool = False) -> Performer | RegisterPerformer:
        shared: dict[str, Any] = {"numbers": PROCESSES, "timeout_ms": 5 * TIMEOUT_MS if final else TIMEOUT_MS, "final": final}
        if self.setting.mode == LINEARIZABLE:
            return RegisterPerformer(store, self.recorder, process, **shared)
        return Performer(store, self.recorder, process, past=past, **shared)

    async def perform(self, operation: Operation) -> None:
        """Carries out one operation."""
        await self._performers[operation.process].perform(operation)

    async def read_at_rest(self) -> bool:
        """Reads the key from all of its home replicas; whether they answered."""
        before = len(self.recorder.history.events)
        await self._final.perform(
            Operation(0, 0, "get", self.key, "", level="preset" if self.setting.mode == LINEARIZABLE else "all")
        )
        if any(event.type == "ok" for event in self.recorder.history.events[before:]):
            return True
        del self.recorder.history.events[before:]
        return False

    def judged(self) -> Judged:
        """What became of it."""
        history, calls = self.recorder.history, calls_of(self.recorder.history.events)
        broken = [*judge(history), *check_exact(calls, self.setting)]
        beyond = stronger(history.events, self.setting)
        return Judged(self.setting, tuple(broken), tuple(beyond), sum(call.is_ok for call in calls))


PROCESSES = WRITERS + READERS


def faults_of(seed: int, nodes: Sequence[str]) -> tuple[Fault, ...]:
    """A cut with clients on either side and one that reaches all, a crash, and a node that stands still."""
    rng = Random(f"{seed}/dial/faults")
    order = rng.sample(list(nodes), len(nodes))
    small, large = sorted(order[: len(order) // 2]), sorted(order[len(order) // 2 :])
    return (
        Fault(CUT_MS, "partition", {"groups": [[*small, "c1"], [*large, "c2"]]}, HEAL_MS - CUT_MS),
        Fault(CRASH_MS, "crash", {"nodes": [rng.choice(order)]}, 500),
        Fault(PAUSE_MS, "pause", {"node": rng.choice(order)}, 1000),
    )


def operations_of(seed: int) -> list[Operation]:
    """What the processes do with each key: somebody writes, and others look while it goes from disk to disk."""
    rng = Random(f"{seed}/dial")
    rows: list[tuple[int, int, str]] = []
    moments = [rng.randrange(END_MS) for _ in range(EPISODES - 4)]
    moments += [rng.randrange(HEAL_MS - 2000, HEAL_MS - 200), rng.randrange(HEAL_MS - 1000, HEAL_MS)]
    for at_ms in (*moments, HEAL_MS - 100, HEAL_MS - 50):
        rows.append((at_ms, rng.randrange(WRITERS), "put"))
        rows += [(at_ms + rng.randrange(5, 300), WRITERS + rng.randrange(READERS), "get") for _ in range(5)]
    rows += [(HEAL_MS + rng.randrange(600), WRITERS + rng.randrange(READERS), "get") for _ in range(8)]
    return [Operation(process, at_ms, f, "", f"w{number}", "none") for number, (at_ms, process, f) in enumerate(sorted(rows), 1)]


def run_dial(seed: int, settings: Sequence[Setting], *, nodes: int) -> list[Judged]:
    """Runs the schedule of a seed with all settings side by side. Raises `AssertionError` where an invariant of a node is
    broken."""
    rng = Random(f"{seed}/dial/world")
    cluster = ClusterConfig(
        id="sim", partitions=8, replicas=max(3, *(one.n for one in settings)), namespaces=namespaces_for(settings)
    )
    link = LinkSettings(delay_ms=0.2, jitter_ms=rng.choice([0.6, 5.0]))
    world = World(
        seed,
        nodes=nodes,
        cluster=cluster,
        network=NetworkSettings(link=link, late_share=rng.choice([0.0, 1.0])),
        disk=DiskSettings(write_ms=rng.choice([2.0, 10.0]), jitter_ms=rng.choice([60.0, 150.0])),
        limits=NodeLimits(repair_interval_s=0.0),
        membership=MembershipConfig(timing="local"),
        limit_s=200.0,
    )
    patch = Patch()
    try:
        return world.run(lambda running: _play(running, seed, settings, patch))
    finally:
        patch.undo()


async def _play(world: World, seed: int, settings: Sequence[Setting], patch: Patch) -> list[Judged]:
    recorder = Recorder(lambda: world.loop.now_ns - START_NS)
    stopwatch = Stopwatch(world, recorder, patch)
    await world.start()
    clients = [world.client(name) for name in CLIENTS]
    players = [_Player(world, clients, setting, f"{seed}-{number}") for number, setting in enumerate(settings)]
    schedule = Schedule(seed, nodes=len(world.machines), clients=len(CLIENTS), faults=faults_of(seed, list(world.machines)))
    nemesis = Nemesis(world, schedule, recorder, stopwatch, CrashPoints(world, patch))
    faults = world.loop.main.spawn(nemesis.run())
    began_s = world.now_s
    of_process: defaultdict[int, list[Operation]] = defaultdict(list)
    for operation in operations_of(seed):
        of_process[operation.process].append(operation)
    work = [
        world.spawn(CLIENTS[process % len(CLIENTS)], _perform(world, player, operations, began_s))
        for player in players
        for process, operations in of_process.items()
    ]
    for one in work:
        await one
    await faults
    await nemesis.end()
    await _come_to_rest(world, players)
    return [player.judged() for player in players]


async def _perform(world: World, player: _Player, operations: Sequence[Operation], began_s: float) -> None:
    for operation in operations:
        await world.sleep(max(0.0, began_s + operation.at_ms / 1000 - world.now_s))
        await player.perform(replace(operation, key=player.key, level=player.level))


async def _come_to_rest(world: World, players: Sequence[_Player]) -> None:
    """Until nothing is kept for others any more and every key was read from all of its home replicas."""
    for _ in range(LOOKS_MAX):
        if not any(world.local(name).hints.targets for name in world.running):
            break
        await world.sleep(0.1)
    assert not any(world.local(name).hints.targets for name in world.running), "hints are left"
    waiting = list(players)
    for _ in range(LOOKS_MAX):
        read = [await world.spawn(CLIENTS[-1], player.read_at_rest()) for player in waiting]
        waiting = [player for player, is_read in zip(waiting, read, strict=True) if not is_read]
        if not waiting:
            return
        await world.sleep(0.1)
    raise AssertionError(f"keys that cannot be read at rest: {', '.join(player.key for player in waiting)}")
