"""The plot of staleness: the share of fresh reads by the time since the write, measured with its uncertainty, and predicted."""

from __future__ import annotations

from matplotlib.ticker import FuncFormatter, MaxNLocator

from kvchaos.report.drawing import figure, name_axes, svg_of
from kvchaos.report.freshness import Freshness
from kvchaos.report.palette import LIGHT
from kvchaos.report.plots import WIDTH

STEPS = 60


def freshness_plot(found: Freshness, *, id: str, title: str) -> str:
    """Measured as dots with bars of 95 %, predicted as lines."""
    span_ms = 2 * found.rtt_ms
    at_ms = [span_ms * step / STEPS for step in range(STEPS + 1)]
    with figure(WIDTH, 250) as drawn:
        axes = drawn.add_axes((0.15, 0.19, 0.82, 0.69))
        name_axes(axes, title=title, x="time since the write was acknowledged (ms)", y="fresh reads (%)")
        axes.set_xlim(0, span_ms)
        axes.set_ylim(0, 1.03)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.plot(at_ms, found.predicted(at_ms, spread=0.0), color=LIGHT["refused"], linewidth=1.6)
        axes.plot(at_ms, found.predicted(at_ms, spread=1.0), color=LIGHT["unknown"], linewidth=1.6, linestyle="--")
        for each in found.bins:
            axes.plot([each.at_ms, each.at_ms], [each.low, each.high], color=LIGHT["ok"], linewidth=1.2)
            axes.plot([each.at_ms], [each.fresh], color=LIGHT["ok"], marker="o", markersize=5, clip_on=False, zorder=3)
        told = "; ".join(
            f"at {each.at_ms:.0f} ms {each.fresh:.0%} of {each.count} (predicted {each.predicted:.0%})" for each in found.bins
        )
        return svg_of(drawn, id=id, title=title, description=f"Share of fresh reads, measured: {told}.")
