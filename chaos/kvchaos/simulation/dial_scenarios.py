"""Scenarios about what the dial promises: registers whose requests and promises come late, quorums of a zone, sessions in every
preset.

Registered by scenarios.py, which is imported first.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from kvchaos.operations import Operation
from kvchaos.simulation.generate import draw_faults, generate
from kvchaos.simulation.scenario_names import scenario
from kvchaos.simulation.schedule import Fault, Schedule

CALM_LINKS = {"delay_ms": 0.2, "jitter_ms": 0.6, "loss": 0.0, "write_ms": 0.1, "disk_jitter_ms": 0.4, "late_share": 1.0}


@scenario("late-first-attempts")
def late_first_attempts(seed: int) -> Schedule:
    """What a client sends a node hangs, and the node is cut off, so that the client asks another one; then others write the key
    more often than its register remembers. What arrives after that must not be executed a second time."""
    rng = Random(f"{seed}/late-first-attempts")
    base = replace(generate(seed), nodes=3, n=3, r=1, w=1, clients=2, preset="pc-ec", policy="siblings", timeout_ms=8000)
    base = replace(base, duration_ms=12_000, retry_window_ms=10_000, timing="local", **CALM_LINKS)  # type: ignore[arg-type]
    faults, rows = [], []
    for first_ms in (1500, 7000):
        node, hangs_ms = rng.choice(base.node_ids), rng.choice([2700, 2900, 3200, 3500])
        others = [other for other in base.node_ids if other != node]
        faults.append(Fault(first_ms, "stall", {"source": "c1", "target": node}, hangs_ms))
        faults.append(Fault(first_ms, "partition", {"groups": [[node], others]}, 2350))
        rows += [(first_ms - 400 + rng.randrange(200), 0, "put") for _ in range(2)]
        rows += [(first_ms + 20 + rng.randrange(60), 0, "put")]
        # One process after the other: what is judged is one order of them all, and those that overlap are tried in every order.
        rows += [(first_ms + 1850 + 12 * number, 1, "put") for number in range(40)]
        rows += [(first_ms + hangs_ms + rng.randrange(900), 1, "get") for _ in range(6)]
    operations = tuple(
        Operation(process, at_ms, f, "r0", f"w{number}", "none") for number, (at_ms, process, f) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=tuple(faults))


@scenario("unsynced-promises")
def unsynced_promises(seed: int) -> Schedule:
    """Two nodes that do not reach each other both propose; the third one, whose disk is slow, promises the later ballot, and its
    power fails before that is synced."""
    rng = Random(f"{seed}/unsynced-promises")
    base = replace(generate(seed), nodes=3, n=3, r=1, w=1, clients=2, preset="pc-ec", policy="siblings", timeout_ms=1500)
    base = replace(base, duration_ms=11_000, timing="local", **CALM_LINKS)  # type: ignore[arg-type]
    first, second, third = rng.sample(base.node_ids, 3)
    asked_ms = 3500
    faults = [Fault(800, "cut", {"source": one, "target": other}) for one, other in ((first, second), (second, first))]
    faults += [Fault(800, "cut", {"source": "c2", "target": node}) for node in (first, third)]
    faults += [Fault(800, "cut", {"source": "c1", "target": second})]
    fails_ms = asked_ms + rng.randrange(200, 700)
    faults.append(Fault(asked_ms - 100, "slow_disk", {"node": third, "ms": 2500}, fails_ms - asked_ms + 150))
    faults.append(Fault(fails_ms, "power", {"nodes": [third]}, 100))
    rows: list[tuple[int, int, str, int]] = []
    for key in range(6):  # of several owners: whose ballot it is before depends on the key
        rows.append((100 + rng.randrange(500), 0, "put", key))
        rows.append((asked_ms + rng.randrange(100), 1 + 2 * key, "get", key))
        rows.append((900 + rng.randrange(300), 1 + 2 * key, "get", 6 + key))  # so that its client knows who answers
        rows.append((7500 + rng.randrange(1000), 2 * key, "put", key))  # when the third is there again: its silence ends ballots
        rows += [(7600 + rng.randrange(2500), 1 + 2 * key, "get", key) for _ in range(3)]
    operations = tuple(
        Operation(process, at_ms, f, f"r{key}", f"w{number}", "none")
        for number, (at_ms, process, f, key) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=tuple(faults))


@scenario("sessions-linearizable")
def sessions_linearizable(seed: int) -> Schedule:
    """Each process is a session in a namespace of preset pc-ec or pc-el, while nodes are cut off in turn: it reads what it wrote
    and what it has read, and its writes come after both."""
    rng, swarm = Random(f"{seed}/sessions-linearizable"), generate(seed)
    base = replace(
        swarm, nodes=3, n=3, r=1, w=1, clients=3, preset=rng.choice(["pc-ec", "pc-el"]), policy="siblings", sessions=True
    )
    base = replace(base, timeout_ms=rng.choice([1000, 2500]), duration_ms=12_000, loss=0.0, write_ms=0.1, disk_jitter_ms=0.4)
    faults = draw_faults(rng, base, ["cut", "partition", "isolate", "slow", "stall"], share=1.0)
    rows = sorted((rng.randrange(12_000), rng.randrange(6), rng.choice(["put", "get", "get"])) for _ in range(150))
    operations = tuple(
        Operation(process, at_ms, f, f"r{rng.randrange(3)}", f"w{number}", "none")
        for number, (at_ms, process, f) in enumerate(rows, 1)
    )
    return replace(base, operations=operations, faults=faults)


@scenario("sessions-majorities")
def sessions_majorities(seed: int) -> Schedule:
    """Sessions of preset pa-ec, which reads and writes majorities, and goes on with fewer: cut off it may have to say that what the
    session has seen is behind the cut, and never shows less."""
    rng, swarm = Random(f"{seed}/sessions-majorities"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, clients=3, policy="siblings", sessions=True, timeout_ms=rng.choice([1000, 2500]))
    base = replace(base, duration_ms=12_000, loss=0.0, write_ms=0.1, disk_jitter_ms=0.4)
    faults = draw_faults(rng, base, ["cut", "partition", "isolate", "slow", "stall"], share=1.0)
    rows = sorted((rng.randrange(12_000), rng.randrange(6), rng.choice(["put", "get", "get", "delete"])) for _ in range(200))
    operations = tuple(
        Operation(process, at_ms, f, f"r{rng.randrange(3)}", f"w{number}", rng.choice(["none", "read"]))
        for number, (at_ms, process, f) in enumerate(rows, 1)
    )
    return replace(base, operations=operations, faults=faults)


@scenario("zones")
def zones(seed: int) -> Schedule:
    """Two zones of three nodes each, and three copies in either; clients read and write at `zone_quorum`, each in its own zone,
    while the zones are cut off from each other and nodes go: what was acknowledged in a zone is read there."""
    rng, swarm = Random(f"{seed}/zones"), generate(seed)
    base = replace(swarm, nodes=6, n=6, r=4, w=4, clients=2, zones=2, policy="siblings", timeout_ms=rng.choice([1000, 2500]))
    base = replace(base, duration_ms=14_000, timing="local", loss=0.0, write_ms=rng.choice([0.1, 5.0]), disk_jitter_ms=20.0)
    left, right = base.zone_members
    cut = Fault(2000 + rng.randrange(1000), "partition", {"groups": [[*left, "c1"], [*right, "c2"]]}, 6000)
    faults = [cut, *(Fault(0, "cut", {"source": "c1", "target": node}) for node in right)]
    faults += [Fault(0, "cut", {"source": "c2", "target": node}) for node in left]  # clients are in their zone
    for zone in base.zone_members:
        kind = rng.choice(["pause", "crash", "isolate"])
        node = rng.choice(zone)
        args = {"nodes": [node]} if kind == "crash" else {"node": node}
        faults.append(Fault(rng.randrange(1000, 12_000), kind, args, rng.choice([500, 2000])))
    rows = sorted((rng.randrange(14_000), rng.randrange(6), rng.choice(["put", "get", "get"])) for _ in range(160))
    operations = tuple(
        Operation(process, at_ms, f, f"r{rng.randrange(2)}", f"w{number}", rng.choice(["none", "read"]), "zone_quorum")
        for number, (at_ms, process, f) in enumerate(rows, 1)
    )
    return replace(base, operations=operations, faults=tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind))))
