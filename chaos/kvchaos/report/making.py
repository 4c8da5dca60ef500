"""What commands call: the page of a folder, and a clear word where the extra that makes it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from kvclient.cli.output import note
from kvproto.errors import UserError

NEEDED = ("matplotlib", "jinja2")
HOW_TO_GET_IT = "pip install 'kvstore-chaos[report]'"


def missing() -> str:
    """What keeps a page from being made, as a sentence; "" for nothing."""
    absent = [name for name in NEEDED if find_spec(name) is None]
    return f"the page needs {' and '.join(absent)}: {HOW_TO_GET_IT}" if absent else ""


def make_page(folder: Path) -> Path:
    """`index.html` in `folder`. Raises `UserError` where the extra is missing, or `folder` holds no results that can be read."""
    if said := missing():
        raise UserError(said, subject="report")
    from kvchaos.report.page import write_page

    return write_page(folder)


def make_page_beside(folder: Path) -> None:
    """The page of results that were just kept there. Says on stderr where it is, or why there is none: a run is worth as much
    without it."""
    try:
        note(f"page: {make_page(folder)}")
    except UserError as error:
        note(f"no page: {error.message}")
