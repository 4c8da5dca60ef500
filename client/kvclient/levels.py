"""What a call may say about consistency: a level by name, a bound on staleness, and whether stand-ins count (consistency.md,
section 3). Pure; the cluster decides what a namespace can give, here only what cannot be meant at all is refused.

`target` reads them from a URL, `namespace` from its callers.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from kvclient.errors import BadRequest
from kvproto.columns import Level, Sloppy

LEVELS = {level.name.lower(): level for level in Level if level is not Level.EXPLICIT}
BOUND_MS_MAX = 86_400_000
OF_READS = frozenset((Level.TIMELINE, Level.BOUNDED))
"""Levels of linearizable namespaces that only reads have: a write there always needs consensus."""


@dataclass(slots=True, frozen=True)
class Bounded:
    """The level `bounded` with its bound: at most `ms` milliseconds stale."""

    ms: int


LevelLike = Level | Bounded | str
"""A level as a caller may give it."""


class Choice(NamedTuple):
    """What was chosen, as it is sent."""

    level: Level = Level.PRESET
    bound_ms: int = 0
    sloppy: Sloppy = Sloppy.UNSPECIFIED

    def for_writes(self) -> Choice:
        """The same as the default of a write: what only reads have is left to the preset, and the bound with it."""
        return Choice(Level.PRESET, 0, self.sloppy) if self.level in OF_READS else self


NO_CHOICE = Choice()
"""The namespace's preset, and nothing else."""


def bounded(ms: int) -> Bounded:
    """The level of reads that may be at most `ms` milliseconds stale (linearizable namespaces)."""
    return Bounded(_bound(ms))


def parse_level(level: LevelLike | None) -> Level:
    """The level a caller named. Raises `BadRequest` with the nearest name."""
    if level is None:
        return Level.PRESET
    if isinstance(level, Level):
        return level
    if isinstance(level, Bounded):
        return Level.BOUNDED
    if not isinstance(level, str):
        raise BadRequest(f"a level is one of {', '.join(LEVELS)}, not {level!r}", subject="level")
    found = LEVELS.get(level.lower().replace("-", "_"))
    if found is None:
        near = get_close_matches(level, tuple(LEVELS), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadRequest(f"level {level!r} is none of {', '.join(LEVELS)}{hint}", subject="level")
    return found


def choose(level: LevelLike | None, bound_ms: int | None, sloppy: bool | None, default: Choice) -> Choice:
    """What a call chooses: what it does not say is as in `default`. A bound alone means the level bounded.

    Raises `BadRequest` for a bound without that level, and that level without a bound.
    """
    stand_ins = default.sloppy if sloppy is None else tell_sloppy(sloppy)
    if level is None and bound_ms is None:
        return default._replace(sloppy=stand_ins)
    wanted = Level.BOUNDED if level is None else parse_level(level)
    bound = _bound(bound_ms) if bound_ms is not None else 0
    if isinstance(level, Bounded):
        if bound_ms is not None:
            raise BadRequest("the bound is given twice: in the level and as bound_ms", subject="bound_ms")
        bound = _bound(level.ms)
    if wanted is Level.BOUNDED and not bound and default.level is Level.BOUNDED:
        bound = default.bound_ms
    if (wanted is Level.BOUNDED) != (bound > 0):
        said = "level bounded needs a bound" if not bound else f"bound_ms goes with level bounded, not with {wanted.name.lower()}"
        raise BadRequest(f"{said}: level='bounded', bound_ms=50, or level=kvclient.bounded(50)", subject="bound_ms")
    return Choice(wanted, bound, stand_ins)


def tell_sloppy(sloppy: object) -> Sloppy:
    """True or False as it is sent."""
    if not isinstance(sloppy, bool):
        raise BadRequest(f"sloppy is True or False, not {sloppy!r}", subject="sloppy")
    return Sloppy.YES if sloppy else Sloppy.NO


def _bound(ms: object) -> int:
    if not isinstance(ms, int) or isinstance(ms, bool) or not 1 <= ms <= BOUND_MS_MAX:
        raise BadRequest(f"a bound is a whole number of milliseconds, from 1 to a day, not {ms!r}", subject="bound_ms")
    return ms
