"""One split on one screen: what each setting does on each side, before, during and after. Pure; `kv chaos split` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvchaos.scenarios.figures import Figures, percentile
from kvchaos.scenarios.scenario import FAR, NEAR
from kvchaos.scenarios.stage import ColumnResult, Result

PICTURE = (
    "  n1 and its clients   ╳   n2 ── n3 and their clients",
    "  the side of one      ╳   the side of two",
)
HEAD = ("", "before", "side of two", "side of one", "afterwards")


def lines(result: Result) -> list[str]:
    """The picture of the split, a row a setting, and what became of what both sides wrote."""
    rows = [HEAD, *map(_row, result.columns)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    agreed = (
        "replicas did not agree again"
        if result.converged_s is None
        else f"replicas agreed {result.converged_s:.1f} s after healing"
    )
    broken = [f"{told.column}: {sentence}" for told in result.columns for sentence in (*told.verdict.broken, *told.verdict.lacking)]
    return [*PICTURE, "", *table, "", f"{agreed}; nothing acknowledged was lost" if not broken else agreed, *broken]


def _row(told: ColumnResult) -> tuple[str, ...]:
    return (
        told.column,
        _whole(told.before),
        _served(told.during[FAR]),
        _served(told.during[NEAR]) + ("" if not told.stale else ", may be old"),
        _whole(told.after),
    )


def _whole(sides: Mapping[str, Mapping[str, Figures]]) -> str:
    """Both sides together."""
    return _sentence([figures for kinds in sides.values() for figures in kinds.values()])


def _served(kinds: Mapping[str, Figures]) -> str:
    words = {kind: _sentence([figures]) for kind, figures in kinds.items()}
    if len({word.partition(" in ")[0] for word in words.values()}) == 1:
        return _sentence(list(kinds.values()))
    return ", ".join(f"{kind} {word}" for kind, word in words.items())


def _sentence(parts: Sequence[Figures]) -> str:
    count, ok = sum(part.count for part in parts), sum(part.ok for part in parts)
    if not count:
        return "-"
    if ok:
        half = sum(part.degraded for part in parts) * 2 > ok
        word = "served degraded" if half else "served"
        return word if ok == count else f"{word} {ok / count:.0%}"
    p99 = percentile([ms for part in parts for ms in part.refused_ms], 0.99)
    return "refused" if p99 is None else f"refused in {p99:.0f} ms"
