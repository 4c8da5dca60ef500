"""Namespaces made at run time in a fake store: what a wish gives, and what is refused, as at a node."""

from __future__ import annotations

from kvclient.checks import namespace_name
from kvclient.errors import BadRequest, NamespaceExists, TooLarge, WrongMode
from kvproto.columns import NamespaceInfo, NamespaceWish, OperationGroup

MODE_OF_PRESET = {"pa-el": "eventual", "pa-ec": "eventual", "pc-ec": "linearizable", "pc-el": "linearizable"}
PRESET_OF_MODE = {"": "pa-ec", "eventual": "pa-ec", "linearizable": "pc-ec"}
POLICIES = ("siblings", "lww", "counter", "set", "map")
REPLICAS_MAX = 3
_SETTINGS = ("mode", "preset", "n_asked", "r", "w", "ttl_ms", "policy", "quota_operations_per_s", "quota_bytes_per_s") + (
    "storage",
    "durability",
    "max_bytes",
    "value_bytes_max",
)
VALUE_BYTES_MAX = 1 << 20


def info_of(wish: NamespaceWish, number: int, nodes: int) -> NamespaceInfo:
    """What `wish` gives under the id `number`. Raises `BadRequest`, `WrongMode`."""
    name, replicas = namespace_name(wish.name), min(REPLICAS_MAX, nodes)
    if wish.mode not in PRESET_OF_MODE or wish.preset not in ("", *MODE_OF_PRESET):
        raise BadRequest(f"mode {wish.mode!r} or preset {wish.preset!r} is not known", subject="preset")
    preset = wish.preset or PRESET_OF_MODE[wish.mode]
    mode, policy = MODE_OF_PRESET[preset], wish.policy or "siblings"
    if wish.mode not in ("", mode):
        raise WrongMode(f"preset {preset!r} is of mode {mode!r}, not of {wish.mode!r}", subject="preset")
    if policy not in POLICIES:
        raise BadRequest(f"policy {policy!r} is none that is made at run time: {', '.join(POLICIES)}", subject="policy")
    if mode == "linearizable" and (policy != "siblings" or wish.r or wish.w):
        raise WrongMode(f"a linearizable namespace has no policy, r or w: {name!r}", subject="policy")
    storage = wish.storage or "disk"
    durability = wish.durability or ("none" if storage == "memory" else "fsync")
    _check_storage(mode, storage, durability, wish.max_bytes)
    if wish.value_bytes_max > VALUE_BYTES_MAX:
        raise BadRequest(f"value_bytes_max is {wish.value_bytes_max}, at most {VALUE_BYTES_MAX}", subject="value_bytes_max")
    n = wish.n or replicas
    for letter, count, most in (("n", n, replicas), ("r", wish.r, n), ("w", wish.w, n)):
        if not 0 <= count <= most:
            raise BadRequest(f"{letter}={count} is not between 1 and {most}", limit=most, actual=count, subject=letter)
    usual = 1 if preset == "pa-el" else n // 2 + 1
    return NamespaceInfo(
        number,
        name,
        mode,
        preset,
        n,
        n,
        wish.r or usual,
        wish.w or usual,
        wish.ttl_ms,
        policy,
        created=True,
        quota_operations_per_s=wish.quota_operations_per_s,
        quota_bytes_per_s=wish.quota_bytes_per_s,
        storage=storage,
        durability=durability,
        max_bytes=wish.max_bytes,
        value_bytes_max=wish.value_bytes_max,
    )


def _check_storage(mode: str, storage: str, durability: str, max_bytes: int) -> None:
    """As core/catalog/settings.py of the nodes: which cannot be beside the others."""
    wrong = {
        "storage": storage not in ("disk", "memory") or (mode == "linearizable" and storage != "disk"),
        "durability": (storage, durability) not in (("disk", "fsync"), ("disk", "os"), ("memory", "none"))
        or (mode == "linearizable" and durability != "fsync"),
        "max_bytes": (storage == "memory") != bool(max_bytes) or 0 < max_bytes < 1 << 20,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            said = f"storage {storage!r}, durability {durability!r}, max_bytes {max_bytes} and mode {mode} do not go together"
            raise BadRequest(said, subject=what)


def check_same(found: NamespaceInfo, wanted: NamespaceInfo) -> None:
    """Raises `NamespaceExists` naming what differs, if anything does."""
    pairs = [(name, getattr(found, name), getattr(wanted, name)) for name in _SETTINGS]
    differences = [f"{name} is {ours!r} and not {theirs!r}" for name, ours, theirs in pairs if ours != theirs]
    if differences:
        said = f"namespace {found.name!r} exists with other settings: {'; '.join(differences)}"
        raise NamespaceExists(said, subject=found.name)


def check_length(info: NamespaceInfo, group: OperationGroup, at: int) -> None:
    """Raises `TooLarge` for a value that is longer than the namespace's own limit."""
    limit = info.value_bytes_max
    if limit and group.values and len(group.values[at]) > limit:
        size = len(group.values[at])
        said = f"the value has {size} bytes, at most {limit} are allowed in namespace {info.name!r}"
        raise TooLarge(said, limit=limit, actual=size, subject="value")
