"""Rows as text and as JSON. Pure: what a figure means is lines.py's, where it came from compare.py's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.lines import Row

HEADINGS = ("line", "kvstore", "other side", "ratio", "[spread]", "bar", "met", "native load tools: theirs | ours")


def render_table(rows: Sequence[Row], *, facts: Mapping[str, str], notes: Sequence[str]) -> str:
    """The table with aligned columns, then the facts of the run, then its notes; one string ending in a newline."""
    cells = [HEADINGS, *(row_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", *(f"{name}: {fact}" for name, fact in facts.items()), *(f"note: {note}" for note in notes), ""])


def row_cells(row: Row) -> tuple[str, ...]:
    """One row's texts, in the order of HEADINGS; "-" for what was not measured."""
    line = row.line
    other = figure_text(row.other, line.unit)
    spread = "-" if math.isnan(row.ratio) else f"[{row.ratio_min:.2f} to {row.ratio_max:.2f}]"
    return (
        line.title,
        figure_text(row.ours, line.unit),
        f"{line.other}: {other}",
        "-" if math.isnan(row.ratio) else f"{row.ratio:.2f}",
        spread,
        line.bar_text,
        row.verdict.value,
        native_text(row),
    )


def native_text(row: Row) -> str:
    """Both sides' load tools, if there was one; what could not be had is "-"."""
    native = row.native
    if math.isnan(native.ours) and math.isnan(native.other):
        return ""
    return f"{figure_text(native.other, '/s')} | {figure_text(native.ours, '/s')}"


def figure_text(figure: float, unit: str) -> str:
    """A figure with its unit: times with two places, all others as whole numbers with separators."""
    if math.isnan(figure):
        return "-"
    if math.isinf(figure):
        return "failed"
    if unit in {"ms", "s"}:
        return f"{figure:.2f} {unit}"
    return f"{figure:,.0f} {unit}".replace(" /s", "/s")


def report_json(rows: Sequence[Row], *, facts: Mapping[str, str], notes: Sequence[str]) -> dict[str, Any]:
    """The report for --json: every round's figures; null for what was not measured, "failed" for an endless latency."""
    return {
        "facts": dict(facts),
        "notes": list(notes),
        "lines": [
            {
                "name": row.line.name,
                "title": row.line.title,
                "unit": row.line.unit,
                "other": row.line.other,
                "bar": row.line.bar_text,
                "ours": [_plain(pair.ours) for pair in row.pairs],
                "theirs": [_plain(pair.other) for pair in row.pairs],
                "ratio": {"median": _plain(row.ratio), "min": _plain(row.ratio_min), "max": _plain(row.ratio_max)},
                "verdict": row.verdict.name.lower(),
                "native": {"ours": _plain(row.native.ours), "theirs": _plain(row.native.other)},
            }
            for row in rows
        ],
    }


def _plain(figure: float) -> float | str | None:
    # JSON has neither NaN nor infinity.
    if math.isnan(figure):
        return None
    return "failed" if math.isinf(figure) else figure
