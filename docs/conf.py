"""Sphinx: Markdown through MyST, the furo theme, no network. `make check` builds with warnings as errors."""

from __future__ import annotations

import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

project = "kvstore"
author = "the kvstore authors"
release = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
version = release

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
# Headings down to the third level can be linked to.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"kvstore {release}"
html_show_copyright = False
