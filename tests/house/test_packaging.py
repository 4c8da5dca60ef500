"""The four distributions agree with each other, with the development requirements and with what the packages say of themselves."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.house.repository import DISTRIBUTIONS, PACKAGES, ROOT, files, text_of

INSTALLS_A_LIST = re.compile(r"""\binstall\b.*[\s"']-r[\s"']""")


def project(folder: Path) -> dict[str, Any]:
    """The [project] table of a distribution."""
    table: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def dependencies(folder: Path) -> list[Requirement]:
    """Every dependency of a distribution, those of its extras included."""
    table = project(folder)
    extras: dict[str, list[str]] = table.get("optional-dependencies", {})
    return [Requirement(line) for line in [*table["dependencies"], *(line for lines in extras.values() for line in lines)]]


def development_requirements() -> dict[str, Requirement]:
    """requirements-dev.in by name."""
    lines = (ROOT / "requirements-dev.in").read_text(encoding="utf-8").splitlines()
    stated = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {requirement.name: requirement for requirement in stated}


def pins(path: str) -> list[str]:
    """The entries of a list of pins, each with its hashes."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return [entry for entry in re.split(r"\n(?=[a-z0-9])", text) if not entry.startswith("#")]


VERSIONS = {name: project(folder)["version"] for name, folder in DISTRIBUTIONS.items()}


def test_the_four_distributions_have_one_version() -> None:
    assert len(set(VERSIONS.values())) == 1, VERSIONS


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_is_called_by_its_name_and_needs_python_3_11(name: str) -> None:
    table = project(DISTRIBUTIONS[name])
    assert (table["name"], table["requires-python"], table["license"]) == (name, ">=3.11", "Apache-2.0")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_ask_for_each_other_at_their_own_version(name: str) -> None:
    ours = [requirement for requirement in dependencies(DISTRIBUTIONS[name]) if requirement.name in DISTRIBUTIONS]
    assert [str(requirement.specifier) for requirement in ours] == [f"=={VERSIONS[name]}"] * len(ours)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_development_requirements_hold_every_dependency_as_it_is_stated(name: str) -> None:
    stated = development_requirements()
    for needed in dependencies(DISTRIBUTIONS[name]):
        if needed.name not in DISTRIBUTIONS:
            assert needed.name in stated, f"{needed.name} is missing in requirements-dev.in"
            assert str(stated[needed.name]) == str(needed)


@pytest.mark.parametrize("name", ["kvstore", "kvclient"])
def test_a_package_says_the_version_of_its_distribution(name: str) -> None:
    assert importlib.import_module(name).__version__ == VERSIONS["kvstore-server"]


@pytest.mark.parametrize("path", ["requirements-dev.txt", "proto/requirements-generate.txt"])
def test_every_requirement_of_a_list_is_pinned_with_hashes(path: str) -> None:
    assert [entry.split()[0] for entry in pins(path) if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_every_development_requirement_is_pinned() -> None:
    pinned = {re.split(r"[=<>\[; ]", entry, maxsplit=1)[0] for entry in pins("requirements-dev.txt")}
    assert set(development_requirements()) <= pinned


def installations() -> list[tuple[str, str]]:
    """Each line of a recipe or program by which pip installs a list of requirements, and the file that it stands in."""
    programs = [path for path in files() if path.suffix == ".py" or path.name == "Makefile" or path.parent.name == ".ci"]
    return [
        (str(path.relative_to(ROOT)), line)
        for path in programs
        for line in (text_of(path) or "").splitlines()
        if INSTALLS_A_LIST.search(line)
    ]


def test_bug_a_newer_release_of_a_package_named_with_an_extra_broke_the_installation() -> None:
    """`coverage[toml]` beside the pin of coverage: pip's resolver took the newest release, for which the list has no hash."""
    found = installations()
    assert [place for place, _ in found] == ["Makefile", "proto/generate.py"], "every list is installed by one of these"
    for place, line in found:
        assert "--require-hashes" in line and "--no-deps" in line, place


def test_the_pins_are_complete() -> None:
    """Nothing resolves what the list leaves out, so the environment that these tests run in would lack it."""
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def environment(version: str, platform: str, machine: str) -> dict[str, str]:
    """The markers of a machine."""
    return {"python_version": version, "sys_platform": platform, "platform_machine": machine}


@pytest.mark.parametrize(
    ("version", "platform", "machine", "expected"),
    [
        ("3.11", "linux", "x86_64", "plyvel"),
        ("3.12", "linux", "x86_64", "plyvel"),
        ("3.13", "linux", "x86_64", "plyvel-next"),
        ("3.12", "linux", "aarch64", "plyvel-next"),
        ("3.12", "darwin", "arm64", "plyvel-next"),
        ("3.13", "darwin", "arm64", "plyvel-next"),
    ],
)
def test_each_machine_gets_the_one_leveldb_binding_that_has_a_wheel_for_it(
    version: str, platform: str, machine: str, expected: str
) -> None:
    bindings = [requirement for requirement in dependencies(ROOT) if requirement.name.startswith("plyvel")]
    here = environment(version, platform, machine)
    assert [binding.name for binding in bindings if binding.marker is not None and binding.marker.evaluate(here)] == [expected]


def test_entry_points_name_modules_inside_their_own_distribution() -> None:
    for folder, package in ((ROOT, "kvstore"), (DISTRIBUTIONS["kvstore-client"], "kvclient")):
        table = project(folder)
        groups = [table.get("scripts", {}), *table.get("entry-points", {}).values()]
        for target in (value for group in groups for value in group.values()):
            module = target.partition(":")[0]
            assert module.split(".")[0] == package
            path = PACKAGES[package].joinpath(*module.split("."))
            assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), f"{target} does not exist"


def test_the_page_on_dependencies_names_exactly_what_is_needed() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| ([a-z0-9-]+) \|", page, re.MULTILINE)) - {"package", "---"} == set(development_requirements())
