"""What can be chosen: a mode, how many replicas, and for reads and writes a level. Everything else is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from kvproto.errors import BadRequest, WrongMode

EVENTUAL, LINEARIZABLE = "eventual", "linearizable"
PRESETS = {"pa-el": EVENTUAL, "pa-ec": EVENTUAL, "pc-ec": LINEARIZABLE, "pc-el": LINEARIZABLE}
"""Each preset's mode."""


class Level(StrEnum):
    """How an operation is asked for. `PRESET` is what a call without a level gets; `COUNT` goes with a number of replicas."""

    PRESET = "preset"
    COUNT = "count"
    ATOMIC = "atomic"
    LINEARIZABLE = "linearizable"
    TIMELINE = "timeline"
    BOUNDED = "bounded"


class Kept(StrEnum):
    """How a namespace keeps its records: on disks that were synced, in files that were written, or in memory alone."""

    SYNCED = "synced"
    UNSYNCED = "unsynced"
    MEMORY = "memory"


READ_LEVELS = {
    EVENTUAL: (Level.PRESET, Level.COUNT, Level.ATOMIC),
    LINEARIZABLE: (Level.PRESET, Level.LINEARIZABLE, Level.TIMELINE, Level.BOUNDED),
}
WRITE_LEVELS = {EVENTUAL: (Level.PRESET, Level.COUNT), LINEARIZABLE: (Level.PRESET, Level.LINEARIZABLE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One point of the dial: reads at one level, writes at one. `r` and `w` count replicas; of linearizable namespaces, and of
    `atomic` reads, they follow from n. `sloppy`: stand-ins may do, and with a preset fewer replicas. `kept` is the namespace's."""

    preset: str
    n: int
    read: Level
    write: Level
    r: int
    w: int
    sloppy: bool
    kept: Kept = Kept.SYNCED

    @property
    def mode(self) -> str:
        """`eventual` or `linearizable`."""
        return PRESETS[self.preset]

    @property
    def majority(self) -> int:
        """More than half of the replicas."""
        return self.n // 2 + 1

    @classmethod
    def of_preset(cls, preset: str, *, n: int = 3) -> Setting:
        """What a call without a level gets. Raises `BadRequest`."""
        return cls.of(preset, n=n)

    @classmethod
    def of(
        cls,
        preset: str = "pa-ec",
        *,
        n: int = 3,
        r: int | None = None,
        w: int | None = None,
        read: Level | None = None,
        sloppy: bool | None = None,
        kept: Kept = Kept.SYNCED,
    ) -> Setting:
        """`r` and `w` are replicas to wait for, exact as every explicit level is; None: what the preset asks for. Raises
        `BadRequest` for what is out of range or contradicts itself, `WrongMode` for a level that the preset's mode cannot give."""
        if preset not in PRESETS:
            raise BadRequest(f"no preset {preset!r}: there are {', '.join(PRESETS)}", subject="preset")
        if n < 1:
            raise BadRequest(f"n={n}: a key has at least one replica", actual=max(n, 0), limit=1, subject="n")
        mode = PRESETS[preset]
        if read is not None and read not in READ_LEVELS[mode]:
            able = " or ".join(sorted(name for name, its in PRESETS.items() if read in READ_LEVELS[its]))
            raise WrongMode(f"{read} reads need a namespace of preset {able}: {preset} is {mode}", subject=read)
        if mode == LINEARIZABLE and kept is not Kept.SYNCED:
            raise BadRequest(f"{preset} is linearizable: on disk, and synced, always", subject="storage")
        if mode == LINEARIZABLE:
            return cls._linearizable(preset, n, r, w, read, sloppy)
        usual = 1 if preset == "pa-el" else n // 2 + 1
        for name, asked in (("r", r), ("w", w)):
            if asked is not None and not 1 <= asked <= n:
                raise BadRequest(f"{name}={asked} is not between 1 and n={n}", limit=n, actual=max(asked, 0), subject=name)
        if read is Level.ATOMIC:
            if r is not None and r != n // 2 + 1:
                raise BadRequest(f"atomic reads hear a majority, {n // 2 + 1} of {n}: r={r} is something else", subject="r")
            if sloppy:
                raise BadRequest("atomic reads are of home replicas: they are never sloppy", subject="sloppy")
        elif read is None:
            read = Level.PRESET if r is None else Level.COUNT
        write = Level.PRESET if w is None else Level.COUNT
        exact = read is not Level.PRESET and write is not Level.PRESET
        if sloppy is None:
            sloppy = not exact
        return cls(
            preset=preset,
            n=n,
            read=read,
            write=write,
            r=(n // 2 + 1 if read is Level.ATOMIC else usual) if r is None else r,
            w=usual if w is None else w,
            sloppy=sloppy,
            kept=kept,
        )

    @classmethod
    def _linearizable(cls, preset: str, n: int, r: int | None, w: int | None, read: Level | None, sloppy: bool | None) -> Setting:
        for name, asked in (("r", r), ("w", w)):
            if asked is not None:
                raise WrongMode(f"{preset} decides by majorities: it takes no {name}={asked}, pa-el and pa-ec do", subject=name)
        if sloppy is not None:
            raise WrongMode(f"{preset} has no stand-ins to be sloppy with or not, pa-el and pa-ec have", subject="sloppy")
        majority = n // 2 + 1
        if read is None:
            read = Level.LINEARIZABLE if preset == "pc-ec" else Level.TIMELINE
        return cls(
            preset=preset,
            n=n,
            read=read,
            write=Level.LINEARIZABLE,
            r=majority if read is Level.LINEARIZABLE else 1,
            w=majority,
            sloppy=False,
        )


def settings(n: int = 3) -> Iterator[Setting]:
    """Every point of the dial for n replicas, each once."""
    seen: set[Setting] = set()
    for preset, mode in PRESETS.items():
        for setting in (_eventual if mode == EVENTUAL else _linearizable)(preset, n):
            if setting not in seen:
                seen.add(setting)
                yield setting


def _eventual(preset: str, n: int) -> Iterator[Setting]:
    counts = (None, *range(1, n + 1))
    for w in counts:
        yield Setting.of(preset, n=n, w=w, read=Level.ATOMIC)
        for r in counts:
            for sloppy in (None, False, True):
                yield Setting.of(preset, n=n, r=r, w=w, sloppy=sloppy)


def _linearizable(preset: str, n: int) -> Iterator[Setting]:
    for read in READ_LEVELS[LINEARIZABLE][1:]:
        yield Setting.of(preset, n=n, read=read)
