"""What of the dial a namespace can give: levels, conditions, sessions, sloppiness. Pure; called while a batch is planned, so that
what cannot be done is refused by name before anything is begun, and never ignored.

A level belongs to a mode (consistency.md, section 3). Reads and writes that carry a condition, or what a session has seen, say so
in columns of their own.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvproto.columns import EVENTUAL_LEVELS, LINEARIZABLE_LEVELS, Kind, Level, NamespaceInfo, OperationGroup, Sloppy
from kvproto.contexts import EXACT
from kvproto.errors import BadRequest, WrongMode

LINEARIZABLE = "linearizable"
OF_HOMES = frozenset((Level.ATOMIC, Level.ZONE_QUORUM))
"""Levels that mean certain home replicas: nobody else can answer for them."""


OF_READS = frozenset((Level.TIMELINE, Level.BOUNDED))
_EXACT = bytes((EXACT,))


def check_dial(info: NamespaceInfo, group: OperationGroup, others: Iterable[NamespaceInfo]) -> None:
    """Raises `WrongMode` for what the namespace's mode cannot give, naming one of `others` or a preset that can, and `BadRequest`
    for what nobody can."""
    plain = not (group.conditions or group.seen or group.sloppy or group.bound_ms)
    if plain and group.level <= Level.EXPLICIT and info.mode != LINEARIZABLE:
        return  # the usual case
    check_level(info, group.level, group.sloppy, group.bound_ms)
    if any(group.conditions) and info.mode != LINEARIZABLE:
        raise WrongMode(f"namespace {info.name!r} is {info.mode}: conditions need consensus; {_way(others)}", subject=info.name)
    if group.kind is not Kind.GET and group.level in OF_READS:
        raise BadRequest(f"level {_name(group.level)} is of reads: a write there needs consensus", subject="level")
    if info.mode == LINEARIZABLE and any(context[:1] == _EXACT for context in group.contexts):
        # Ignored, it would lose the update that it was given to protect.
        raise WrongMode(
            f"namespace {info.name!r} is linearizable and has no siblings, so no contexts: if_version=entry.version is the "
            "condition that nothing was written since",
            subject=info.name,
        )


def check_level(info: NamespaceInfo, level: Level, sloppy: Sloppy, bound_ms: int) -> None:
    """The same of the level alone: all that a scan has."""
    able = LINEARIZABLE_LEVELS if info.mode == LINEARIZABLE else EVENTUAL_LEVELS
    if level not in able:
        raise WrongMode(
            f"level {_name(level)} is none of namespace {info.name!r}, which is {info.mode}: there are {_names(able)}",
            subject=info.name,
        )
    if sloppy is not Sloppy.UNSPECIFIED and info.mode == LINEARIZABLE:
        raise WrongMode(f"namespace {info.name!r} is linearizable: nobody stands in for a home replica there", subject=info.name)
    if sloppy is Sloppy.YES and level in OF_HOMES:
        raise BadRequest(f"level {_name(level)} is of home replicas: nobody can stand in for them", subject="sloppy")
    if (level is Level.BOUNDED) != (bound_ms > 0):
        raise BadRequest("level bounded goes with a bound of at least 1 ms, and only that level does", subject="bound_ms")


def _way(others: Iterable[NamespaceInfo]) -> str:
    """Where to go instead."""
    able = sorted(other.name for other in others if other.mode == LINEARIZABLE)
    if able:
        return f"namespace {able[0]!r} has it"
    return 'preset = "pc-ec" in [cluster.namespaces.NAME] makes a namespace that has'


def _name(level: Level) -> str:
    return level.name.lower()


def _names(levels: Iterable[Level]) -> str:
    return ", ".join(_name(level) for level in sorted(levels) if level is not Level.EXPLICIT)
