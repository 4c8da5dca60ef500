"""Scenarios of eventual namespaces: what is cut, killed or slow while records are written, read and deleted."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from kvchaos.operations import Operation
from kvchaos.simulation.generate import draw_faults, generate
from kvchaos.simulation.scenario_names import HARMLESS, OF_ACCEPTORS, scenario
from kvchaos.simulation.schedule import Fault, Schedule


@scenario("calm")
def calm(seed: int) -> Schedule:
    """Nothing breaks: every call should be answered, and quickly."""
    return replace(generate(seed), faults=(), loss=0.0)


@scenario("default")
def default(seed: int) -> Schedule:
    """Three nodes, two copies of three, 30 seconds, and whatever may break: what the simulation's speed is measured by."""
    swarm = generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, duration_ms=30_000, delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4)
    rng = Random(f"{seed}/default")
    operations = tuple(replace(one, at_ms=rng.randrange(30_000), level="preset") for one in swarm.operations)
    ordered = sorted(operations, key=lambda one: one.at_ms)
    return replace(base, operations=tuple(ordered), faults=draw_faults(rng, base))


@scenario("lost-answers")
def lost_answers(seed: int) -> Schedule:
    """Requests arrive and their answers do not: clients retry through other coordinators what was executed already."""
    rng, base = Random(f"{seed}/lost-answers"), replace(generate(seed), nodes=3, n=3, r=2, w=2, timeout_ms=2500)
    return replace(base, faults=draw_faults(rng, base, ["mute", "reset", "pause"], share=1.0))


@scenario("late-attempts")
def late_attempts(seed: int) -> Schedule:
    """A node is cut off from the others, and what a client sends it hangs; others overwrite meanwhile what it is about. What
    arrives then is too old to be executed, also where clocks are wrong by minutes."""
    rng, swarm = Random(f"{seed}/late-attempts"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, clients=2, timeout_ms=15_000, duration_ms=16_000, retry_window_ms=1000)
    base = replace(base, delay_ms=0.2, jitter_ms=0.6, loss=0.0, write_ms=0.1, disk_jitter_ms=0.4)
    faults = [
        Fault(0, "skew", {"node": node, "ms": rng.choice([-600_000, -30_000, 30_000, 600_000])})
        for node in sorted(rng.sample(base.node_ids, rng.choice([1, 2])))
    ]
    rows: list[tuple[int, int, str]] = []
    for first_ms in (1000, 7000, 13_000):
        node, hangs_ms = rng.choice(base.node_ids), rng.choice([1200, 2700, 2900, 3200])
        others = [other for other in base.node_ids if other != node]
        faults.append(Fault(first_ms, "stall", {"source": "c1", "target": node}, hangs_ms))
        faults.append(Fault(first_ms, "partition", {"groups": [[node], others]}, hangs_ms + rng.choice([0, 5, 300])))
        rows += [(first_ms - 300 + rng.randrange(200), 0, "put") for _ in range(3)]
        rows += [(first_ms + rng.randrange(100), 0, "put") for _ in range(rng.randint(1, 4))]
        rows += [(first_ms + 1100 + rng.randrange(1100), 1, rng.choice(["put", "delete", "get"])) for _ in range(rng.randint(2, 6))]
    operations = tuple(
        Operation(process, at_ms, f, f"r{rng.randrange(3)}", f"w{number}", "none" if process == 0 else "read", "quorum")
        for number, (at_ms, process, f) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=tuple(faults))


@scenario("healing")
def healing(seed: int) -> Schedule:
    """A node is alone with its clients and takes their writes; when it is back slow disks keep it from handing them over, while
    others read: what they are not shown they must be told of."""
    rng, swarm = Random(f"{seed}/healing"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, clients=2, timeout_ms=8000, duration_ms=20_000, delay_ms=0.2, jitter_ms=0.6)
    base = replace(base, loss=0.0, write_ms=0.1, disk_jitter_ms=0.4, policy="siblings", repair_interval_s=0.0)
    alone = rng.choice(base.node_ids)
    others = [node for node in base.node_ids if node != alone]
    heals_ms = 6500 + rng.randrange(1000)
    faults = [Fault(500, "partition", {"groups": [[alone, "c1"], [*others, "c2"]]}, heals_ms - 500)]
    faults += [Fault(heals_ms - 200, "slow_disk", {"node": node, "ms": rng.choice([3000, 6000])}, 9000) for node in others]
    rows = [(rng.randrange(400), 1, "put") for _ in range(3)]
    rows += [(5000 + rng.randrange(1000), 0, rng.choice(["put", "put", "delete"])) for _ in range(rng.randint(2, 5))]
    rows += [(heals_ms + rng.randrange(9000), rng.choice([1, 3, 5]), "get") for _ in range(40)]
    operations = tuple(
        Operation(process, at_ms, f, f"r{rng.randrange(3)}", f"w{number}", rng.choice(["none", "read"]), "preset")
        for number, (at_ms, process, f) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=tuple(faults))


