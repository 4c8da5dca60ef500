"""The documentation holds what the code refers to: papers by venue and year, pages by path; and the changelog begins as agreed."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.repository import PACKAGES, ROOT, files, text_of

VENUE = re.compile(r"\b(?:SOSP|OSDI|NSDI|PODC|VLDB|DSN|SRDS|STOC|ICDCS|OPODIS|PDIS|DAIS|CRYPTO|ATC|SoCC)'\d\d\b")
DECISION = re.compile(r"\bADR (\d+)\b")
PAGE = re.compile(r"\bdocs/[\w/-]+\.md\b")


def sources() -> list[tuple[Path, str]]:
    """Our code and wire files with their texts."""
    ours = [home / name for name, home in PACKAGES.items()]
    texts = ((path, text_of(path)) for path in files() if path.suffix in {".py", ".proto"})
    return [(path, text) for path, text in texts if text is not None and any(path.is_relative_to(folder) for folder in ours)]


def test_every_paper_that_the_code_cites_is_listed() -> None:
    listed = set(VENUE.findall((ROOT / "docs" / "papers.md").read_text(encoding="utf-8")))
    cited = {venue: path.name for path, text in sources() for venue in VENUE.findall(text)}
    assert cited, "the search finds no citation at all"
    assert {venue: where for venue, where in cited.items() if venue not in listed} == {}


def test_every_page_that_the_code_refers_to_exists() -> None:
    named = {page: path.name for path, text in sources() for page in PAGE.findall(text)}
    assert {page: where for page, where in named.items() if not (ROOT / page).is_file()} == {}


def test_the_changelog_has_unreleased_on_top() -> None:
    page = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE)[0] == "Unreleased"


def test_each_decision_has_a_number_of_its_own_and_those_that_are_referred_to_exist() -> None:
    """Numbers may have gaps: they are given out while several decisions are being worked on."""
    numbers = [int(path.name[:4]) for path in (ROOT / "docs" / "adr").glob("*.md")]
    assert len(set(numbers)) == len(numbers)
    pages = [
        (path, path.read_text(encoding="utf-8")) for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts
    ]
    named = {int(number): path.name for path, text in [*sources(), *pages] for number in DECISION.findall(text)}
    assert named, "the search finds no reference at all"
    assert {number: where for number, where in named.items() if number not in numbers} == {}
