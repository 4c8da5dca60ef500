"""What a namespace that is made at run time may be: its settings with what follows from them, and every reason to refuse.

Modes, presets and policies are those of consistency.md, sections 1 and 2. Nothing here ever changes for a namespace that there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from kvproto.columns import NamespaceWish
from kvproto.errors import BadRequest, WrongMode

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"

EVENTUAL, LINEARIZABLE = "eventual", "linearizable"
MODE_OF_PRESET = {"pa-el": EVENTUAL, "pa-ec": EVENTUAL, "pc-ec": LINEARIZABLE, "pc-el": LINEARIZABLE}
PRESET_OF_MODE = {EVENTUAL: "pa-ec", LINEARIZABLE: "pc-ec"}
POLICIES = ("siblings", "lww", "counter", "set", "map")
DISK, MEMORY = "disk", "memory"
FSYNC, OS, NONE = "fsync", "os", "none"
"""What an acknowledgement waits for: that a disk has it, or that the operating system has it; in memory there is nothing to ask."""
STORAGES, DURABILITIES = (DISK, MEMORY), (FSYNC, OS)
MEMORY_BYTES_MIN, MEMORY_BYTES_MAX = 1 << 20, 1 << 40
"""Of `max_bytes`, on each node."""
N_AT_FIRST = 3
TTL_MS_MAX = 3_200_000_000_000
QUOTA_MAX = 1 << 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a namespace is for as long as it lives. `r` and `w` 0: what the preset gives; else exact, met or refused. `max_bytes`:
    of memory, on each node; `value_bytes_max` 0: the cluster's."""

    mode: str
    preset: str
    n: int
    r: int = 0
    w: int = 0
    ttl_ms: int = 0
    policy: str = POLICIES[0]
    storage: str = DISK
    durability: str = FSYNC
    quota_operations_per_s: int = 0
    quota_bytes_per_s: int = 0
    max_bytes: int = 0
    value_bytes_max: int = 0

    def quorums(self, nodes: int) -> tuple[int, int]:
        """(answers that a read waits for, acknowledgements that a write waits for) in a ring of `nodes` nodes."""
        majority = min(self.n, nodes) // 2 + 1
        usual = 1 if self.preset == "pa-el" else majority
        return (majority, majority) if self.mode == LINEARIZABLE else (self.r or usual, self.w or usual)

    def differences(self, other: Settings) -> list[str]:
        """Each setting in which `other` differs, in words: ours, then theirs."""
        pairs = [(one.name, getattr(self, one.name), getattr(other, one.name)) for one in fields(self)]
        return [f"{name} is {ours!r} and not {theirs!r}" for name, ours, theirs in pairs if ours != theirs]

    @property
    def is_understood(self) -> bool:
        """Whether this version can serve it: a newer one may have made it with what nobody here has heard of."""
        return (
            MODE_OF_PRESET.get(self.preset) == self.mode
            and self.policy in POLICIES
            and min(self.n - 1, self.r, self.w, self.ttl_ms, self.quota_operations_per_s, self.quota_bytes_per_s) >= 0
            and self.value_bytes_max >= 0
            and not storage_problem(self.mode, self.storage, self.durability, self.max_bytes)
        )


def storage_problem(mode: str, storage: str, durability: str, max_bytes: int) -> tuple[str, str] | None:
    """Which of these settings cannot be beside the others, and a sentence that says why and what can; None: they go together."""
    if storage not in STORAGES:
        return "storage", f"storage {storage!r} is not known; there are {', '.join(STORAGES)}"
    if durability not in (*DURABILITIES, NONE):
        return "durability", f"durability {durability!r} is not known; there are {', '.join(DURABILITIES)}"
    if mode == LINEARIZABLE:  # safety rule 15
        for what, value, safe in (("storage", storage, DISK), ("durability", durability, FSYNC)):
            if value != safe:
                said = f"{what} {value!r}: what a linearizable namespace has promised must not be lost: {safe} only"
                return what, said
    if storage == MEMORY and durability != NONE:
        return "durability", f"durability {durability!r}: nothing of a namespace in memory is on a disk; leave it away"
    if storage == DISK and durability == NONE:
        return "durability", f"durability {durability!r} is that of a namespace in memory; on a disk it is fsync or os"
    if storage == MEMORY and not max_bytes:
        return "max_bytes", "a namespace in memory needs max_bytes: how much of a node's memory it may take"
    if storage == DISK and max_bytes:
        return "max_bytes", "max_bytes bounds a namespace in memory: say storage memory as well, or leave it away"
    if max_bytes and not MEMORY_BYTES_MIN <= max_bytes <= MEMORY_BYTES_MAX:
        return "max_bytes", f"max_bytes is {max_bytes}; between {MEMORY_BYTES_MIN} and {MEMORY_BYTES_MAX} are possible"
    return None


