"""Scenarios of namespaces that are not synced, or lie in memory: what they may forget, and what they must not."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from kvchaos.operations import Operation
from kvchaos.simulation.generate import draw_faults, generate
from kvchaos.simulation.scenario_names import scenario
from kvchaos.simulation.schedule import HINTS_PLENTY, Fault, Schedule


@scenario("storages")
def storages(seed: int) -> Schedule:
    """Keys in three namespaces: synced, not synced, and in very little memory. Links break, nodes are paused, and the power fails,
    on one node or on each: nothing synced is lost, what was deleted stays so in memory, and what one node has not synced the others
    have."""
    rng, swarm = Random(f"{seed}/storages"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, policy="siblings", clients=2, timeout_ms=rng.choice([1000, 2500]), loss=0.0)
    base = replace(base, duration_ms=12_000, delay_ms=0.2, jitter_ms=rng.choice([0.6, 5.0, 30.0]), retry_window_ms=10_000)
    base = replace(base, write_ms=rng.choice([0.1, 5.0, 20.0]), repair_interval_s=rng.choice([0.0, 1.0, 10.0]))
    # Of who has missed what in memory notes are all that is left: past their cap what was deleted may come back (namespaces.md).
    base = replace(
        base, memory_bytes=rng.choice([900, 1300, 100_000]), hints_max=HINTS_PLENTY, cache_bytes=rng.choice([1 << 20, 0])
    )
    keys = ["d0", "u0", "u1", *(f"m{number}" for number in range(rng.choice([2, 4])))]
    kinds = {"put": 3, "get": 3, "delete": rng.choice([1, 2])}
    rows = sorted(
        (rng.randrange(12_000), rng.randrange(5), rng.choices(list(kinds), list(kinds.values()))[0], rng.choice(keys))
        for _ in range(rng.randint(80, 200))
    )
    operations = tuple(
        Operation(process, at_ms, f, key, f"w{number}", rng.choice(["none", "none", "read", "own"]))
        for number, (at_ms, process, f, key) in enumerate(rows, 1)
    )
    ends = ["crash", "power"]
    faults = draw_faults(
        rng, base, ["cut", "isolate", "partition", "stall", "pause", "reset", "slow_disk", *ends, *ends], share=0.45
    )
    if rng.random() < 0.6:  # one node alone: then what it has not synced is on others
        frail = rng.choice(base.node_ids)
        faults = tuple(replace(one, args={"nodes": [frail]}) if one.kind in ends else one for one in faults)
    return replace(base, operations=operations, faults=faults)


@scenario("unsynced-loss")
def unsynced_loss(seed: int) -> Schedule:
    """Two of three replicas take what is not synced; the power fails at one of them, and the other is cut off. What is left must
    refuse strict reads, and have everything once they can all be reached."""
    rng, swarm = Random(f"{seed}/unsynced-loss"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, policy="siblings", clients=2, timeout_ms=1000, duration_ms=13_000, loss=0.0)
    base = replace(base, timing="local", delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4, late_share=0.0)
    base = replace(base, memory_bytes=100_000, repair_interval_s=0.0)
    late, robbed, away = rng.sample(base.node_ids, 3)
    faults = (
        Fault(100, "partition", {"groups": [[late], sorted([robbed, away])]}, 8000),
        Fault(8300, "isolate", {"node": away}, 4200),
        Fault(8350 + rng.randrange(200), "power", {"nodes": [robbed]}, rng.choice([100, 300])),
    )
    rows = [(rng.randrange(2000, 7900), "put") for _ in range(rng.randint(4, 10))]
    rows += [(9500 + rng.randrange(2900), "get") for _ in range(rng.randint(10, 24))]
    operations = tuple(
        Operation(rng.randrange(4), at_ms, f, f"u{rng.randrange(2)}", f"w{number}", "none", "quorum")
        for number, (at_ms, f) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=faults)


@scenario("forgetful")
def forgetful(seed: int) -> Schedule:
    """One of three replicas in memory misses what becomes of a key, and those who know forget it: for want of room, or with their
    processes. When they can all be reached again, and are read meanwhile, nothing is there that was deleted or superseded."""
    rng, swarm = Random(f"{seed}/forgetful"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, policy="siblings", clients=3, timeout_ms=1000, duration_ms=8000, loss=0.0)
    base = replace(base, timing="local", delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4, late_share=0.0)
    base = replace(base, memory_bytes=rng.choice([900, 900, 100_000]), hints_max=HINTS_PLENTY, repair_interval_s=0.0)
    late = rng.choice(base.node_ids)
    others = [node for node in base.node_ids if node != late]
    heals_ms = 5500
    unnoticed = rng.random() < 0.4  # nobody knows yet that one of them does not hear
    if unnoticed:
        faults = [Fault(2000, "stall", {"source": node, "target": late}, heals_ms - 2000) for node in others]
    else:
        faults = [Fault(1000, "partition", {"groups": [[late], others]}, heals_ms - 1000)]
    if rng.random() < 0.6:
        faults.append(Fault(2500 + rng.randrange(40, 600), rng.choice(["crash", "power"]), {"nodes": others}, 200))
    rows = [(300 + rng.randrange(200), "put", 0) for _ in range(rng.randint(1, 2))]
    rows += [(2500 + rng.randrange(20), rng.choice(["delete", "delete", "put"]), 0)]
    rows += [(3600 + rng.randrange(1500), "put", 1 + rng.randrange(4)) for _ in range(rng.choice([0, 8]))]
    rows += [(heals_ms + rng.randrange(-20, 500), "get", 0) for _ in range(24)]
    operations = tuple(
        Operation(rng.randrange(6), at_ms, f, f"m{key}", f"w{number}", rng.choice(["none", "read"]))
        for number, (at_ms, f, key) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind))))


@scenario("mixed-batches")
def mixed_batches(seed: int) -> Schedule:
    """What is synced and what is not are written in the same moments, to slow disks, and then the power fails everywhere: what is
    synced was so when it was acknowledged, whatever it shared its batch with."""
    rng, swarm = Random(f"{seed}/mixed-batches"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, policy="siblings", clients=2, timeout_ms=1000, duration_ms=3000, loss=0.0)
    base = replace(
        base, delay_ms=0.2, jitter_ms=0.6, write_ms=15.0, disk_jitter_ms=5.0, memory_bytes=100_000, repair_interval_s=0.0
    )
    bursts = [500, 1500, 2500]
    rows = [(at_ms, rng.choice(["d9", "u9"])) for at_ms in bursts]  # what comes meanwhile waits, and is written together
    keys = [f"{kind}{number}" for kind in "du" for number in range(6)]
    rows += [(at_ms + 2 + rng.randrange(8), key) for at_ms in bursts for key in keys]
    operations = tuple(
        Operation(number % 13, at_ms, "put", key, f"w{number}", "read") for number, (at_ms, key) in enumerate(sorted(rows), 1)
    )
    faults = tuple(Fault(at_ms + rng.randrange(35, 65), "power", {"nodes": list(base.node_ids)}, 150) for at_ms in bursts)
    return replace(base, operations=operations, faults=faults)
