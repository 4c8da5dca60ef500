"""Where a schedule meets a world: runs it, judges its history, and says what broke. A schedule gives the same bytes for ever."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from kvchaos.checkers.violations import Violation
from kvchaos.history import History, Recorder
from kvchaos.namespace_performer import NamespacePerformer
from kvchaos.namespace_performer import Performer as CarriesOut
from kvchaos.operations import Operation
from kvchaos.performer import ClientPast, Performer
from kvchaos.register_performer import RegisterPerformer
from kvchaos.simulation.bugs import planted
from kvchaos.simulation.crash_points import CrashPoints
from kvchaos.simulation.made import agree_on_namespaces
from kvchaos.simulation.members import agree, note_incarnations
from kvchaos.simulation.nemesis import Nemesis
from kvchaos.simulation.patch import Patch
from kvchaos.simulation.rest import Rest
from kvchaos.simulation.schedule import TYPED, Schedule
from kvchaos.simulation.spaces import MEMORY, UNSYNCED, BySpace, judge_by_space
from kvchaos.simulation.stopwatch import Stopwatch
from kvchaos.simulation.watch import Watch
from kvchaos.typed_performer import TypedPerformer
from kvstore import __version__
from kvstore.config import ClusterConfig, MembershipConfig, NamespaceConfig, NodeLimits
from kvstore.simulation.connection import LinkSettings, NetworkSettings
from kvstore.simulation.disk import DiskSettings
from kvstore.simulation.events import Event
from kvstore.simulation.loop import START_NS, Deadlock, OutOfTime
from kvstore.simulation.world import World

LIMIT_S = 600.0
CHECK_EVERY_TURNS = 500
PARTITIONS = 8
QUICK_MS = 5.0
OF_LINKS_AND_CLOCKS = frozenset({"cut", "partition", "isolate", "stall", "mute", "slow", "lossy", "reset", "skew", "epoch"})


@dataclass(slots=True)
class Outcome:
    """What a run was. `digest` covers the world's log and the history; `events` is the world's log where it was asked for."""

    schedule: Schedule
    history: History
    violations: list[Violation]
    digest: str
    simulated_s: float
    acknowledged: int
    events: list[Event]

    @property
    def is_ok(self) -> bool:
        """Whether every promise held."""
        return not self.violations


def run(schedule: Schedule, *, bug: str | None = None, keep_events: bool = False) -> Outcome:
    """Runs the schedule to its end and judges it; with `bug` on a store with that mistake planted."""
    with ExitStack() as stack:
        if bug is not None:
            stack.enter_context(planted(bug))
        patch = Patch()
        stack.callback(patch.undo)
        world = make_world(schedule, keep_events=keep_events)
        recorder = Recorder(lambda: world.loop.now_ns - START_NS, _header(schedule))
        try:
            stopwatch = Stopwatch(world, recorder, patch)
            points = CrashPoints(world, patch)
            world.run(lambda running: _play(running, schedule, recorder, stopwatch, points, patch))
        except (AssertionError, Deadlock, OutOfTime) as error:
            # A broken invariant is a finding like any other: the history up to here is judged as well.
            recorder.note("world", "info", "invariant", value=str(error))
    history = recorder.history
    violations = judge_by_space(schedule, history)
    hashed = blake2b(world.events.digest.encode(), digest_size=16)
    for line in history.lines():
        hashed.update(line.encode())
    acknowledged = sum(event.type == "ok" for event in history.events)
    simulated_s = (world.loop.now_ns - START_NS) / 1e9
    return Outcome(schedule, history, violations, hashed.hexdigest(), simulated_s, acknowledged, world.events.kept)


def make_world(schedule: Schedule, *, keep_events: bool = False) -> World:
    """The world of a schedule, before anything has happened."""
    space = _namespace(schedule)
    namespaces = {"default": space}
    if schedule.memory_bytes:
        namespaces[UNSYNCED] = replace(space, id=2, name=UNSYNCED, durability="os")
        namespaces[MEMORY] = replace(space, id=3, name=MEMORY, storage="memory", durability="none", max_bytes=schedule.memory_bytes)
    cluster = ClusterConfig(
        id="sim",
        partitions=PARTITIONS,
        replicas=max(3, schedule.n),
        retry_window_s=schedule.retry_window_ms / 1000,
        retry_ids_max=schedule.retry_ids,
        tombstone_grace_s=schedule.grace_ms / 1000,
        timeline_bound_s=schedule.timeline_bound_ms / 1000,
        namespaces=namespaces,
        zones=schedule.zone_of,
    )
    link = LinkSettings(delay_ms=schedule.delay_ms, jitter_ms=schedule.jitter_ms, loss=schedule.loss)
    return World(
        schedule.seed,
        nodes=schedule.nodes,
        cluster=cluster,
        network=NetworkSettings(link=link, late_share=schedule.late_share),
        disk=DiskSettings(write_ms=schedule.write_ms, jitter_ms=schedule.disk_jitter_ms),
        limits=NodeLimits(
            record_cache_bytes=schedule.cache_bytes,
            repair_interval_s=schedule.repair_interval_s,
            hints_max=schedule.hints_max,
        ),
        membership=MembershipConfig(timing=schedule.timing),
        frames=schedule.frames,
        keep_events=keep_events,
        check_every=CHECK_EVERY_TURNS,
        limit_s=LIMIT_S,
    )


def _namespace(schedule: Schedule) -> NamespaceConfig:
    """By a preset where one gives r and w, so that it degrades; else they are exact. Registers have a preset of their own."""
    if schedule.has_registers:
        return NamespaceConfig(n=schedule.n, mode="linearizable", preset=schedule.preset)
    majority = schedule.copies // 2 + 1
    presets = {(1, 1): "pa-el", (majority, majority): "pa-ec"}
    preset = presets.get((schedule.r, schedule.w))
    if preset is not None:
        return NamespaceConfig(n=schedule.n, preset=preset, policy=schedule.policy)
    return NamespaceConfig(n=schedule.n, r=schedule.r, w=schedule.w, policy=schedule.policy)


def _header(schedule: Schedule) -> dict[str, Any]:
    return {
        "seed": schedule.seed,
        "scenario": schedule.scenario,
        "preset": schedule.preset or "eventual",
        "policy": schedule.policy,
        "levels": {"n": schedule.copies, "r": schedule.r, "w": schedule.w},
        "n": schedule.copies,
        "r": schedule.r,
        "w": schedule.w,
        "loss": schedule.loss,
        "exact": _namespace(schedule).r is not None,
        "skew_ms": schedule.skew_ms,
        "bound_ms": schedule.timeline_bound_ms,
        "zones": schedule.zone_of,
        "retry_window_ms": schedule.retry_window_ms if _is_shown_at_once(schedule) else 0,
        "promises": list(schedule.promises),
        "calm": not schedule.faults and not schedule.loss,
        "versions": {"kvstore": __version__},
    }


def _is_shown_at_once(schedule: Schedule) -> bool:
    """Whether disks show what was executed when it was: only then can its time be judged."""
    return schedule.write_ms <= QUICK_MS and all(fault.kind in OF_LINKS_AND_CLOCKS for fault in schedule.faults)


async def _play(
    world: World, schedule: Schedule, recorder: Recorder, stopwatch: Stopwatch, points: CrashPoints, patch: Patch
) -> None:
    watch = Watch(world, recorder)
    if schedule.memory_bytes:
        watch.attach_memory(patch)
    await world.start()
    note_incarnations(world, recorder)
    nemesis = Nemesis(world, schedule, recorder, stopwatch, points)
    rest = Rest(world, schedule, recorder, nemesis.revive)
    faults = world.loop.main.spawn(nemesis.run())
    for work in _start_clients(world, schedule, recorder):
        await work
    await faults
    # Whatever was asked is answered or given up by now, faults or not: a deadline that was forgotten shows as work that goes on.
    await world.sleep(schedule.timeout_ms / 1000 + 1.0)
    await rest.note_resources()
    await nemesis.end()
    await rest.come()
    await agree(world, recorder)
    if schedule.makes_namespaces:
        await agree_on_namespaces(world, recorder)
    watch.finish()


def _start_clients(world: World, schedule: Schedule, recorder: Recorder) -> list[Any]:
    numbers = 1 + max((operation.process for operation in schedule.operations), default=0)
    clients = [world.client(name) for name in schedule.client_ids]
    pasts = [ClientPast(list) for _ in clients]
    of_process: defaultdict[int, list[Operation]] = defaultdict(list)
    for operation in schedule.operations:
        of_process[operation.process].append(operation)
    began_s = world.now_s
    work = []
    for process, operations in sorted(of_process.items()):
        at = process % len(clients)
        performer: Performer | TypedPerformer | RegisterPerformer | NamespacePerformer
        if schedule.makes_namespaces:
            performer = NamespacePerformer(clients[at], recorder, process, numbers=numbers, timeout_ms=schedule.timeout_ms)
        elif schedule.has_registers:
            registers = clients[at].namespace("default").session() if schedule.sessions else clients[at]
            performer = RegisterPerformer(registers, recorder, process, numbers=numbers, timeout_ms=schedule.timeout_ms)
        elif schedule.policy in TYPED:
            performer = TypedPerformer(
                clients[at], recorder, process, numbers=numbers, timeout_ms=schedule.timeout_ms, in_map=schedule.policy == "map"
            )
        else:
            store: Any = clients[at].namespace("default").session() if schedule.sessions else clients[at]
            if schedule.memory_bytes:
                store = BySpace(clients[at], schedule)
            performer = Performer(store, recorder, process, numbers=numbers, past=pasts[at], timeout_ms=schedule.timeout_ms)
        work.append(world.spawn(schedule.client_ids[at], _perform(world, performer, operations, began_s)))
    return work


async def _perform(world: World, performer: CarriesOut, operations: list[Operation], began_s: float) -> None:
    for operation in operations:
        await world.sleep(max(0.0, began_s + operation.at_ms / 1000 - world.now_s))
        await performer.perform(operation)
