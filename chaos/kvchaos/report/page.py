"""Writes the page: the templates of this package over a view of the evidence. The same files give the same bytes."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from kvchaos.report.evidence import Evidence, read_evidence
from kvchaos.report.palette import DARK, LIGHT
from kvchaos.report.views import view_of

NAME = "index.html"


def html_of(evidence: Evidence) -> str:
    """The page. What the evidence says is escaped; only the plots, escaped where they were drawn, are markup."""
    templates = Environment(
        loader=PackageLoader("kvchaos.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return templates.get_template("page.html").render(page=view_of(evidence), light=LIGHT, dark=DARK)


def write_page(folder: Path) -> Path:
    """Reads `folder` and writes `index.html` there. Raises `BadRequest` as `read_evidence` does."""
    path = folder / NAME
    # Half a character, which JSON can say and UTF-8 cannot, must not keep the page from being written.
    path.write_bytes(html_of(read_evidence(folder)).encode("utf-8", "backslashreplace"))
    return path