@scenario("atomic")
def atomic(seed: int) -> Schedule:
    """Disks that take each its time, so that writes are on one replica long before they are on the next, and some faults; atomic
    reads through all nodes: what one has shown, no later one un-sees."""
    rng, swarm = Random(f"{seed}/atomic"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, clients=3, timeout_ms=rng.choice([1000, 2500]), duration_ms=8000, loss=0.0)
    base = replace(base, write_ms=rng.choice([5.0, 30.0]), disk_jitter_ms=rng.choice([50.0, 200.0]), policy="siblings")
    rows: list[tuple[int, int, bool, int]] = []
    for _ in range(24):  # one writes, and the others look while it goes from disk to disk
        at_ms, key = rng.randrange(8000), rng.randrange(2)
        rows.append((at_ms, rng.randrange(3), True, key))
        rows += [(at_ms + rng.randrange(10, 260), 3 + rng.randrange(9), False, key) for _ in range(8)]
    operations = tuple(
        Operation(process, at_ms, "put", f"r{key}", f"w{number}", "read", rng.choice(["one", "quorum"]))
        if is_write
        else Operation(process, at_ms, "get", f"r{key}", f"w{number}", "none", "atomic")
        for number, (at_ms, process, is_write, key) in enumerate(sorted(rows), 1)
    )
    return replace(base, operations=operations, faults=draw_faults(rng, base, ["isolate", "pause", "cut", "crash"], share=0.4))


@scenario("sessions")
def sessions(seed: int) -> Schedule:
    """Each process is a session that reads and writes at level one, while nodes are cut off in turn: it reads what it wrote and
    what it has read, or is told that it cannot."""
    rng, swarm = Random(f"{seed}/sessions"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=1, w=1, clients=3, timeout_ms=rng.choice([1000, 2500]), duration_ms=12_000, sessions=True)
    base = replace(base, loss=0.0, write_ms=0.1, disk_jitter_ms=0.4, policy="siblings")
    faults = draw_faults(rng, base, ["cut", "partition", "isolate", "slow", "stall"], share=1.0)
    rows = sorted((rng.randrange(12_000), rng.randrange(6), rng.choice(["put", "get", "get", "delete"])) for _ in range(200))
    operations = tuple(
        Operation(process, at_ms, f, f"r{rng.randrange(3)}", f"w{number}", rng.choice(["none", "read"]), "one")
        for number, (at_ms, process, f) in enumerate(rows, 1)
    )
    return replace(base, operations=operations, faults=faults)


@scenario("power")
def power(seed: int) -> Schedule:
    """The power fails everywhere, again and again, on slow disks."""
    rng, base = Random(f"{seed}/power"), replace(generate(seed), write_ms=20.0)
    at_ms = sorted(rng.randrange(base.duration_ms) for _ in range(4))
    return replace(base, faults=tuple(Fault(at, "power", {"nodes": list(base.node_ids)}, 100) for at in at_ms))


@scenario("deletes")
def deletes(seed: int) -> Schedule:
    """Every second write deletes, while links are cut: what was deleted must stay so."""
    rng, swarm = Random(f"{seed}/deletes"), generate(seed)
    operations = tuple(
        replace(one, f="delete", context="read") if one.f == "put" and rng.random() < 0.5 else one for one in swarm.operations
    )
    base = replace(swarm, operations=operations)
    return replace(base, faults=draw_faults(rng, base, ["cut", "stall", "partition", "isolate"], share=0.7))


@scenario("stand-ins")
def stand_ins(seed: int) -> Schedule:
    """The same two nodes are cut off again and again, long enough that the others take their writes, and hand them over."""
    rng = Random(f"{seed}/stand-ins")
    swarm = generate(seed)
    base = replace(swarm, nodes=4, n=2, r=1, w=rng.choice([1, 2]), clients=2, timeout_ms=1000, duration_ms=24_000, loss=0.0)
    base = replace(base, delay_ms=0.2, jitter_ms=5.0, write_ms=rng.choice([0.1, 5.0]))
    away = sorted(rng.sample(base.node_ids, 2))
    faults = tuple(Fault(500 + 8000 * at, "isolate", {"node": node}, 5000) for at in range(3) for node in away)
    operations = tuple(replace(one, at_ms=rng.randrange(24_000), level="preset") for one in swarm.operations)
    return replace(base, operations=tuple(sorted(operations, key=lambda one: one.at_ms)), faults=faults)


