"""Schedules from seeds, by swarm testing: each draws which kinds of faults and operations exist at all, then how many and when.

A mixture of everything hides what only shows where something is absent (Groce et al., "Swarm Testing", 2012). What is drawn keeps
to what the store claims: eventual namespaces, strict levels, ring epochs that move no owners. Where copies are taken away
(`LOSES_COPIES`) it is in one way and from one node, and writes go to two at least, so that nothing acknowledged may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from kvchaos.checkers.judge import PROMISES
from kvchaos.operations import Operation
from kvchaos.simulation.crash_points import points_of
from kvchaos.simulation.schedule import FAULTS, HINTS_PLENTY, LOSES_COPIES, Fault, Schedule

NODES = ((1, 2), (2, 3), (3, 30), (4, 4), (5, 8), (6, 1), (7, 2))
FAULT_SHARE = 0.3
FAULTS_OF_A_KIND_MAX = 3
DRAWN = tuple(kind for kind in FAULTS if kind != "crash_at")
"""Kinds that any schedule may draw from; a node is killed at a step of a job only where there is something to do for it."""
JOBS = ("handoff", "exchange", "rebuild", "lost-record", "missed-write", "lesser-write", "stop")
"""Those that swarms give something to do."""
TAKEN_AWAY_BY = {
    "wipe": frozenset({"answers", "reads"}),  # a node that has lost its disk is told so by its peers, and does not count
    "rollback": frozenset({"strict", "answers", "reads"}),  # one that was put back within a lease cannot know it
    "flip": frozenset({"answers", "reads"}),  # a damaged copy knows that it is none, and does not count
}
"""Promises that do not survive a copy that is taken away in this way: what rests on one copy, or on a quorum of whole ones."""


def generate(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = Random(f"{seed}/schedule")
    nodes = _weighted(rng, NODES)
    copies = min(nodes, _weighted(rng, ((3, 12), (2, 2), (1, 1), (5, 1))))
    r, w = _quorums(rng, copies)
    losing = rng.choice(["", "", *sorted(LOSES_COPIES)]) if copies > 1 else ""
    if losing:
        w = max(2, w)
    duration_ms = rng.choice([1500, 3000, 5000, 8000])
    base = Schedule(
        seed=seed,
        nodes=nodes,
        n=copies,
        r=r,
        w=w,
        clients=rng.randint(1, 3),
        timeout_ms=rng.choice([300, 1000, 1000, 2500]),
        duration_ms=duration_ms,
        retry_window_ms=rng.choice([10_000, 10_000, 2000]),
        retry_ids=rng.choice([32, 32, 4]),
        cache_bytes=rng.choice([1 << 20, 0, 0]),
        delay_ms=rng.choice([0.2, 0.2, 2.0, 10.0]),
        jitter_ms=rng.choice([0.6, 5.0, 30.0]),
        loss=rng.choice([0.0, 0.0, 0.0, 0.02]),
        late_share=rng.choice([0.0, 0.5, 1.0]),
        write_ms=rng.choice([0.1, 1.0, 5.0, 50.0]),
        disk_jitter_ms=rng.choice([0.4, 5.0, 20.0]),
        # A generator of its own: what the seeds of before have drawn stays so.
        repair_interval_s=Random(f"{seed}/repair").choice([0.0, 0.0, 1.0, 10.0]),
        timing=Random(f"{seed}/timing").choice(["lan", "lan", "local"]),
        hints_max=Random(f"{seed}/hints").choice(
            [HINTS_PLENTY, HINTS_PLENTY, HINTS_PLENTY, Random(f"{seed}/few hints").choice([0, 1, 3])]
        ),
    )
    operations = _operations(rng, base, losing)
    faults = (*_crash_points(seed), *draw_faults(rng, base, losing=losing))
    return replace(base, promises=promises_for(faults), faults=faults, operations=operations)


def _crash_points(seed: int) -> list[Fault]:
    """Where nodes are killed at steps of their background work. A generator of its own, as above."""
    rng = Random(f"{seed}/crash points")
    count = rng.choice([0, 0, 1, 2])
    points = [rng.choice(points_of(rng.choice(JOBS))) for _ in range(count)]
    return [
        Fault(0, "crash_at", {"point": point, "passing": rng.randint(1, 3), "down_ms": rng.choice([20, 300])}) for point in points
    ]


def promises_for(faults: tuple[Fault, ...]) -> tuple[str, ...]:
    """What may be asserted under these faults."""
    gone = _taken_away(faults)
    return tuple(name for name in PROMISES if name not in gone)


def _taken_away(faults: Iterable[Fault]) -> set[str]:
    return {name for fault in faults for name in TAKEN_AWAY_BY.get(fault.kind, ())}


def is_fair(schedule: Schedule) -> bool:
    """Whether the schedule asks for no more than the store promises: copies are taken from fewer nodes than hold each write, and
    what does not survive that is not asserted."""
    losing = [fault for fault in schedule.faults if fault.kind in LOSES_COPIES]
    if not losing:
        return True
    nodes = {fault.args["node"] for fault in losing}
    if schedule.makes_namespaces:
        return len(nodes) == 1
    fewest = _fewest_copies(schedule, schedule.operations)
    return len(nodes) < fewest and not _taken_away(losing) & set(schedule.promises)


def _weighted(rng: Random, weights: tuple[tuple[int, int], ...]) -> int:
    return rng.choices([value for value, _ in weights], [weight for _, weight in weights])[0]


def _quorums(rng: Random, copies: int) -> tuple[int, int]:
    """Mostly the majority that pa-ec gives, sometimes 1 as pa-el, sometimes read-one-write-all or anything."""
    majority = copies // 2 + 1
    anything = (rng.randint(1, copies), rng.randint(1, copies))
    return rng.choice([(majority, majority)] * 5 + [(1, 1), (1, copies), (1, copies), (copies, 1), anything])


# --- what clients do


def _operations(rng: Random, base: Schedule, losing: str) -> tuple[Operation, ...]:
    """A few processes, each with its operations in order; quiet or busy, on few keys, so that they meet."""
    kinds = {kind: rng.choice([0, 1, 3]) for kind in ("put", "get", "delete", "add", "increment")}
    kinds["put"] += 1
    kinds["get"] += 1
    contexts = {kind: rng.choice([0, 1, 3]) for kind in ("none", "empty", "read", "own")}
    contexts["read"] += 1
    reads, writes = ({"preset": 4, **{level: rng.choice([0, 0, 2]) for level in ("one", "quorum", "all")}} for _ in range(2))
    if losing:
        writes["one"] = 0
    processes = rng.randint(2, 6)
    count = rng.randint(30, 160)
    registers = [f"r{number}" for number in range(rng.randint(1, 4))]
    rows = []
    for _ in range(count):
        f = rng.choices(list(kinds), list(kinds.values()))[0]
        key = "s0" if f == "add" else "c0" if f == "increment" else rng.choice([*registers, registers[0]])
        level = _pick(rng, reads if f == "get" else writes)
        rows.append((rng.randrange(base.duration_ms), rng.randrange(processes), f, key, _pick(rng, contexts), level))
    rows.sort()
    return tuple(
        Operation(process, at_ms, f, key, f"w{number}", context if f in ("put", "delete") else "read", level)
        for number, (at_ms, process, f, key, context, level) in enumerate(rows, 1)
    )


def _pick(rng: Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


# --- what breaks


def draw_faults(
    rng: Random, base: Schedule, among: Sequence[str] = DRAWN, *, share: float = FAULT_SHARE, losing: str = ""
) -> tuple[Fault, ...]:
    """Faults of the kinds `among` for the schedule `base`, each kind with probability `share`; of the kinds that lose copies only
    `losing`."""
    kinds = [kind for kind in among if kind == losing or (kind not in LOSES_COPIES and rng.random() < share)]
    frail = rng.choice(base.node_ids)  # the only node that may lose what it acknowledged
    faults = []
    for kind in kinds:
        for _ in range(rng.randint(1, FAULTS_OF_A_KIND_MAX)):
            args = _ARGUMENTS[kind](rng, base, frail)
            if args is not None:
                at_ms = rng.randrange(base.duration_ms)
                for_ms = 0 if rng.random() < 0.1 else int(20 * 300 ** rng.random())
                faults.append(Fault(at_ms, kind, args, for_ms))
    return tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind)))


def _fewest_copies(schedule: Schedule, operations: Iterable[Operation]) -> int:
    """How many copies the least replicated write has when it is acknowledged."""
    named = {"preset": schedule.w, "one": 1, "quorum": schedule.copies // 2 + 1, "all": schedule.copies}
    levels = {operation.level for operation in operations if operation.f != "get"}
    return min(named[level] if level in named else int(level) for level in (*levels, "preset"))


Arguments = Callable[[Random, Schedule, str], dict[str, Any] | None]


def _link(rng: Random, base: Schedule, *, clients: bool = True) -> dict[str, Any] | None:
    ends = [*base.node_ids, *base.client_ids] if clients else list(base.node_ids)
    source = rng.choice(base.node_ids)
    others = [end for end in ends if end != source]
    if not others:
        return None
    target = rng.choice(others)
    return {"source": source, "target": target} if rng.random() < 0.5 else {"source": target, "target": source}


def _partition(rng: Random, base: Schedule, _frail: str) -> dict[str, Any] | None:
    nodes = list(base.node_ids)
    if len(nodes) < 2:
        return None
    rng.shuffle(nodes)
    at = rng.randint(1, len(nodes) - 1)
    return {"groups": [sorted(nodes[:at]), sorted(nodes[at:])]}


def _some_nodes(rng: Random, base: Schedule, _frail: str) -> dict[str, Any]:
    count = rng.choice([1, 1, 2, base.nodes, base.nodes])
    return {"nodes": sorted(rng.sample(base.node_ids, min(count, base.nodes)))}


def _one_node(rng: Random, base: Schedule, _frail: str) -> dict[str, Any]:
    return {"node": rng.choice(base.node_ids)}


def _extended(more: Callable[[Random, Schedule], dict[str, Any]], arguments: Arguments) -> Arguments:
    def extended(rng: Random, base: Schedule, frail: str) -> dict[str, Any] | None:
        first = arguments(rng, base, frail)
        return None if first is None else {**first, **more(rng, base)}

    return extended


_ARGUMENTS: dict[str, Arguments] = {
    "cut": lambda rng, base, frail: _link(rng, base),
    "partition": _partition,
    "isolate": _one_node,
    "stall": lambda rng, base, frail: _link(rng, base),
    "mute": _extended(lambda rng, base: {"client": rng.choice(base.client_ids)}, _one_node),
    "slow": _extended(lambda rng, base: {"ms": rng.choice([5, 50, 400])}, lambda rng, base, frail: _link(rng, base)),
    "lossy": _extended(lambda rng, base: {"share": rng.choice([0.05, 0.3])}, lambda rng, base, frail: _link(rng, base)),
    "reset": lambda rng, base, frail: _reset(rng, base),
    "crash": _some_nodes,
    "power": _some_nodes,
    "stop": _one_node,
    "pause": _one_node,
    "wipe": lambda rng, base, frail: {"node": frail},
    "rollback": lambda rng, base, frail: {"node": frail, "back_ms": rng.choice([50, 500, 3000])},
    "failing_disk": _extended(lambda rng, base: {"error": rng.choice(["EIO", "ENOSPC"]), "applied": rng.random() < 0.5}, _one_node),
    "slow_disk": _extended(lambda rng, base: {"ms": rng.choice([10, 100, 500])}, _one_node),
    "flip": lambda rng, base, frail: {"node": frail, "records": rng.choice([4, 16])},
    "skew": _extended(lambda rng, base: {"ms": rng.choice([-30_000, -500, 20, 500, 30_000])}, _one_node),
    "epoch": lambda rng, base, frail: {"delays_ms": [rng.choice([0, 1, 30, 300]) for _ in base.node_ids]},
}


def _reset(rng: Random, base: Schedule) -> dict[str, Any] | None:
    link = _link(rng, base)
    return None if link is None else {"left": link["source"], "right": link["target"]}
