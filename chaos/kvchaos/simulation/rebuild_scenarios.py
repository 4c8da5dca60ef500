"""Scenarios of nodes that lose their disks: until what they had is on them again, what they do not hold says nothing."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from kvchaos.operations import Operation
from kvchaos.simulation.generate import generate
from kvchaos.simulation.scenario_names import scenario
from kvchaos.simulation.schedule import Fault, Schedule


@scenario("slow-rebuild")
def slow_rebuild(seed: int) -> Schedule:
    """Two of three replicas take writes; one of them loses its disk, and the next one is slow. It rebuilds from both others, of
    which one has missed everything and does not reach the other: until what it has fetched is durable it must not count."""
    rng, swarm = Random(f"{seed}/slow-rebuild"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, policy="siblings", clients=3, timeout_ms=300, duration_ms=7000, loss=0.0)
    base = replace(base, timing="local", delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4, late_share=0.0)
    base = replace(base, repair_interval_s=0.0)
    late, wiped, away = rng.sample(base.node_ids, 3)
    faults = (
        Fault(200, "partition", {"groups": [[late], [away]]}, 6800),
        Fault(200, "partition", {"groups": [[late], [wiped]]}, 1800),
        Fault(1950, "wipe", {"node": wiped}, rng.choice([100, 300])),
        Fault(2300 + rng.randrange(400), "slow_disk", {"node": wiped, "ms": rng.choice([500, 1000, 2000])}, 4000),
    )
    rows = [(300 + rng.randrange(1500), "put") for _ in range(rng.randint(20, 40))]
    # Not before: a read that hears both of the others repairs the one that has missed everything.
    rows += [(2700 + rng.randrange(3000), "get") for _ in range(rng.randint(30, 60))]
    operations = tuple(
        Operation(rng.randrange(6), at_ms, f, f"r{rng.randrange(12)}", f"w{number}", "none", "quorum")
        for number, (at_ms, f) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=faults)


@scenario("two-lost-disks")
def two_lost_disks(seed: int) -> Schedule:
    """Three of five replicas take writes; two of them lose their disks, and the third is cut off. Those two hear each other, and
    the two that have missed everything: they must not take that for all there is."""
    rng, swarm = Random(f"{seed}/two-lost-disks"), generate(seed)
    base = replace(swarm, nodes=5, n=5, r=3, w=3, policy="siblings", clients=3, timeout_ms=500, duration_ms=9000, loss=0.0)
    base = replace(base, timing="local", delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4, late_share=0.0)
    base = replace(base, repair_interval_s=0.0)
    *late, away, first, second = rng.sample(base.node_ids, 5)
    faults = (
        Fault(200, "partition", {"groups": [sorted(late), sorted([away, first, second])]}, 2100),
        Fault(2000, "wipe", {"node": first}, rng.choice([100, 300])),
        Fault(2000 + rng.randrange(100), "wipe", {"node": second}, rng.choice([100, 300])),
        Fault(2200, "isolate", {"node": away}, rng.choice([3000, 5500])),
    )
    rows = [(300 + rng.randrange(1600), "put") for _ in range(rng.randint(8, 24))]
    rows += [(2500 + rng.randrange(6000), "get") for _ in range(rng.randint(60, 90))]
    operations = tuple(
        Operation(rng.randrange(6), at_ms, f, f"r{rng.randrange(4)}", f"w{number}", "none", "quorum")
        for number, (at_ms, f) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=faults)