def durability_of(storage: str, wanted: str) -> str:
    """What `wanted` stands for; "" is what is usual there."""
    return wanted or (NONE if storage == MEMORY else FSYNC)


def decide_settings(wanted: NamespaceWish, *, replicas: int, nodes: int, value_bytes_max: int = 0) -> Settings:
    """The settings that `wanted` asks for, in a ring of `nodes` nodes with `replicas` owners a partition; `value_bytes_max`: the
    cluster's. Raises `BadRequest` or `WrongMode`, which say what is wrong and what would be right."""
    if not NAME.fullmatch(wanted.name):
        raise BadRequest(f"{wanted.name!r} is not a name for a namespace: {NAME_RULE}", subject="name")
    mode, preset = _mode_and_preset(wanted)
    n = wanted.n or min(N_AT_FIRST, replicas)
    if not 1 <= n <= replicas:
        raise BadRequest(
            f"n={n} is not between 1 and {replicas}, the replicas that the ring keeps (cluster.replicas)",
            limit=replicas,
            actual=n,
            subject="n",
        )
    _check_policy(wanted, mode)
    for letter, count in (("r", wanted.r), ("w", wanted.w)):
        if count and mode == LINEARIZABLE:
            raise WrongMode(
                f"{letter} has no place in a linearizable namespace: a majority decides there; leave it away", subject=letter
            )
        if not 0 <= count <= min(n, nodes):
            raise BadRequest(
                f"{letter}={count}, but a key has {min(n, nodes)} replicas (n={n}, {nodes} nodes)",
                limit=min(n, nodes),
                actual=count,
                subject=letter,
            )
    for what, number, most in (
        ("ttl_ms", wanted.ttl_ms, TTL_MS_MAX),
        ("quota_operations_per_s", wanted.quota_operations_per_s, QUOTA_MAX),
        ("quota_bytes_per_s", wanted.quota_bytes_per_s, QUOTA_MAX),
    ):
        if not 0 <= number <= most:
            raise BadRequest(f"{what} is {number}, at most {most} are possible", limit=most, actual=number, subject=what)
    storage = wanted.storage or DISK
    durability = durability_of(storage, wanted.durability)
    problem = storage_problem(mode, storage, durability, wanted.max_bytes)
    if problem is not None:
        raise BadRequest(problem[1], subject=problem[0])
    if not 0 <= wanted.value_bytes_max <= (value_bytes_max or wanted.value_bytes_max):
        raise BadRequest(
            f"value_bytes_max is {wanted.value_bytes_max}, but the cluster's is {value_bytes_max}: at most that",
            limit=value_bytes_max,
            actual=wanted.value_bytes_max,
            subject="value_bytes_max",
        )
    asked = {one.name: getattr(wanted, one.name) for one in fields(Settings) if getattr(wanted, one.name)}
    return replace(
        Settings(mode=mode, preset=preset, n=n), **{**asked, "mode": mode, "preset": preset, "n": n, "durability": durability}
    )


def _mode_and_preset(wanted: NamespaceWish) -> tuple[str, str]:
    for what, value, known in (("preset", wanted.preset, MODE_OF_PRESET), ("mode", wanted.mode, PRESET_OF_MODE)):
        if value and value not in known:
            raise BadRequest(f"{what} {value!r} is not known; there are {', '.join(known)}", subject=what)
    preset = wanted.preset or PRESET_OF_MODE[wanted.mode or EVENTUAL]
    mode = wanted.mode or MODE_OF_PRESET[preset]
    if MODE_OF_PRESET[preset] != mode:
        fitting = [name for name, of in MODE_OF_PRESET.items() if of == mode]
        raise WrongMode(
            f"preset {preset!r} is of mode {MODE_OF_PRESET[preset]!r}, not of {mode!r}: "
            f"say {' or '.join(fitting)}, or leave one away",
            subject="preset",
        )
    return mode, preset


def _check_policy(wanted: NamespaceWish, mode: str) -> None:
    policy = wanted.policy or POLICIES[0]
    if policy == "merge":
        raise BadRequest(
            'a merge function is code, which nodes get with their configuration: say policy = "merge" in '
            f"[cluster.namespaces.{wanted.name}] of every node.toml",
            subject="policy",
        )
    if policy not in POLICIES:
        raise BadRequest(f"policy {policy!r} is not known; there are {', '.join(POLICIES)}", subject="policy")
    if mode == LINEARIZABLE and policy != POLICIES[0]:
        raise WrongMode(f"policy {policy!r} is for concurrent writes, and a linearizable namespace has none", subject="policy")
    if policy == "counter" and wanted.ttl_ms:
        raise BadRequest("a counter does not expire: leave the time to live away", subject="ttl_ms")
