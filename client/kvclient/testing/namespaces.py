"""Namespaces made at run time in a fake store: what a wish gives, and what is refused, as at a node."""

from __future__ import annotations

from kvclient.checks import namespace_name
from kvclient.errors import BadRequest, NamespaceExists, WrongMode
from kvproto.columns import NamespaceInfo, NamespaceWish

MODE_OF_PRESET = {"pa-el": "eventual", "pa-ec": "eventual", "pc-ec": "linearizable", "pc-el": "linearizable"}
PRESET_OF_MODE = {"": "pa-ec", "eventual": "pa-ec", "linearizable": "pc-ec"}
POLICIES = ("siblings", "lww", "counter", "set", "map")
REPLICAS_MAX = 3
_SETTINGS = ("mode", "preset", "n_asked", "r", "w", "ttl_ms", "policy", "quota_operations_per_s", "quota_bytes_per_s")


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
    for what, value, safe in (("storage", wish.storage, "disk"), ("durability", wish.durability, "fsync")):
        if value not in ("", safe):
            raise BadRequest(f"{what} {value!r}: {safe} only", subject=what)
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
    )


def check_same(found: NamespaceInfo, wanted: NamespaceInfo) -> None:
    """Raises `NamespaceExists` naming what differs, if anything does."""
    pairs = [(name, getattr(found, name), getattr(wanted, name)) for name in _SETTINGS]
    differences = [f"{name} is {ours!r} and not {theirs!r}" for name, ours, theirs in pairs if ours != theirs]
    if differences:
        said = f"namespace {found.name!r} exists with other settings: {'; '.join(differences)}"
        raise NamespaceExists(said, subject=found.name)
