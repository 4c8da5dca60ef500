"""Vector graphics for the page: matplotlib's SVG, made small and put into the page's own colours and letters.

Text stays text, coordinates keep one decimal, colours become the page's variables, and identifiers are the plot's own, so that many
plots fit into one page. The same input gives the same bytes: no date, no chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform

from kvchaos.report.palette import LIGHT

UNITS_AN_INCH = 72
"""SVG's own, so that what is drawn in display coordinates lands where the axes are."""
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kv chaos report",
    "font.family": ["sans-serif"],
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.labelsize": 12,
    "axes.edgecolor": LIGHT["faint"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": LIGHT["ink"],
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.color": LIGHT["faint"],
    "ytick.color": LIGHT["faint"],
    "text.color": LIGHT["ink"],
    # What a history says is never a formula.
    "text.parse_math": False,
    "figure.facecolor": "none",
    "figure.dpi": UNITS_AN_INCH,
    "savefig.dpi": UNITS_AN_INCH,
    "path.simplify": False,
}
_NOTHING_SAID = {"Date": None, "Creator": None, "Format": None, "Type": None}
_ATTRIBUTE = re.compile(r'(?<= )([\w:-]+)="([^"]*)"')
_DECIMALS = re.compile(r"(\d+\.\d)\d+")
_STEP = re.compile(r"\s*([A-Za-z])\s*")
_LEVEL = re.compile(r"M([-\d.]+) ([-\d.]+)L([-\d.]+) \2(?=[Mz]|$)")
_GROUP = re.compile(r"<g(?=[ >/])([^>]*)>\n?|</g>\n?")
_COLOUR = {colour: f"var(--{name})" for name, colour in LIGHT.items()}
_ANY_COLOUR = re.compile("|".join(_COLOUR))
_REFERENCE = re.compile(r"#([A-Za-z][\w.-]*)")


@contextmanager
def figure(width: int, height: int) -> Iterator[Figure]:
    """An empty figure, in the page's units; what is drawn on it has to be finished (`svg_of`) inside."""
    with mpl.rc_context(SETTINGS):
        yield Figure(figsize=(width / UNITS_AN_INCH, height / UNITS_AN_INCH), dpi=UNITS_AN_INCH)


def svg_of(drawn: Figure, *, id: str, title: str, description: str) -> str:
    """The plot as an element for the page, with its title and text alternative; `id` is unique in the page."""
    text = StringIO()
    FigureCanvasSVG(drawn)
    drawn.savefig(text, format="svg", metadata=_NOTHING_SAID)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # Its rules would hold for the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    used = set(_REFERENCE.findall(" ".join(value for _, value in _ATTRIBUTE.findall(svg) if "#" in value)))
    svg = _ATTRIBUTE.sub(lambda found: _attribute(found[1], found[2], id, used), svg)
    svg = _without_bare_groups(re.sub(r"\s*\n\s*", "\n", svg))
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    head = (
        f'<svg {box[0]} role="img" aria-labelledby="{id}-t {id}-d">'
        f'<title id="{id}-t">{escape(title)}</title><desc id="{id}-d">{escape(description)}</desc>'
    )
    return head + svg[svg.index(">") + 1 :].strip()


def _attribute(name: str, value: str, id: str, used: set[str]) -> str:
    if name.startswith("xmlns") or name == "version":
        return ""
    if name == "id":
        return f'id="{id}-{value}"' if value in used else ""
    if name == "xlink:href":
        return f'href="#{id}-{value[1:]}"'
    if "url(#" in value:
        value = value.replace("url(#", f"url(#{id}-")
    if name in ("style", "fill", "stroke"):
        # Letters are the page's; the browser has no "DejaVu Sans".
        value = re.sub(r"font-family:[^;]*;? ?", "", value)
        value = _ANY_COLOUR.sub(lambda found: _COLOUR[found[0]], value)
    if name != "viewBox":
        value = _DECIMALS.sub(r"\1", value)
    if name == "d":
        value = _LEVEL.sub(r"M\1 \2H\3", _STEP.sub(r"\1", value))
    return f'{name}="{value}"'


def _without_bare_groups(svg: str) -> str:
    """Groups that say nothing are a third of what matplotlib writes."""
    bare: list[bool] = []

    def keep(found: re.Match[str]) -> str:
        if found[0].startswith("</"):
            return "" if bare.pop() else found[0]
        if found[1].endswith("/"):
            return ""
        bare.append(found[1].strip() == "")
        return "" if bare[-1] else found[0]

    return _GROUP.sub(keep, svg)


def name_axes(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Titles and labels where they always stand: to find a place, matplotlib would measure every letter, a third of its time."""
    whole = axes.figure
    box = axes.get_position()
    across = (box.x0 + box.x1) / 2
    axes.set_title(title, y=1.0)
    axes.set_xlabel(x)
    axes.xaxis.set_label_coords(across, box.y0 - 18 / whole.bbox.height, transform=whole.transFigure)
    axes.set_ylabel(y)
    axes.yaxis.set_label_coords(15 / whole.bbox.width, (box.y0 + box.y1) / 2, transform=whole.transFigure)


def marks(axes: Axes, xs: Sequence[float], ys: Sequence[float], *, shape: str, colour: str, size: float = 3.4) -> None:
    """One mark for each pair, as one path: `shape` is dot, square or cross. The limits of the axes have to stand already."""
    if not len(xs):
        return
    points = np.unique(np.round(axes.transData.transform(np.column_stack([xs, ys])) * 2) / 2, axis=0)
    half = size / 2
    if shape == "cross":
        half = size * 0.75
        steps = [(-half, -half), (half, half), (-half, half), (half, -half)]
        width, cap = 1.3, "butt"
    else:
        steps = [(0.0, 0.0), (0.01, 0.0)] if shape == "dot" else [(-half, 0.0), (half, 0.0)]
        width, cap = size, "round" if shape == "dot" else "butt"
    vertices = (points[:, None, :] + np.array(steps)[None, :, :]).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(vertices) // 2)
    _strokes(axes, Path(vertices, codes), colour, width, cap)


def bars(axes: Axes, rows: Sequence[tuple[float, float, float]], *, colour: str, width: float) -> None:
    """Horizontal strokes (x from, x to, y), as one path, each at least a unit long."""
    if not rows:
        return
    begins = axes.transData.transform([(begin, y) for begin, _, y in rows])
    ends = axes.transData.transform([(end, y) for _, end, y in rows])
    ends[:, 0] = np.maximum(ends[:, 0], begins[:, 0] + 1.0)
    vertices = np.stack([begins, ends], axis=1).reshape(-1, 2)
    _strokes(axes, Path(vertices, np.tile([Path.MOVETO, Path.LINETO], len(rows))), colour, width, "butt")


def _strokes(axes: Axes, path: Path, colour: str, width: float, cap: Any) -> None:
    axes.add_patch(
        PathPatch(
            path, fill=False, edgecolor=LIGHT[colour], linewidth=width, capstyle=cap, transform=IdentityTransform(), clip_on=False
        )
    )
