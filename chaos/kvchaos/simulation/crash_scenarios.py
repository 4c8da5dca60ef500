"""One scenario for each job in the background: a node is killed at one of its named steps, and starts again.

The seed says at which (`seed % number of points`), and at which passing. What follows each of them is judged like every other run:
nothing acknowledged is lost, nothing deleted is back, and home replicas agree, with nothing left to be handed over, though nobody
reads. In the swarm the same faults meet all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from kvchaos.operations import Operation
from kvchaos.simulation.crash_points import points_of
from kvchaos.simulation.generate import generate
from kvchaos.simulation.record_scenarios import long_absence
from kvchaos.simulation.scenario_names import scenario
from kvchaos.simulation.schedule import HINTS_PLENTY, Fault, Schedule

PASSINGS_MAX = 3
DOWN_MS = (20, 300, 2500)
MOSTLY_WRITES = ("put", "put", "put", "delete", "get")

JOBS: dict[str, tuple[str, ...]] = {}
"""Scenario: the jobs, or single points, that it goes through."""

Draw = Callable[[Random, Schedule], Schedule]


def crashing(name: str, *jobs: str) -> Callable[[Draw], Draw]:
    """Registers `draw`, which is given a generator and a quiet cluster of three, as the scenario `name` of `jobs`."""
    JOBS[name] = jobs

    def register(draw: Draw) -> Draw:
        def at_a_point(seed: int) -> Schedule:
            points = points_of(*jobs)
            return crash_at(draw, name, seed, points[seed % len(points)], 1 + seed // len(points) % PASSINGS_MAX)

        at_a_point.__doc__ = draw.__doc__
        scenario(name)(at_a_point)
        return draw

    return register


def crash_at(draw: Draw, name: str, seed: int, point: str, passing: int) -> Schedule:
    """The schedule of `draw` with one crash at `point`."""
    rng = Random(f"{seed}/{name}")
    schedule = draw(rng, _quiet(rng, seed))
    args = {"point": point, "passing": passing, "down_ms": rng.choice(DOWN_MS), "silent": rng.random() < 0.3}
    return replace(schedule, faults=(Fault(0, "crash_at", args), *schedule.faults))


def _quiet(rng: Random, seed: int) -> Schedule:
    base = replace(generate(seed), nodes=3, n=3, r=2, w=2, policy="siblings", clients=2, timeout_ms=1000, loss=0.0, faults=())
    base = replace(base, delay_ms=0.2, jitter_ms=0.6, write_ms=rng.choice([0.1, 5.0]), disk_jitter_ms=0.4, repair_interval_s=0.0)
    # What a table without room does not note only exchanges would find, which there are none of: replicas would not agree by
    # themselves.
    base = replace(base, hints_max=HINTS_PLENTY)
    return replace(base, timing="local", cache_bytes=rng.choice([1 << 20, 0]), retry_window_ms=10_000, by_itself=True)


def _writing(rng: Random, until_ms: int, count: int, *, f: tuple[str, ...] = MOSTLY_WRITES, keys: int = 3) -> list[Operation]:
    """Operations on so many keys in [0, until_ms)."""
    times = sorted(rng.randrange(until_ms) for _ in range(count))
    return [
        Operation(rng.randrange(4), at_ms, rng.choice(f), f"r{rng.randrange(keys)}", f"w{number}", rng.choice(["none", "read"]))
        for number, at_ms in enumerate(times, 1)
    ]


def _until(operations: list[Operation], end_ms: int) -> tuple[Operation, ...]:
    """With a read at the end: until then nothing is brought to rest from outside."""
    return (*operations, Operation(0, end_ms, "get", "r0", "w0", "none"))


@crashing("crash-in-handoff", "handoff")
def crash_in_handoff(rng: Random, base: Schedule) -> Schedule:
    """A node is cut off and misses writes; it or who hands them over to it is killed at a step of that."""
    base = replace(base, nodes=rng.choice([3, 4]))
    away = rng.choice(base.node_ids)
    cut = {"groups": [[away], [node for node in base.node_ids if node != away]]}
    return replace(base, faults=(Fault(300, "partition", cut, 2500),), operations=_until(_writing(rng, 3500, 40), 6500))


@crashing("crash-in-exchange", "exchange")
def crash_in_exchange(rng: Random, base: Schedule) -> Schedule:
    """No hints are kept. Both sides of a cut write; a node is killed at a step of the exchange that brings them together."""
    away = rng.choice(base.node_ids)
    cut = {"groups": [[away, "c1"], [*(node for node in base.node_ids if node != away), "c2"]]}
    base = replace(base, hints_max=0, repair_interval_s=1.0, faults=(Fault(300, "partition", cut, 2500),))
    return replace(base, operations=_until(_writing(rng, 2700, 60, keys=12), 12_000))


@crashing("crash-in-rebuild", "rebuild", "exchange.listed", "exchange.fetched", "exchange.staged", "exchange.taken")
def crash_in_rebuild(rng: Random, base: Schedule) -> Schedule:
    """A node has missed writes that another one had acknowledged which loses its disk; one is killed at a step of the rebuild."""
    late, wiped, other = rng.sample(base.node_ids, 3)
    cut = Fault(300, "partition", {"groups": [[late], [wiped, other]]}, 1100)
    wipe = Fault(1500 + rng.randrange(100), "wipe", {"node": wiped}, 100)
    if rng.random() < 0.5:  # what the late one has missed it gets by exchanges too
        base = replace(base, hints_max=0, repair_interval_s=1.0)
    operations = _writing(rng, 1600, 40, keys=12)
    reads = sorted(1700 + rng.randrange(4000) for _ in range(60))
    operations += [
        Operation(rng.randrange(4), at_ms, "get", f"r{rng.randrange(12)}", f"g{number}", "none", "quorum")
        for number, at_ms in enumerate(reads)
    ]
    return replace(base, faults=(cut, wipe), operations=_until(operations, 8000))


@crashing("crash-in-first-life", "rebuild.begun")
def crash_in_first_life(rng: Random, base: Schedule) -> Schedule:
    """What all three replicas have acknowledged each may tell alone. One of them loses its disk while the others are down; it is
    killed when it writes down that its directory is new, and in its next life nobody is there either to tell it so."""
    wiped, *others = rng.sample(base.node_ids, 3)
    alone = Fault(1900, "crash", {"nodes": sorted(others)}, 4500)
    wipe = Fault(2000, "wipe", {"node": wiped}, 100)
    operations = _writing(rng, 1700, 30, f=("put", "put", "delete"), keys=4)
    reads = sorted(2100 + rng.randrange(4000) for _ in range(80))
    operations += [
        Operation(rng.randrange(4), at_ms, "get", f"r{rng.randrange(4)}", f"g{number}", "none")
        for number, at_ms in enumerate(reads)
    ]
    base = replace(base, r=1, w=3, write_ms=5.0, late_share=0.0, timeout_ms=300, faults=(alone, wipe))
    return replace(base, operations=_until(operations, 8000))


@crashing("crash-in-lone-rebuild", "rebuild.covered")
def crash_in_lone_rebuild(rng: Random, base: Schedule) -> Schedule:
    """Two of three replicas take writes; one of them loses its disk, and reaches only the third, which has none of them. It is
    killed at a step of its rebuild, and with that third one it must not answer: what it has heard is not enough."""
    late, wiped, away = rng.sample(base.node_ids, 3)
    apart = Fault(200, "partition", {"groups": [[late], sorted([wiped, away])]}, 1900)
    alone = Fault(2000, "isolate", {"node": away}, 6500)
    wipe = Fault(2050, "wipe", {"node": wiped}, rng.choice([100, 300]))
    operations = _writing(rng, 1800, 30, f=("put", "put", "delete"), keys=4)
    reads = sorted(2500 + rng.randrange(5800) for _ in range(80))
    operations += [
        Operation(rng.randrange(4), at_ms, "get", f"r{rng.randrange(4)}", f"g{number}", "none", "quorum")
        for number, at_ms in enumerate(reads)
    ]
    return replace(base, late_share=0.0, timeout_ms=300, faults=(apart, alone, wipe), operations=_until(operations, 10_000))


@crashing("crash-in-reaping", "reap")
def crash_in_reaping(rng: Random, base: Schedule) -> Schedule:
    """A grace of two seconds. Values are deleted and expire while a node may be away; one is killed at a step of their end."""
    base = replace(base, grace_ms=2000, retry_window_ms=1000, timeout_ms=8000)
    rows = [(rng.randrange(300), "put", rng.randrange(4)) for _ in range(10)]
    # Few: a disk that is slow by then has them all in one batch.
    rows += [(700 + rng.randrange(400), "delete", rng.randrange(3)) for _ in range(rng.choice([1, 2, 5]))]
    operations = [
        Operation(rng.randrange(4), at_ms, f, f"r{key}", f"w{number}", "none", ttl_ms=700 if key == 3 else 0)
        for number, (at_ms, f, key) in enumerate(sorted(rows), 1)
    ]
    away = Fault(500, "isolate", {"node": rng.choice(base.node_ids)}, rng.choice([300, 1500]))
    slow = Fault(650, "slow_disk", {"node": rng.choice(base.node_ids), "ms": rng.choice([3000, 6000])}, 6000)
    return replace(base, faults=rng.choice([(), (away,), (slow,), (slow,)]), operations=_until(operations, 13_000))


@crashing("crash-in-set-aside", "set-aside")
def crash_in_set_aside(rng: Random, base: Schedule) -> Schedule:
    """A node comes back with a disk that is older than the grace; it is killed while it puts aside what it has, and judges it."""
    return replace(long_absence(rng.randrange(base.seed + 1_000_000)), hints_max=base.hints_max, by_itself=True)


@crashing("crash-in-readmission", "readmission")
def crash_in_readmission(rng: Random, base: Schedule) -> Schedule:
    """An acceptor of registers loses its disk; it is killed at a step of its readmission."""
    wiped, slow = rng.sample(base.node_ids, 2)
    wipe = Fault(1500 + rng.randrange(300), "wipe", {"node": wiped}, 100)
    accepts_late = Fault(1000, "slow_disk", {"node": slow, "ms": rng.choice([0, 400])}, 4000)
    operations = _writing(rng, 6000, 80, f=("put", "put", "cas", "get", "delete"))
    operations = [replace(one, context="none") for one in operations]
    return replace(base, preset="pc-ec", r=1, w=1, faults=(accepts_late, wipe), operations=_until(operations, 9000))


@crashing("crash-in-lone-readmission", "readmission")
def crash_in_lone_readmission(rng: Random, base: Schedule) -> Schedule:
    """Two of three acceptors hold what was written; one of them loses its disk, and is killed at a step of its readmission. Then
    the other one is cut off: what is left knows everything, or refuses."""
    late, wiped, away = rng.sample(base.node_ids, 3)
    apart = Fault(200, "partition", {"groups": [[late], sorted([wiped, away])]}, 3800)
    wipe = Fault(4000, "wipe", {"node": wiped}, 100)
    alone = Fault(rng.randrange(6150, 7500), "isolate", {"node": away}, 5000)
    writes = sorted(1500 + rng.randrange(2000) for _ in range(8))
    rows = [(at_ms, rng.choice(["put", "put", "delete"])) for at_ms in writes]
    rows += sorted((alone.at_ms + rng.randrange(5000), rng.choice(["get", "get", "get", "put"])) for _ in range(40))
    operations = [
        Operation(rng.randrange(4), at_ms, f, f"r{rng.randrange(4)}", f"w{number}", "none")
        for number, (at_ms, f) in enumerate(rows, 1)
    ]
    base = replace(base, preset="pc-ec", r=1, w=1, late_share=0.0, faults=(apart, wipe, alone))
    return replace(base, operations=_until(operations, 13_500))


@crashing("crash-in-namespaces", "catalog", "dropping")
def crash_in_namespaces(rng: Random, base: Schedule) -> Schedule:
    """Namespaces are made, used and dropped; a node is killed at a step of that."""
    base = replace(base, makes_namespaces=True, timeout_ms=2500)
    operations = _writing(rng, 4000, 40, f=("create", "create", "drop", "put", "put", "get"))
    presets = ["pa-el", "pa-ec", "pc-ec"]
    operations = [
        replace(one, key=rng.choice(["a", "b"]), context="none", level=rng.choice(presets) if one.f == "create" else "preset")
        for one in operations
    ]
    return replace(base, operations=(*operations, Operation(0, 8000, "get", "a", "w0", "none")))


@crashing("crash-in-stop", "stop")
def crash_in_stop(rng: Random, base: Schedule) -> Schedule:
    """Nodes are stopped cleanly in turn; one is killed before its end."""
    stops = [Fault(800 + 900 * at, "stop", {"node": node}, 400) for at, node in enumerate(base.node_ids)]
    return replace(base, faults=tuple(stops), operations=_until(_writing(rng, 4500, 40), 6000))


@crashing("crash-in-lost-record", "lost-record")
def crash_in_lost_record(rng: Random, base: Schedule) -> Schedule:
    """Bits flip in what a node has stored; it is killed while it brings those records back."""
    flips = Fault(1500, "flip", {"node": rng.choice(base.node_ids), "records": 16})
    return replace(base, cache_bytes=0, faults=(flips,), operations=_until(_writing(rng, 4000, 60), 7000))


@crashing("crash-in-missed-write", "missed-write")
def crash_in_missed_write(rng: Random, base: Schedule) -> Schedule:
    """On slow disks a node goes away in the middle of writes, which are answered without it, at their level; who answers them is
    killed before it has noted who missed them, or when it looks for that afterwards."""
    gone = rng.choice(base.node_ids)
    slow_ms = {node: 3000 if node == gone else rng.choice([100, 300]) for node in base.node_ids}
    slow = [Fault(0, "slow_disk", {"node": node, "ms": ms}, 2500) for node, ms in slow_ms.items()]
    crash = Fault(1000 + rng.randrange(400), "crash", {"nodes": [gone]}, rng.choice([100, 1500]))
    operations = [replace(one, level="quorum") for one in _writing(rng, 2000, 60, f=("put", "put", "delete"))]
    return replace(base, faults=(*slow, crash), operations=_until(operations, 9000))


@crashing("crash-in-lesser-write", "lesser-write")
def crash_in_lesser_write(rng: Random, base: Schedule) -> Schedule:
    """Two nodes are killed under writes of which the third then has the only copies; it answers them for less, and is killed when
    it notes who has missed them. Once all are back, slow disks keep the two from taking what they missed, and they are read."""
    last, *others = rng.sample(base.node_ids, 3)
    crash_ms = 1000 + rng.randrange(200)
    slow = [(last, 600, rng.choice([50, 150]), 3000), *((node, 600, 5000, crash_ms - 600) for node in others)]
    slow += [(node, crash_ms + 2000, 6000, 9000) for node in others]
    faults = [Fault(at_ms, "slow_disk", {"node": node, "ms": ms}, lasts_ms) for node, at_ms, ms, lasts_ms in slow]
    faults.append(Fault(500, "partition", {"groups": [others, ["c1"]]}, 1500))
    faults.append(Fault(crash_ms, "crash", {"nodes": sorted(others)}, rng.choice([20, 300])))
    rows = [(rng.randrange(400), rng.randrange(2), "put") for _ in range(6)]
    rows += [(650 + rng.randrange(crash_ms - 650), 2 * rng.randrange(4), rng.choice(["put", "put", "delete"])) for _ in range(6)]
    rows += [(3000 + rng.randrange(9000), rng.choice([1, 3, 5]), "get") for _ in range(60)]
    operations = [
        Operation(process, at_ms, f, f"r{rng.randrange(3)}", f"w{number}", rng.choice(["none", "read"]), "preset")
        for number, (at_ms, process, f) in enumerate(sorted(rows), 1)
    ]
    base = replace(base, timeout_ms=4000, by_itself=False)
    return replace(base, faults=tuple(faults), operations=_until(operations, 13_000))
