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
PLANNED = frozenset((Level.ATOMIC, Level.ZONE_QUORUM))
"""Levels of eventual namespaces that this version does not have yet."""


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
    if any(group.seen) and info.mode != LINEARIZABLE:
        raise BadRequest(f"sessions in namespace {info.name!r} are not available yet in this version", subject="seen")


def check_level(info: NamespaceInfo, level: Level, sloppy: Sloppy, bound_ms: int) -> None:
    """The same of the level alone: all that a scan has."""
    able = LINEARIZABLE_LEVELS if info.mode == LINEARIZABLE else EVENTUAL_LEVELS - PLANNED
    if level in PLANNED and info.mode != LINEARIZABLE:
        raise BadRequest(f"level {_name(level)} is not available yet in this version; there are {_names(able)}", subject="level")
    if level not in able:
        raise WrongMode(
            f"level {_name(level)} is none of namespace {info.name!r}, which is {info.mode}: there are {_names(able)}",
            subject=info.name,
        )
    if sloppy is not Sloppy.UNSPECIFIED and info.mode == LINEARIZABLE:
        raise WrongMode(f"namespace {info.name!r} is linearizable: stand-ins never count there", subject=info.name)
    if sloppy is not Sloppy.UNSPECIFIED:
        raise BadRequest("sloppy= is not available yet in this version: presets are sloppy, other levels are not", subject="sloppy")
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