@scenario("hint-cap")
def hint_cap(seed: int) -> Schedule:
    """One of three nodes is down, and the others may note hardly anything of what it misses: every call succeeds all the same, and
    when it is back it gets what nobody has noted."""
    rng, swarm = Random(f"{seed}/hint-cap"), generate(seed)
    faults = (Fault(0, "crash", {"nodes": ["n3"]}, 9_000),)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, hints_max=rng.choice([0, 1, 2]), timeout_ms=2500, duration_ms=8_000, loss=0.0)
    base = replace(base, delay_ms=0.2, jitter_ms=0.6, write_ms=0.1, disk_jitter_ms=0.4, faults=faults)
    operations = [replace(one, at_ms=rng.randrange(2_000, 8_000), level="preset") for one in swarm.operations]
    ordered = tuple(sorted(operations, key=lambda one: one.at_ms))
    return replace(base, operations=ordered, promises=("served",))


@scenario("flapping")
def flapping(seed: int) -> Schedule:
    """One node goes and comes back, again and again, paused, cut off or killed; in the end it is there to everybody."""
    rng, swarm = Random(f"{seed}/flapping"), generate(seed)
    base = replace(swarm, nodes=max(3, swarm.nodes), duration_ms=20_000, timing="local", loss=0.0)
    node = rng.choice(base.node_ids)
    kinds: dict[str, dict[str, Any]] = {"pause": {"node": node}, "isolate": {"node": node}, "crash": {"nodes": [node]}}
    faults = []
    at_ms = 500
    while at_ms < 18_000:
        kind, for_ms = rng.choice(sorted(kinds)), rng.randrange(500, 5000)
        faults.append(Fault(at_ms, kind, kinds[kind], for_ms))
        at_ms += for_ms + rng.randrange(200, 2000)
    operations = tuple(replace(one, at_ms=rng.randrange(20_000)) for one in swarm.operations)
    return replace(base, operations=tuple(sorted(operations, key=lambda one: one.at_ms)), faults=tuple(faults))


@scenario("epochs")
def epochs(seed: int) -> Schedule:
    """The ring moves on, at each node at another moment, while messages of the old one are on their way."""
    rng, base = Random(f"{seed}/epochs"), generate(seed)
    return replace(base, faults=draw_faults(rng, base, ["epoch", "stall", "slow", "crash"], share=0.8))


@scenario("reaping")
def reaping(seed: int) -> Schedule:
    """A grace of two seconds: keys are written, deleted, touched and expire while messages hang, nodes are away for longer than it,
    crash in the middle of it, and clocks are wrong: what is gone must stay so though its tombstone is forgotten."""
    rng, swarm = Random(f"{seed}/reaping"), generate(seed)
    base = replace(swarm, nodes=rng.choice([3, 3, 4]), n=3, r=2, w=rng.choice([1, 1, 2]), duration_ms=25_000, retry_window_ms=1000)
    base = replace(base, grace_ms=rng.choice([2000, 2000, 16_000]))
    base = replace(base, clients=2, timeout_ms=1000, delay_ms=0.2, jitter_ms=5.0, loss=0.0, write_ms=rng.choice([0.1, 0.1, 5.0]))
    faults: list[Fault] = []
    rows: list[tuple[int, int, str, int]] = []
    for episode, first_ms in enumerate((500, 8500, 16_500)):  # something is written, it goes, time passes
        rows += [(first_ms + rng.randrange(120), rng.randrange(4), "put", episode) for _ in range(rng.randint(2, 6))]
        rows += [(first_ms + 150 + rng.randrange(400), rng.randrange(4), "delete", episode) for _ in range(rng.randint(2, 6))]
        if rng.random() < 0.5:
            kinds = ["put", "put", "delete", "delete", "get", "touch"]
            more = [(first_ms + 150 + rng.randrange(3000), rng.randrange(4), rng.choice(kinds)) for _ in range(rng.randint(1, 8))]
            rows += [(*one, episode) for one in more]
        faults += _reaping_faults(rng, base, first_ms)
    rows.sort()
    keys = rng.randint(1, 3)
    operations = tuple(
        Operation(
            process,
            at_ms,
            f,
            f"r{episode}{rng.randrange(keys)}",
            f"w{number}",
            rng.choice(["none", "none", "read", "own"]),
            ttl_ms=0 if f in ("get", "delete") else rng.choice([0, 0, 400, 1500]),
        )
        for number, (at_ms, process, f, episode) in enumerate(rows, 1)
    )
    return replace(base, operations=operations, faults=tuple(sorted(faults, key=lambda fault: (fault.at_ms, fault.kind))))


