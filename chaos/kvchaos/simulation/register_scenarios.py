"""Scenarios of linearizable namespaces: acceptors that lose their disks, and home replicas that answer alone."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from kvchaos.operations import Operation
from kvchaos.simulation.generate import draw_faults, generate
from kvchaos.simulation.scenario_names import OF_ACCEPTORS, scenario
from kvchaos.simulation.schedule import GRACE_MS, Fault, Schedule


@scenario("registers")
def registers(seed: int) -> Schedule:
    """A linearizable namespace: puts, deletes and compare-and-set on few keys, under everything that may break, a wiped disk
    too."""
    rng, swarm = Random(f"{seed}/registers"), generate(seed)
    nodes = rng.choice([3, 3, 3, 4, 5])
    base = replace(swarm, nodes=nodes, n=rng.choice([3, 3, nodes if nodes % 2 else 3]), preset="pc-ec", policy="siblings")
    base = replace(base, r=1, w=1, timeout_ms=rng.choice([300, 1000, 2500]))
    kinds = {"put": rng.choice([1, 3]), "get": 3, "cas": rng.choice([0, 2, 4]), "delete": rng.choice([0, 1])}
    drawn = rng.choices(list(kinds), list(kinds.values()), k=len(swarm.operations))
    operations = tuple(
        replace(one, f=f, key=f"r{rng.randrange(3)}", context="none", level="preset")
        for one, f in zip(swarm.operations, drawn, strict=True)
    )
    faults = draw_faults(rng, base, OF_ACCEPTORS, share=0.3, losing=rng.choice(["", "", "wipe", "flip"]))
    return replace(base, operations=operations, faults=faults)


@scenario("lost-acceptor")
def lost_acceptor(seed: int) -> Schedule:
    """Two of three acceptors hold what was written; one of them loses its disk and the other is cut off. What is left must
    refuse."""
    rng, swarm = Random(f"{seed}/lost-acceptor"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=1, w=1, preset="pc-ec", policy="siblings", timeout_ms=1000, duration_ms=13_000)
    base = replace(
        base, timing="local", delay_ms=0.2, jitter_ms=0.6, loss=0.0, write_ms=0.1, disk_jitter_ms=0.4, repair_interval_s=0.0
    )
    base = replace(base, late_share=0.0)  # what was lost is not sent again when the cut heals
    late, wiped, away = rng.sample(base.node_ids, 3)
    faults = (
        Fault(100, "partition", {"groups": [[late], sorted([wiped, away])]}, 8000),
        Fault(8300, "isolate", {"node": away}, 4200),
        Fault(8350 + rng.randrange(200), "wipe", {"node": wiped}, rng.choice([100, 300])),
    )
    rows = [(5000 + rng.randrange(2000), "put") for _ in range(rng.randint(2, 6))]
    rows += [(9500 + rng.randrange(3400), rng.choice(["get", "get", "cas", "put"])) for _ in range(rng.randint(6, 20))]
    operations = tuple(
        Operation(rng.randrange(4), at_ms, f, f"r{rng.randrange(2)}", f"w{number}", "none")
        for number, (at_ms, f) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=faults)


@scenario("readmitted-acceptor")
def readmitted_acceptor(seed: int) -> Schedule:
    """Two of three acceptors hold what was written; one of them loses its disk and is readmitted by both others. Then the other one
    is cut off: what is left has to know everything."""
    base = lost_acceptor(seed)
    apart, isolate, wipe = base.faults
    faults = (apart, replace(isolate, at_ms=11_000, for_ms=4_000), wipe)
    late = tuple(replace(one, at_ms=one.at_ms + 1600) if one.at_ms > 9000 else one for one in base.operations)
    return replace(base, operations=late, faults=faults, duration_ms=15_000)


@scenario("timeline")
def timeline(seed: int) -> Schedule:
    """Registers whose home replicas answer alone, in sessions or not: what they show was committed, in one order, and is no older
    than the bound; whatever breaks, a wiped disk too. Tombstones end."""
    rng, base = Random(f"{seed}/timeline"), registers(seed)
    base = replace(base, preset="pc-el", sessions=rng.random() < 0.4, timeline_bound_ms=rng.choice([100, 300, 1000]))
    base = replace(base, grace_ms=rng.choice([GRACE_MS, 2000]), retry_window_ms=1000, repair_interval_s=1.0)
    levels = rng.choice([["preset"], ["preset", "timeline", "linearizable"]])
    more = tuple(
        Operation(one.process, one.at_ms, "get", one.key, f"{one.name}r{number}", "none", rng.choice(levels))
        for one in base.operations
        for number in range(rng.choice([0, 1, 3]))
    )
    operations = tuple(replace(one, level=rng.choice(levels)) if one.f == "get" else one for one in base.operations)
    return replace(base, operations=tuple(sorted((*operations, *more), key=lambda one: one.at_ms)))


@scenario("now-and-then")
def now_and_then(seed: int) -> Schedule:
    """The same where replicas answer alone for a second in eight: what they prove is proven anew each time, for in between they do
    not look at what others hold."""
    base = replace(timeline(seed), preset="pc-ec", timeline_bound_ms=100)
    operations = tuple(
        replace(one, level="timeline" if one.at_ms % 8000 < 1000 else "linearizable") if one.f == "get" else one
        for one in base.operations
    )
    return replace(base, operations=operations)


@scenario("minority-accepts")
def minority_accepts(seed: int) -> Schedule:
    """Two of five home replicas are cut off, and accept what nobody else does: they must not show it while what they hold is
    fresh enough to be shown, and nothing at all after that."""
    rng, swarm = Random(f"{seed}/minority-accepts"), generate(seed)
    base = replace(swarm, nodes=5, n=5, r=1, w=1, preset="pc-el", policy="siblings", clients=3, timeout_ms=1000, duration_ms=10_000)
    base = replace(
        base,
        timeline_bound_ms=rng.choice([300, 2000]),
        timing="lan",
        loss=0.0,
        late_share=0.0,
        repair_interval_s=0.0,
        grace_ms=GRACE_MS,
    )
    base = replace(base, delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4)
    faults, rows = [], [(100 * at, "put", "preset") for at in range(10)]
    for first_ms in (3000, 7000):
        apart = sorted(rng.sample(base.node_ids, 2))
        others = [node for node in base.node_ids if node not in apart]
        faults.append(Fault(first_ms, "partition", {"groups": [apart, others]}, 2500))
        rows += [(first_ms + rng.randrange(120), "put", "preset") for _ in range(12)]
        rows += [(first_ms + 50 + rng.randrange(300), "get", "preset") for _ in range(20)]
        rows += [(first_ms + 400 + rng.randrange(2000), "get", rng.choice(["linearizable", "preset"])) for _ in range(30)]
        rows += [(first_ms + 400 + rng.randrange(1000), "put", "preset") for _ in range(6)]
    operations = tuple(
        Operation(rng.randrange(12), at_ms, f, f"r{rng.randrange(4)}", f"w{number}", "none", level)
        for number, (at_ms, f, level) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=tuple(faults))


@scenario("missed-tombstone")
def missed_tombstone(seed: int) -> Schedule:
    """A home replica is away while keys are deleted, and comes back when tombstones are old enough to end; then one of those that
    know is cut off. What was deleted stays so."""
    rng, swarm = Random(f"{seed}/missed-tombstone"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=1, w=1, preset="pc-el", policy="siblings", timeout_ms=1000, duration_ms=14_000)
    base = replace(base, timeline_bound_ms=300, timing="local", loss=0.0, late_share=0.0, repair_interval_s=0.0)
    base = replace(base, grace_ms=2000, retry_window_ms=1000, delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4)
    away, cut_off = rng.sample(base.node_ids, 2)
    faults = (Fault(1000, "isolate", {"node": away}, 7000), Fault(8050 + rng.randrange(300), "isolate", {"node": cut_off}, 4000))
    rows = [(at_ms, "put", key) for key in range(4) for at_ms in (100 + 50 * key,)]
    rows += [(2000 + 50 * key, "delete", key) for key in range(4)]
    rows += [(8500 + rng.randrange(3000), "get", rng.randrange(4)) for _ in range(16)]
    operations = tuple(
        Operation(
            rng.randrange(4),
            at_ms,
            f,
            f"r{key}",
            f"w{number}",
            "none",
            rng.choice(["preset", "linearizable"]) * (f == "get") or "preset",
        )
        for number, (at_ms, f, key) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=faults)
