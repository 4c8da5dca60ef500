"""What makes a write conditional, as callers say it, and where that is possible: in linearizable namespaces.

A namespace that this client knows to be eventual is refused here, with the name of one or of a preset that can; of any other the
nodes decide.
"""

from __future__ import annotations

from kvclient.checks import value_bytes
from kvclient.errors import BadRequest, WrongMode
from kvproto.columns import VERSION_BYTES, ClusterInfo
from kvproto.conditions import ABSENT, INT64_MAX, INT64_MIN, between, value_is, version_is

LINEARIZABLE = "linearizable"


def condition_of(*, if_absent: bool = False, if_version: str | None = None) -> bytes:
    """The condition of a put, delete or touch; b"" if there is none. Raises `BadRequest` for two, or for what is no version."""
    if if_version is None:
        return ABSENT if if_absent else b""
    if if_absent:
        raise BadRequest("if_absent and if_version cannot both hold: give one of them", subject="if_version")
    return version_is(version_bytes(if_version))


def comparison(old: object) -> bytes:
    """The condition of a compare-and-set: `old` None is for "absent"."""
    return ABSENT if old is None else value_is(value_bytes(old))


def bounds(low: int | None, high: int | None) -> bytes:
    """The condition of an increment; b"" if it has no bounds."""
    if low is None and high is None:
        return b""
    lowest, highest = (_whole(low, "min", INT64_MIN), _whole(high, "max", INT64_MAX))
    if lowest > highest:
        raise BadRequest(f"nothing is between min={low} and max={high}", subject="min")
    return between(lowest, highest)


def version_bytes(version: object) -> bytes:
    """A version as it is sent: `.version` of an entry or a result, 40 hex digits."""
    try:
        found = bytes.fromhex(version) if isinstance(version, str) else b""
    except ValueError:
        found = b""
    if len(found) != VERSION_BYTES:
        way = "; for a key that has none there is if_absent=True" if version == "" else ""
        raise BadRequest(f"a version is the 40 hex digits of .version, not {version!r}{way}", subject="if_version")
    return found


def has_consensus(info: ClusterInfo, namespace: str) -> bool:
    """Whether the namespace is known to be linearizable."""
    return any(space.name == namespace and space.mode == LINEARIZABLE for space in info.namespaces)


def check_mode(info: ClusterInfo, namespace: str, what: str) -> None:
    """Raises `WrongMode` if `what` needs consensus and the namespace is known to have none."""
    modes = {space.name: space.mode for space in info.namespaces}
    if modes.get(namespace, LINEARIZABLE) == LINEARIZABLE:
        return
    able = sorted(name for name, mode in modes.items() if mode == LINEARIZABLE)
    where = f"namespace {able[0]!r} is one" if able else "none of this cluster's is; preset pc-ec makes one"
    raise WrongMode(f"{what} needs a linearizable namespace, {namespace!r} is {modes[namespace]}: {where}", subject=namespace)


def _whole(bound: object, name: str, default: int) -> int:
    if bound is None:
        return default
    if not isinstance(bound, int) or isinstance(bound, bool) or not INT64_MIN <= bound <= INT64_MAX:
        raise BadRequest(f"{name}={bound!r} is no whole number of 63 bits and a sign", subject=name)
    return bound
