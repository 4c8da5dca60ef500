"""A schedule is all that a run is made of, as plain data: the cluster, the network, the disks, what clients do and what breaks.

Explicit to the last operation, so that a schedule that found a bug stays that schedule whatever becomes of the generator, and so
that it can be shrunk by leaving things out. What the world itself draws (delays, who runs first, what a crash keeps) comes from
`seed`. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kvchaos.operations import Operation

FAULTS = {
    "cut": "source, target: nothing passes one way",
    "partition": "groups: nothing passes between the groups of nodes; clients reach all",
    "isolate": "node: no other node and no client reaches it, nor it them",
    "stall": "source, target: what is sent one way waits, and arrives late",
    "mute": "node, client: the node's answers to the client do not arrive; requests do",
    "slow": "source, target, ms: the link takes so much longer",
    "lossy": "source, target, share: packets are lost and sent again",
    "reset": "left, right: every connection between the two is reset",
    "crash": "nodes: killed at one moment, what was not synced is lost; they start again afterwards",
    "power": "nodes: as crash, but nobody is told that their connections are gone",
    "crash_at": "point, passing, down_ms, silent: the node that passes this step of its background work is killed there",
    "stop": "node: stopped cleanly; it starts again afterwards",
    "pause": "node: does not run (SIGSTOP)",
    "wipe": "node: killed, and its disk emptied; it starts again afterwards",
    "rollback": "node, back_ms: killed, and its disk put back to what it was; it starts again afterwards",
    "failing_disk": "node, error, applied: the next write or sync fails; it starts again afterwards",
    "slow_disk": "node, ms: writes take so much longer",
    "flip": "node, records: in so many stored records a bit flips",
    "skew": "node, ms: its wall clock is wrong by so much",
    "epoch": "delays_ms: a new ring epoch with the same owners, taken up by each node after its delay",
}
"""Kind of fault: its arguments, and what happens until `for_ms` later."""

TYPED = frozenset({"counter", "set", "map"})
"""Policies whose keys are read as numbers and elements, not as values."""

LOSES_COPIES = frozenset({"wipe", "rollback", "flip"})
"""Kinds after which a node no longer has all that it acknowledged."""


GRACE_MS = 24 * 3_600_000
"""No tombstone is reaped in a run that says nothing of it."""


HINTS_PLENTY = 200_000
"""More than any schedule needs."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: from `at_ms` on, for `for_ms`; 0 ends with the run, or is over at once."""

    at_ms: int
    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)
    for_ms: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """See the module. `process % clients` is the client that a process uses; it has `timeout_ms` for each call. `promises` are the
    names of what may be asserted (kvchaos.checkers.judge). Without a `repair_interval_s` replicas compare their records only
    after a loss; `by_itself`: replicas come to agree before anybody reads everything. `timing` is the failure detectors',
    `policy` that of the only namespace. With `sessions` each process is one. With a `preset` that is a linearizable one the
    namespace is: r and w are majorities then, whatever they say;
    `timeline_bound_ms` is how old its reads may be at pc-el. With `makes_namespaces` operations are on namespaces made at
    run time (create, drop, put, get), whose name is their `key`, and the preset of what is made their `level`. Nodes lie in so
    many `zones`, 0: in none. With `memory_bytes` keys lie in three namespaces (spaces.py), one of them in so much memory. With
    `frames` batches between nodes travel without gRPC, as they do where nothing stands in the way."""

    seed: int
    scenario: str = "swarm"
    nodes: int = 3
    n: int = 3
    r: int = 2
    w: int = 2
    policy: str = "siblings"
    preset: str = ""
    clients: int = 2
    timeout_ms: int = 1000
    duration_ms: int = 5000
    retry_window_ms: int = 10_000
    retry_ids: int = 32
    grace_ms: int = GRACE_MS
    timeline_bound_ms: int = 1000
    cache_bytes: int = 1 << 20
    delay_ms: float = 0.2
    jitter_ms: float = 0.6
    loss: float = 0.0
    late_share: float = 0.5
    write_ms: float = 0.1
    disk_jitter_ms: float = 0.4
    repair_interval_s: float = 0.0
    hints_max: int = HINTS_PLENTY
    by_itself: bool = False
    timing: str = "lan"
    sessions: bool = False
    makes_namespaces: bool = False
    memory_bytes: int = 0
    zones: int = 0
    frames: bool = False
    promises: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    operations: tuple[Operation, ...] = ()

    @property
    def node_ids(self) -> tuple[str, ...]:
        """n1, n2, …"""
        return tuple(f"n{number}" for number in range(1, self.nodes + 1))

    @property
    def client_ids(self) -> tuple[str, ...]:
        """c1, c2, …"""
        return tuple(f"c{number}" for number in range(1, self.clients + 1))

    @property
    def zone_members(self) -> tuple[tuple[str, ...], ...]:
        """The nodes of z1, z2, …: about as many each."""
        return tuple(self.node_ids[at * self.nodes // self.zones : (at + 1) * self.nodes // self.zones] for at in range(self.zones))

    @property
    def zone_of(self) -> dict[str, str]:
        """Node to zone."""
        return {node: f"z{number}" for number, nodes in enumerate(self.zone_members, 1) for node in nodes}

    @property
    def has_registers(self) -> bool:
        """Whether its namespace is linearizable."""
        return bool(self.preset)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of the configured namespace that is used."""
        if self.makes_namespaces:
            return ()
        return tuple(sorted({operation.key for operation in self.operations}))

    @property
    def skew_ms(self) -> int:
        """By how much a clock is wrong at most."""
        return max([abs(fault.args["ms"]) for fault in self.faults if fault.kind == "skew"], default=0)

    @property
    def copies(self) -> int:
        """How many replicas a key really has."""
        return min(self.n, self.nodes)


def to_json(schedule: Schedule, **more: Any) -> str:
    """The schedule as readable text: one line for each setting, fault and operation. `more` says where it comes from."""
    plain = {name: value for name, value in asdict(schedule).items() if name not in ("faults", "operations")}
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}," for name, value in {**more, **plain}.items()]
    faults = ",\n".join(f"    {json.dumps([fault.at_ms, fault.kind, dict(fault.args), fault.for_ms])}" for fault in schedule.faults)
    rows = (
        [operation.process, operation.at_ms, operation.f, operation.key, operation.name, operation.context, operation.level]
        + ([operation.ttl_ms] if operation.ttl_ms else [])
        for operation in schedule.operations
    )
    operations = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    return "\n".join(["{", *lines, f'  "faults": [\n{faults}\n  ],', f'  "operations": [\n{operations}\n  ]', "}"]) + "\n"


def from_json(text: str) -> Schedule:
    """The schedule of a text. Names it does not know are left alone. Raises `ValueError`."""
    plain = json.loads(text)
    known = {one.name for one in fields(Schedule)}
    settings = {name: value for name, value in plain.items() if name in known}
    try:
        settings["promises"] = tuple(settings.get("promises", ()))
        settings["faults"] = tuple(Fault(*row) for row in settings.get("faults", ()))
        settings["operations"] = tuple(Operation(*row) for row in settings.get("operations", ()))
        schedule = Schedule(**settings)
    except TypeError as error:
        raise ValueError(f"not a schedule: {error}") from error
    check(schedule)
    return schedule


def check(schedule: Schedule) -> None:
    """Raises `ValueError` for what no run could make sense of."""
    copies = schedule.copies
    if not (schedule.nodes >= 1 and 1 <= schedule.r <= copies and 1 <= schedule.w <= copies and schedule.clients >= 1):
        raise ValueError(f"n={copies} r={schedule.r} w={schedule.w} on {schedule.nodes} nodes for {schedule.clients} clients")
    for fault in schedule.faults:
        if fault.kind not in FAULTS:
            raise ValueError(f"no such fault: {fault.kind}; there are {', '.join(FAULTS)}")
    names = [operation.name for operation in schedule.operations]
    if len(names) != len(set(names)):
        raise ValueError("two operations of one name")
