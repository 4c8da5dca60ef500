"""The long run finds the Pythons of a machine, goes on where it stopped, and never counts what did not pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.house import long_run
from tests.house.long_plan import COVERED, Part, Result, Stamps, digest_of, find_pythons, parts_of, read_report, tally, version_of
from tests.house.repository import ROOT

PART = Part(name="laws", target="tests/laws", tier="long", group="laws")
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


def test_parts_are_the_folders_with_tests_the_files_of_slow_ones_and_the_other_pythons(tmp_path: Path) -> None:
    for name in ("laws/test_a.py", "laws/deep/test_b.py", "cli/test_c.py", "cli/test_d.py", "bench/compare.py", "test_top.py"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests" / name).touch()
    parts = parts_of(tmp_path, (3, 11), [(3, 13), (3, 11)])
    assert [(part.name, part.target, part.group, part.tier, part.python, part.dist) for part in parts] == [
        ("cli", "tests/cli", "cli", "long", "own", "loadfile"),
        ("laws-b", "tests/laws/deep/test_b.py", "laws", "long", "own", "load"),
        ("laws-a", "tests/laws/test_a.py", "laws", "long", "own", "load"),
        ("python-3.13", "tests", "python-3.13", "quick", "3.13", "loadfile"),
    ]
    assert [part.name for part in parts if part.covered] == ["laws-b", "laws-a"]


def test_the_parts_of_this_checkout_hold_every_test_file_and_cover_the_core() -> None:
    parts = parts_of(ROOT, (3, 11), [])
    for path in (ROOT / "tests").rglob("test_*.py"):
        name = str(path.relative_to(ROOT))
        assert sum(name == part.target or name.startswith(f"{part.target}/") for part in parts) == 1, name
    assert {part.group for part in parts if part.covered} == set(COVERED)


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
    cut_off = replace(PASSED, ok=False, passed=0, skipped=0, cut_off=True)
    parts = {name: replace(PART, name=name) for name in ("laws", "cli", "api", "store", "node")}
    results = {parts["laws"]: PASSED, parts["cli"]: failed, parts["api"]: None, parts["store"]: replace(PASSED, resumed=True)}
    results[parts["node"]] = cut_off
    lines = tally(results, [(3, 12)])
    assert [line.split() for line in lines[1:]] == [
        ["laws", "long", "5", "0", "1", "2"],
        ["cli", "long", "5", "2", "1", "2", "FAILED"],
        ["api", "long", "not", "run"],
        ["store", "long", "5", "0", "1", "2", "(earlier", "run)"],
        ["node", "long", "0", "0", "0", "2", "CUT", "OFF"],
        ["sum", "15", "2", "3", "10"],
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


RUN = """
import sys
from tests.house import long_run
long_run.end_on_sigterm()
print("ready", flush=True)
long_run.run_bounded(["sh", "-c", f"exec 3>'{sys.argv[1]}'; sleep 300 & wait"], env={}, seconds_max=300)
"""


def test_what_runs_ends_with_the_long_run_when_that_is_told_to_end(tmp_path: Path) -> None:
    """As before: the pipe is open as long as anything lives that was started."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen([sys.executable, "-c", RUN, str(pipe)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        with pipe.open("rb") as reader:  # waits for the shell to open its end
            process.terminate()
            assert reader.read() == b""
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


class Rehearsal:
    """The long run's `main` over parts that are played: what each was to be, and which were run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: Path, results: dict[str, Result]) -> None:
        self.results = results
        self.ran: list[str] = []
        self.checked: list[list[str]] = []
        self.covers = True
        parts = [replace(PART, name=name, group=name.partition("-")[0]) for name in results]
        monkeypatch.setattr(long_run, "CACHE", place)
        monkeypatch.setattr(long_run, "end_on_sigterm", lambda: None)
        monkeypatch.setattr(long_run, "parts_of", lambda *_: parts)
        monkeypatch.setattr(long_run, "find_pythons", lambda *_: {})
        monkeypatch.setattr(long_run, "run_part", self.run_part)
        monkeypatch.setattr(long_run, "check_coverage", self.check_coverage)
        self.monkeypatch = monkeypatch

    def run_part(self, part: Part, pythons: object, seconds_max: float) -> Result:
        self.ran.append(part.name)
        return self.results[part.name]

    def check_coverage(self, parts: list[Part]) -> bool:
        self.checked.append([part.name for part in parts])
        return self.covers

    def run(self, *arguments: str) -> int:
        self.ran.clear()
        self.monkeypatch.setattr(sys, "argv", ["long_run", *arguments])
        return long_run.main()


def test_a_second_run_goes_on_with_what_failed_or_was_cut_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsal = Rehearsal(
        monkeypatch, tmp_path, {"laws-a": PASSED, "laws-b": replace(PASSED, ok=False, cut_off=True), "cli": PASSED}
    )
    assert rehearsal.run() == 1
    assert "goes on with what is left" in capsys.readouterr().out
    rehearsal.results["laws-b"] = PASSED
    assert rehearsal.run() == 0
    assert rehearsal.ran == ["laws-b"]
    assert "(earlier run)" in capsys.readouterr().out
    assert rehearsal.run("--fresh") == 0
    assert rehearsal.ran == ["laws-a", "laws-b", "cli"]


def test_a_step_begins_nothing_after_its_time_and_says_that_there_is_more(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rehearsal = Rehearsal(monkeypatch, tmp_path, {"laws-a": PASSED, "cli": PASSED})
    assert rehearsal.run("--begin-minutes-max", "0.0000001") == 1
    assert rehearsal.ran == []
    assert "goes on with what is left" in capsys.readouterr().out


def test_the_cores_coverage_is_judged_once_all_that_covers_it_has_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rehearsal = Rehearsal(monkeypatch, tmp_path, {"laws-a": PASSED, "cli": PASSED, "core": PASSED})
    assert rehearsal.run("--only", "laws") == 0
    assert (rehearsal.ran, rehearsal.checked) == (["laws-a"], [])
    rehearsal.covers = False
    assert rehearsal.run() == 1
    assert (rehearsal.ran, rehearsal.checked) == (["cli", "core"], [["laws-a", "core"]])
