"""The table of docs/consistency.md: what each preset and level is worth. `python -m kvclient.dial.page` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from kvclient.dial.advice import Advice, advise
from kvclient.dial.setting import LINEARIZABLE, Level, Setting

ROWS: tuple[tuple[str, Setting], ...] = (
    ("preset `pa-el`", Setting.of("pa-el")),
    ("preset `pa-ec`", Setting.of("pa-ec")),
    ("`r=1`, `w=1`", Setting.of("pa-ec", r=1, w=1)),
    ("`quorum`, strict", Setting.of("pa-ec", r=2, w=2)),
    ("`w=3`, `r=1`", Setting.of("pa-ec", r=1, w=3)),
    ("`atomic` reads, `quorum` writes", Setting.of("pa-ec", w=2, read=Level.ATOMIC)),
    ("preset `pc-ec`: `linearizable`", Setting.of("pc-ec")),
    ("preset `pc-el`: `timeline`", Setting.of("pc-el")),
    ("`bounded(ms)`", Setting.of("pc-el", read=Level.BOUNDED)),
)
HEAD = ("setting, n = 3", "promise", "one away", "two away", "disks a write survives", "round trips: write / read", "stale reads")


def table() -> list[str]:
    """The lines of the table."""
    rows = [HEAD, ("---",) * len(HEAD), *map(_cells, *zip(*ROWS, strict=True))]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def _cells(name: str, setting: Setting) -> tuple[str, ...]:
    advice = advise(setting)
    cost = advice.cost
    return (
        name,
        advice.promise.title,
        str(advice.away[1]),
        str(advice.away[2]),
        str(advice.survived_disks),
        f"{cost.write} / {cost.read}",
        next(_staleness(advice)),
    )


def _staleness(advice: Advice) -> Iterator[str]:
    setting = advice.setting
    if setting.mode == LINEARIZABLE:
        yield {Level.TIMELINE: "up to `timeline_bound_s`", Level.BOUNDED: "up to the bound"}.get(setting.read, "none")
    elif setting.r + setting.w <= setting.n:
        yield "yes"
    else:
        yield "where it says `degraded`" if setting.sloppy else "none"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
