"""What is committed: nothing that ties it to one machine or one package index, and only the agreed entries at the top."""

from __future__ import annotations

import os
import re
import stat

import pytest

from tests.house.repository import DISTRIBUTIONS, PACKAGES, ROOT, files, text_of

# Put together here, so that this file does not name what it forbids.
_REGISTRY_HOSTS = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "proxy.golang" + ".org",
    "sum.golang" + ".org",
    "npmjs" + ".org",
    "registry.npm" + "js",
    "crates" + ".io",
    "conda.ana" + "conda.org",
)
_INDEX_OPTION = re.compile("--(extra-)?index" + "-url|" + "--find" + "-links|PIP_INDEX" + "_URL|UV_INDEX" + "_URL")
# A path of some machine: one of these folders at the root of its file system.
_MACHINE_PATH = re.compile(r"(?<![\w.$}~/-])/(?:" + "|".join(("work", "root", "home", "farm", "Users")) + r")/\w")

TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "Makefile",
    "LICENSE",
    "requirements-dev.in",
    "requirements-dev.txt",
    "kvstore",
    "proto",
    "client",
    "tests",
    "chaos",
    "docs",
}


def findings(text: str) -> list[str]:
    """What of `text` must not be committed."""
    found = [host for host in _REGISTRY_HOSTS if host in text]
    return found + [match.group() for pattern in (_INDEX_OPTION, _MACHINE_PATH) for match in pattern.finditer(text)]


@pytest.mark.parametrize(
    "bad",
    [
        "url = https://pypi" + ".org/simple",
        "files.python" + "hosted.org",
        "pip install --index" + "-url=x",
        "open('/" + "root/data')",
        "cd /" + "home/someone",
    ],
)
def test_the_search_finds_what_it_forbids(bad: str) -> None:
    assert findings(bad)


@pytest.mark.parametrize("good", ["docs/home/page", "~/work/file", "/tmp/data", "tests/root/x", "${HOME}/work/x"])
def test_the_search_lets_ordinary_paths_pass(good: str) -> None:
    assert not findings(good)


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = {str(path.relative_to(ROOT)): findings(text) for path in files() if (text := text_of(path)) is not None}
    assert {name: what for name, what in found.items() if what} == {}


def test_only_the_agreed_entries_stand_at_the_top() -> None:
    entries = {path.relative_to(ROOT).parts[0] for path in files()}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP_LEVEL


def test_the_ci_script_has_its_run_bit() -> None:
    assert os.stat(ROOT / ".ci" / "run").st_mode & stat.S_IXUSR


def test_every_package_says_that_it_is_typed() -> None:
    assert [name for name, home in PACKAGES.items() if not (home / name / "py.typed").is_file()] == []


def test_every_distribution_has_a_description_file() -> None:
    assert [name for name, home in DISTRIBUTIONS.items() if not (home / "pyproject.toml").is_file()] == []
