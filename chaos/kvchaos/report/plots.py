"""The plots of a run: latency and rate of one side over time, and the operations that failed; faults are shaded behind them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from kvchaos.report.drawing import bars, figure, marks, name_axes, svg_of
from kvchaos.report.faults_told import Band
from kvchaos.report.palette import LIGHT
from kvchaos.report.series import Operation, Outcome, rates
from kvchaos.scenarios.figures import READS, WRITTEN, percentile

WIDTH = 420
BIN_S = 0.5
"""At most."""
SHAPES = {Outcome.OK: "dot", Outcome.REFUSED: "square", Outcome.UNKNOWN: "cross"}
DASHES = {Outcome.OK: "-", Outcome.REFUSED: "--", Outcome.UNKNOWN: ":"}
LANES = tuple((side, kind) for side in ("near", "far") for kind in (READS, WRITTEN))


@dataclass(frozen=True, slots=True)
class Scale:
    """What all plots of a scenario share, so that they can be compared: the time, the latencies, and when something was wrong."""

    span_s: float
    low_ms: float
    high_ms: float
    bands: Sequence[Band]


def scale_of(operations: Sequence[Operation], bands: Sequence[Band]) -> Scale:
    """Wide enough for all of them."""
    took = [operation.took_ms for operation in operations if operation.took_ms is not None and operation.took_ms > 0]
    low, high = min(took, default=0.1), max(took, default=1000.0)
    span_s = max((operation.ended_s for operation in operations), default=1.0)
    return Scale(max(span_s, 1.0), 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high) + 1e-9), bands)


def side_plot(operations: Sequence[Operation], scale: Scale, *, id: str, title: str) -> str:
    """Latency of each operation of one side, and how many a second, above each other."""
    with figure(WIDTH, 310) as drawn:
        latency = drawn.add_axes((0.15, 0.5, 0.82, 0.42))
        rate = drawn.add_axes((0.15, 0.13, 0.82, 0.27))
        _times(latency, scale, named=True)
        _times(rate, scale)
        name_axes(latency, title=title, y="latency (ms, log)")
        name_axes(rate, x="time (s)", y="operations/s")
        latency.set_yscale("log")
        latency.set_ylim(scale.low_ms, scale.high_ms)
        powers = range(round(math.log10(scale.low_ms)), round(math.log10(scale.high_ms)) + 1)
        latency.yaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
        latency.yaxis.set_minor_locator(NullLocator())
        latency.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        latency.tick_params(labelbottom=False)
        # Bins of one width that end where the run ends: a part of one would look like a lull.
        bins = math.ceil(scale.span_s / BIN_S)
        counted = rates(operations, scale.span_s, bins)
        rate.set_ylim(0, max(1.0, *(max(row) for row in counted.values())) * 1.1)
        rate.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        for outcome in Outcome:
            told = [operation for operation in operations if operation.outcome is outcome and operation.took_ms]
            marks(
                latency,
                [operation.at_s for operation in told],
                [operation.took_ms or 0.0 for operation in told],
                shape=SHAPES[outcome],
                colour=outcome.value,
            )
            if any(counted[outcome]):
                at = [scale.span_s * index / bins for index in range(bins + 1)]
                rate.step(
                    at,
                    [*counted[outcome], counted[outcome][-1]],
                    where="post",
                    color=LIGHT[outcome.value],
                    linestyle=DASHES[outcome],
                    linewidth=1.6,
                )
        return svg_of(drawn, id=id, title=title, description=_told(operations, scale))


def failures_plot(failures: Sequence[Operation], scale: Scale, *, id: str, title: str) -> str:
    """When each of them was under way, in a lane for each side and kind: a process has one operation open at a time."""
    lanes = list(LANES)
    for failure in failures:
        if (failure.side, failure.kind) not in lanes:
            lanes.append((failure.side, failure.kind))
    with figure(WIDTH, 80 + 26 * len(lanes)) as drawn:
        bottom = 46 / (80 + 26 * len(lanes))
        axes = drawn.add_axes((0.245, bottom, 0.725, 1 - bottom - 0.13))
        _times(axes, scale)
        name_axes(axes, title=title, x="time (s)", y="side and kind")
        axes.set_ylim(len(lanes) - 0.4, -0.6)
        axes.yaxis.set_major_locator(FixedLocator(list(range(len(lanes)))))
        axes.set_yticklabels([f"{side}, {kind}" for side, kind in lanes])
        for outcome in Outcome:
            rows = [
                (failure.at_s, failure.ended_s, float(lanes.index((failure.side, failure.kind))))
                for failure in failures
                if failure.outcome is outcome
            ]
            bars(axes, rows, colour=outcome.value, width=12.0 if outcome is Outcome.REFUSED else 7.0)
        counts: dict[str, int] = {}
        for failure in failures:
            words = f"{failure.side} {failure.kind} {failure.outcome.value}"
            counts[words] = counts.get(words, 0) + 1
        told = "; ".join(f"{words}: {count}" for words, count in counts.items())
        return svg_of(drawn, id=id, title=title, description=f"{told}. {_faults(scale)}")


def _times(axes: Axes, scale: Scale, *, named: bool = False) -> None:
    """The shared axis of time, with the faults behind it."""
    axes.set_xlim(0, scale.span_s)
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    for band in scale.bands:
        end_s = scale.span_s if band.healed_s is None else band.healed_s
        lifting_s = end_s if band.lifting_s is None else band.lifting_s
        seen_s = lifting_s if band.seen_s is None else min(band.seen_s, lifting_s)
        for begin_s, to_s, colour in (
            (band.begun_s, seen_s, "fault-edge"),
            (seen_s, lifting_s, "fault"),
            (lifting_s, end_s, "fault-edge"),
        ):
            axes.axvspan(begin_s, to_s, color=LIGHT[colour], linewidth=0, zorder=0)
    if named and scale.bands and len({band.label for band in scale.bands}) == 1:
        first = scale.bands[0]
        axes.annotate(
            first.label[:24],
            (max(first.begun_s, 0.0), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -12),
            textcoords="offset points",
            color=LIGHT["faint"],
            fontsize=11,
        )


def _told(operations: Sequence[Operation], scale: Scale) -> str:
    """The plot in words."""
    told = []
    for outcome in Outcome:
        took = [operation.took_ms for operation in operations if operation.outcome is outcome and operation.took_ms is not None]
        count = sum(operation.outcome is outcome for operation in operations)
        half, most = percentile(took, 0.5), percentile(took, 0.99)
        told.append(
            f"{count} {outcome.value}" + ("" if half is None else f" (median {half:.1f} ms, 99th percentile {most:.1f} ms)")
        )
    return f"{', '.join(told)}, over {scale.span_s:.0f} s. {_faults(scale)}"


def _faults(scale: Scale) -> str:
    return "No fault." if not scale.bands else f"Fault: {'; '.join(band.sentence() for band in scale.bands)}."
