"""Every line of docs/consistency.md that says what the store does names the tests that show it, and those exist."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.house.repository import ROOT

PAGE = (ROOT / "docs" / "consistency.md").read_text(encoding="utf-8")
NODE_ID = re.compile(r"`(tests/[\w/]+\.py::\w+(?:\[[\w-]+\])?)`")
SHOWN_BY = "shown by"
COLLECT_TIMEOUT_S = 60.0


def test_every_test_that_the_page_names_exists() -> None:
    """pytest collects them by these very ids; it fails, naming them, if there are none to some."""
    named = sorted(set(NODE_ID.findall(PAGE)))
    assert len(named) >= 40 and len(named) == len(set(re.findall(r"`(tests/\S+?)`", PAGE))), "each in a form that is recognised"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n0", "-p", "no:cacheprovider", *named]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=COLLECT_TIMEOUT_S, check=False)
    assert done.returncode == 0, [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]


def test_every_row_names_a_test() -> None:
    """In the tables with a column for that; the others describe what can be asked for."""
    rows, is_shown = 0, False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            is_shown = False
        elif line.rstrip(" |").endswith(SHOWN_BY):
            is_shown = True
        elif is_shown and not line.startswith("| ---"):
            rows += 1
            assert NODE_ID.search(line.strip("| ").rpartition(" | ")[2]), line
    assert rows >= 30
