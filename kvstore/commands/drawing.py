"""A latency picture for a terminal: a histogram per series, side by side, and their percentiles. Pure."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

EIGHTHS = " ▏▎▍▌▋▊▉█"
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
LABEL_WIDTH = 11
ROWS_MAX = 12


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of the sorted, non-empty values do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def draw_bar(share: float, width: int, *, blocks: bool = True) -> str:
    """A bar of `share` (0 to 1) of `width` columns, in eighths of a column; anything above nothing can be seen."""
    if share <= 0:
        return ""
    if not blocks:
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    return EIGHTHS[8] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def bucket_edges(fastest_ms: float, slowest_ms: float) -> list[float]:
    """Round upper edges in milliseconds, the first above the fastest, the last at or above the slowest; at most `ROWS_MAX`."""
    exponent = math.floor(math.log10(max(fastest_ms, 1e-3)))
    edges: list[float] = []
    while not edges or (edges[-1] < slowest_ms and len(edges) < ROWS_MAX):
        edges += [edge for step in STEPS if (edge := round(step * 10**exponent, 9)) > fastest_ms]
        exponent += 1
    end = bisect.bisect_left(edges, slowest_ms) + 1
    return edges[: min(end, ROWS_MAX)]


def draw_latencies(series: Mapping[str, Sequence[float]], *, width: int = 76, blocks: bool = True) -> list[str]:
    """Lines at most `width` columns wide: a title, a row per bucket, and a row per percentile. Latencies are seconds.

    Every series has at least one value. All share the buckets; bars are shares of their own series, so that the shapes compare.
    """
    ordered = {name: sorted(value * 1000 for value in values) for name, values in series.items()}
    column = (width - LABEL_WIDTH) // len(ordered)
    # The slowest few in a thousand would stretch the picture until nothing could be seen: they share the last row.
    slowest = max(percentile(values, PERCENTILES[-1]) for values in ordered.values())
    fastest = min(percentile(values, 100 - PERCENTILES[-1]) for values in ordered.values())
    edges = bucket_edges(fastest, slowest)
    counts = {name: _count(values, edges) for name, values in ordered.items()}
    lines = [("".ljust(LABEL_WIDTH) + "".join(name.ljust(column) for name in ordered)).rstrip()]
    for row, label in enumerate(_labels(edges, tail=any(count[-1] for count in counts.values()))):
        cells = (_cell(counts[name], row, column, blocks=blocks) for name in ordered)
        lines.append((label.rjust(LABEL_WIDTH - 2) + "  " + "".join(cells)).rstrip())
    for percent in PERCENTILES:
        cells = (f"{percentile(values, percent):.2f} ms".ljust(column) for values in ordered.values())
        lines.append((f"p{percent:g}".rjust(LABEL_WIDTH - 2) + "  " + "".join(cells)).rstrip())
    return lines


def _count(ordered: Sequence[float], edges: Sequence[float]) -> list[int]:
    below = [0, *(bisect.bisect_right(ordered, edge) for edge in edges), len(ordered)]
    return [upper - lower for lower, upper in pairwise(below)]


def _labels(edges: Sequence[float], *, tail: bool) -> list[str]:
    return [*(f"≤ {edge:g} ms" for edge in edges), *(["slower"] if tail else [])]


def _cell(counts: Sequence[int], row: int, column: int, *, blocks: bool) -> str:
    count = counts[row]
    figure = f" {count:,}" if count else ""
    longest = column - 2 - len(f" {max(counts):,}")
    return (draw_bar(count / max(counts), longest, blocks=blocks) + figure).ljust(column)