def _reaping_faults(rng: Random, base: Schedule, first_ms: int) -> list[Fault]:
    """What goes wrong in one episode: for longer than the grace, or in the middle of it."""
    source, target, third = rng.sample(base.node_ids, 3)
    hangs_ms, away_ms = rng.choice([900, 3300, 4500, 6500]), rng.choice([1000, 5000])
    gone = Fault(first_ms + rng.randrange(60, 160), rng.choice(["power", "crash", "crash"]), {"nodes": [source]}, 150)
    slow = Fault(first_ms - 50, "slow", {"source": source, "target": target, "ms": hangs_ms}, 200)
    wrong_ms = rng.choice([-80, 80, 600_000, -600_000])
    drawn = [
        # What a node in the place of another has sent hangs, and the node itself has forgotten that it did.
        [Fault(first_ms - 100, "crash", {"nodes": [third]}, 300), slow, Fault(first_ms + 160, "crash", {"nodes": [source]}, 150)],
        [Fault(first_ms - 100, "crash", {"nodes": [third]}, 300), slow, Fault(first_ms + 160, "crash", {"nodes": [source]}, 150)],
        [Fault(first_ms, "stall", {"source": source, "target": target}, hangs_ms), gone],
        [slow, gone],
        [Fault(first_ms, "stall", {"source": source, "target": target}, hangs_ms)],
        [Fault(first_ms + rng.randrange(100, 200), "isolate", {"node": target}, away_ms)],
        [Fault(first_ms + rng.randrange(100, 200), "pause", {"node": target}, away_ms)],
        [Fault(first_ms + rng.randrange(1500, 5000), "power", {"nodes": [source, target][: rng.choice([1, 2])]}, 300)],
        [Fault(first_ms + rng.randrange(1000), "skew", {"node": source, "ms": wrong_ms}, 3000)],
    ]
    return [fault for chosen in rng.sample(drawn, rng.choice([1, 1, 2])) for fault in chosen]


@scenario("long-absence")
def long_absence(seed: int) -> Schedule:
    """A node comes back with a disk of before the deletes, whose tombstones are reaped by then: what it has must reach nobody."""
    rng, swarm = Random(f"{seed}/long-absence"), generate(seed)
    base = replace(swarm, nodes=rng.choice([3, 3, 4]), n=3, r=2, w=2, policy="siblings", duration_ms=14_000, retry_window_ms=1000)
    base = replace(base, grace_ms=2000, clients=2, timeout_ms=1000, delay_ms=0.2, jitter_ms=5.0, loss=0.0, write_ms=0.1)
    base = replace(base, disk_jitter_ms=0.4, repair_interval_s=rng.choice([0.0, 1.0]))
    rows = [(500 + rng.randrange(500), "put") for _ in range(rng.randint(2, 6))]
    rows += [(2200 + rng.randrange(500), "delete") for _ in range(rng.randint(2, 6))]
    rows += [(9000 + rng.randrange(4000), rng.choice(["get", "put", "delete"])) for _ in range(rng.randint(0, 6))]
    keys = rng.randint(1, 3)
    operations = tuple(
        Operation(rng.randrange(4), at_ms, f, f"r{number % keys}", f"w{number}", rng.choice(["none", "read"]))
        for number, (at_ms, f) in enumerate(sorted(rows), 1)
    )
    at_ms, node = 8000 + rng.randrange(1000), rng.choice(base.node_ids)
    faults = [Fault(at_ms, "rollback", {"node": node, "back_ms": at_ms - 1800}, rng.choice([100, 1500]))]
    if rng.random() < 0.3:  # and once more while it comes back
        faults.append(Fault(at_ms + 1500 + rng.randrange(200), "power", {"nodes": [node]}, 100))
    return replace(base, operations=operations, faults=tuple(faults))


@scenario("flood")
def flood(seed: int) -> Schedule:
    """Most operations come within three seconds, on slow disks: what is refused or late must be told as what it is."""
    rng, swarm = Random(f"{seed}/flood"), generate(seed)
    base = replace(swarm, write_ms=rng.choice([20.0, 100.0, 300.0]), timeout_ms=rng.choice([300, 800, 2500]))
    operations = tuple(
        replace(one, at_ms=2000 + rng.randrange(3000), level="preset") if rng.random() < 0.8 else one for one in swarm.operations
    )
    ordered = tuple(sorted(operations, key=lambda one: one.at_ms))
    return replace(base, operations=ordered, faults=draw_faults(rng, base, ["pause", "stall", "slow"], share=0.5))


