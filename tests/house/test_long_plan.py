"""The long run finds the Pythons of a machine, goes on where it stopped, and never counts what did not pass."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.house import long_run
from tests.house.long_plan import Part, Result, Stamps, digest_of, find_pythons, parts_of, read_report, tally, version_of

PART = Part(name="laws", target="tests/laws", tier="long")
PASSED = Result(passed=5, failed=0, skipped=1, seconds=2.5, ok=True)
JUNIT = '<testsuites><testsuite tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"/></testsuites>'


def make_python(place: Path, script: str) -> Path:
    """An executable file that stands for an interpreter."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)
    return place


def test_pythons_are_found_on_the_path_and_else_with_pyenv(tmp_path: Path) -> None:
    on_path = make_python(tmp_path / "bin" / "python3.11", "echo 3 11")
    make_python(tmp_path / ".pyenv/versions/3.12.1/bin/python", "echo 3 12")
    newest = make_python(tmp_path / ".pyenv/versions/3.12.9/bin/python", "echo 3 12")
    assert find_pythons(str(tmp_path / "bin"), tmp_path) == {(3, 11): on_path, (3, 12): newest}


def test_an_interpreter_that_does_not_start_or_is_another_version_is_passed_over(tmp_path: Path) -> None:
    make_python(tmp_path / "bin" / "python3.12", "exit 127")
    make_python(tmp_path / "bin" / "python3.13", "echo 3 9")
    kept = make_python(tmp_path / ".pyenv/versions/3.12.1/bin/python", "echo 3 12")
    assert find_pythons(str(tmp_path / "bin"), tmp_path) == {(3, 12): kept}


def test_the_running_interpreter_says_its_version() -> None:
    assert version_of(Path(sys.executable)) == sys.version_info[:2]
    assert version_of(Path(os.devnull)) is None


def test_parts_are_the_folders_with_tests_and_the_other_pythons(tmp_path: Path) -> None:
    for name in ("laws/test_a.py", "laws/deep/test_b.py", "cli/test_c.py", "bench/compare.py", "test_top.py"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).touch()
    parts = parts_of(tmp_path, (3, 11), [(3, 13), (3, 11)])
    assert [(part.name, part.tier, part.python) for part in parts] == [
        ("cli", "long", "own"),
        ("laws", "long", "own"),
        ("python-3.13", "quick", "3.13"),
    ]


def test_a_part_that_passed_is_not_run_again_until_a_source_changes(tmp_path: Path) -> None:
    source = tmp_path / "tests" / "test_a.py"
    source.parent.mkdir()
    source.write_text("1")
    Stamps(tmp_path / "stamps", digest_of(tmp_path)).write(PART, PASSED)
    assert Stamps(tmp_path / "stamps", digest_of(tmp_path)).read(PART) == replace(PASSED, resumed=True)
    source.write_text("2")
    assert Stamps(tmp_path / "stamps", digest_of(tmp_path)).read(PART) is None


def test_a_part_that_failed_leaves_no_stamp(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path, "digest")
    stamps.write(PART, replace(PASSED, ok=False))
    assert stamps.read(PART) is None


def test_a_damaged_stamp_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "laws.json").write_text("{")
    assert Stamps(tmp_path, "digest").read(PART) is None


def test_the_digest_sees_names_and_contents_but_not_what_runs_leave_behind(tmp_path: Path) -> None:
    source = tmp_path / "tests" / "a.py"
    source.parent.mkdir()
    source.write_text("1")
    before = digest_of(tmp_path)
    (tmp_path / "tests" / "__pycache__").mkdir()
    (tmp_path / "tests" / "__pycache__" / "a.pyc").write_text("x")
    assert digest_of(tmp_path) == before
    source.rename(source.with_name("b.py"))
    assert digest_of(tmp_path) != before


def test_counts_come_from_the_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(JUNIT.format(tests=10, failures=1, errors=1, skipped=3))
    assert read_report(report, seconds=1.0, ok=True) == Result(passed=5, failed=2, skipped=3, seconds=1.0, ok=False)


@pytest.mark.parametrize("text", [None, "", "<testsuites>"])
def test_a_run_that_wrote_no_whole_report_has_not_passed(tmp_path: Path, text: str | None) -> None:
    report = tmp_path / "report.xml"
    if text is not None:
        report.write_text(text)
    assert not read_report(report, seconds=1.0, ok=True).ok


def test_the_tally_names_failures_what_was_not_run_and_absent_pythons() -> None:
    failed = replace(PASSED, failed=2, ok=False)
    parts = {name: replace(PART, name=name) for name in ("laws", "cli", "api", "store")}
    results = {parts["laws"]: PASSED, parts["cli"]: failed, parts["api"]: None, parts["store"]: replace(PASSED, resumed=True)}
    lines = tally(results, [(3, 12)])
    assert [line.split() for line in lines[1:]] == [
        ["laws", "long", "5", "0", "1", "2"],
        ["cli", "long", "5", "2", "1", "2", "FAILED"],
        ["api", "long", "not", "run"],
        ["store", "long", "5", "0", "1", "2", "(earlier", "run)"],
        ["sum", "15", "2", "3", "8"],
        ["python", "3.12:", "not", "found", "on", "this", "machine,", "not", "run"],
    ]


def test_a_command_that_outlives_its_time_is_ended_with_all_it_started(tmp_path: Path) -> None:
    """The shell's child shares its session; it would still hold the pipe open if only the shell had been ended."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        code = long_run.run_bounded(["sh", "-c", f"exec 3>'{pipe}'; sleep 300 & wait"], env={}, seconds_max=0.5)
        assert code == 124
        os.set_blocking(reader, True)
        assert os.read(reader, 1) == b""
    finally:
        os.close(reader)


def test_a_command_within_its_time_gives_its_own_code() -> None:
    assert long_run.run_bounded(["sh", "-c", "exit $CODE"], env={"CODE": "7"}, seconds_max=60) == 7
