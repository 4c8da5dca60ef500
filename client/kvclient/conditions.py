"""Conditional writes need consensus; where there is none they are refused with the name of a namespace or preset that has it."""

from __future__ import annotations

from kvclient.errors import UnknownNamespace, UnsupportedProtocol, WrongMode
from kvproto.columns import ClusterInfo

LINEARIZABLE = "linearizable"


def refuse_condition(info: ClusterInfo, namespace: str, condition: str) -> None:
    """Raises, always.

    `UnknownNamespace`; `WrongMode` in an eventual namespace; `UnsupportedProtocol` where the cluster is ahead of this client, since
    protocol 1 has no conditions.
    """
    modes = {space.name: space.mode for space in info.namespaces}
    if namespace not in modes:
        raise UnknownNamespace(f"no namespace {namespace!r}; there are {', '.join(sorted(modes)) or 'none'}", subject=namespace)
    if modes[namespace] == LINEARIZABLE:
        raise UnsupportedProtocol(f"{condition} needs a newer client: protocol 1 carries no conditions", subject=namespace)
    able = sorted(name for name, mode in modes.items() if mode == LINEARIZABLE)
    where = f"namespace {able[0]!r} is one" if able else "none of this cluster's is; preset pc-ec makes one"
    raise WrongMode(f"{condition} needs a linearizable namespace, {namespace!r} is {modes[namespace]}: {where}", subject=namespace)