@scenario("counters")
def counters(seed: int) -> Schedule:
    """Counters, while answers are lost, links cut and nodes killed: what was acknowledged is counted, and nothing twice."""
    return _typed(seed, "counters", "counter", {"count": 4, "get": 1}, ["c0", "c1"])


@scenario("sets")
def sets(seed: int) -> Schedule:
    """Sets that several clients add to and remove from: additions win over removals that have not seen them."""
    return _typed(seed, "sets", "set", {"insert": 3, "take": 2, "get": 1}, ["s0", "s1", "s2"])


@scenario("maps")
def maps(seed: int) -> Schedule:
    """Maps of a counter and a set each, under the same faults: each field keeps what its kind promises."""
    return _typed(seed, "maps", "map", {"count": 3, "insert": 2, "take": 1, "get": 1}, ["m0", "m1"])


@scenario("last-writer")
def last_writer(seed: int) -> Schedule:
    """Keys whose last writer wins, under wrong clocks and cuts: no write is buried under one that it was written over."""
    rng, base = Random(f"{seed}/last-writer"), replace(generate(seed), nodes=3, n=3, r=2, w=2, policy="lww")
    kept = tuple(one for one in base.operations if one.f in ("put", "get", "delete"))
    operations = tuple(replace(one, context="none", level="preset") for one in kept)
    return replace(base, operations=operations, faults=draw_faults(rng, base, [*HARMLESS, "skew"], share=0.5))


@scenario("namespaces")
def namespaces(seed: int) -> Schedule:
    """Namespaces are made, used, dropped and made again with other settings, on both sides of cuts and while nodes crash."""
    rng, swarm = Random(f"{seed}/namespaces"), generate(seed)
    nodes = rng.choice([3, 3, 3, 4, 5])
    base = replace(swarm, nodes=nodes, n=3, r=2, w=2, policy="siblings", makes_namespaces=True, timeout_ms=rng.choice([1000, 2500]))
    kinds = {"create": 3, "drop": rng.choice([1, 2]), "put": rng.choice([2, 4]), "get": 3}
    drawn = rng.choices(list(kinds), list(kinds.values()), k=len(swarm.operations))
    presets = rng.choice([["pa-ec", "pc-ec"], ["pa-el", "pa-ec"], ["pa-el", "pa-ec", "pc-ec"]])
    operations = tuple(
        replace(one, f=f, key=rng.choice(["a", "b"]), context="none", level=rng.choice(presets) if f == "create" else "preset")
        for one, f in zip(swarm.operations, drawn, strict=True)
    )
    faults = draw_faults(rng, base, OF_ACCEPTORS, share=0.3, losing=rng.choice(["", "", "wipe"]))
    return replace(base, operations=operations, faults=faults)


@scenario("unspread")
def unspread(seed: int) -> Schedule:
    """A node that changes the namespaces dies about when that is committed: the others have to find out what nobody told them."""
    rng, swarm = Random(f"{seed}/unspread"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, policy="siblings", makes_namespaces=True, timeout_ms=1000, loss=0.0)
    faults, operations = [], []
    for number, at_ms in enumerate((500, 2500), 1):
        operations.append(Operation(0, at_ms, "create", rng.choice(["a", "b"]), f"w{number}", level="pa-ec"))
        # Clients ask it first. It is off for longer than all that is asked takes.
        faults.append(Fault(at_ms + rng.randrange(150), rng.choice(["crash", "power"]), {"nodes": ["n1"]}, 1500))
    return replace(base, operations=tuple(operations), faults=tuple(faults))


def _typed(seed: int, name: str, policy: str, kinds: dict[str, int], keys: list[str]) -> Schedule:
    rng, swarm = Random(f"{seed}/{name}"), generate(seed)
    base = replace(swarm, nodes=3, n=3, r=2, w=2, policy=policy, timeout_ms=rng.choice([1000, 2500]))
    drawn = rng.choices(list(kinds), list(kinds.values()), k=len(swarm.operations))
    operations = tuple(
        replace(one, f=f, key=rng.choice(keys), context="none", level="preset")
        for one, f in zip(swarm.operations, drawn, strict=True)
    )
    return replace(base, operations=operations, faults=draw_faults(rng, base, HARMLESS, share=0.5))
