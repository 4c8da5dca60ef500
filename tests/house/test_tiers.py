"""The suite's tiers: what each runs, and that an unknown one does not pass for a known one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.conftest import LONGEST_FIRST, longest_first, part_of
from tests.house.repository import ROOT

SUITE = """
import pytest
from hypothesis import settings

def test_examples():
    print("examples:", settings().max_examples)

@pytest.mark.long
def test_long():
    print("the long one ran")
"""


INTERRUPTED = """
import signal
import pytest

def test_interrupt():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
"""


def run_suite(folder: Path, tier: str, suite: str = SUITE, *options: str) -> subprocess.CompletedProcess[str]:
    """A suite of its own under our conftest, in a process of its own."""
    (folder / "test_suite.py").write_text(suite)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = long\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
    ]
    env = {"PATH": "", "PYTHONPATH": str(ROOT), "KV_TIER": tier, "HYPOTHESIS_STORAGE_DIRECTORY": str(folder)}
    return subprocess.run(
        [*command, *options, str(folder)], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_quick_tier_tries_100_examples_and_leaves_the_long_tests_out(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "quick")
    assert (done.returncode, "examples: 100" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "1 passed, 1 deselected" in done.stdout


def test_the_long_tier_tries_1000_examples_and_runs_the_long_tests(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "long")
    assert (done.returncode, "examples: 1000" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "the long one ran" in done.stdout


def test_an_unknown_tier_ends_the_run(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "thorough")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "quick, long" in done.stderr


def test_the_seconds_of_each_part_stand_at_the_end(tmp_path: Path) -> None:
    assert "seconds of each part (quick tier)" in run_suite(tmp_path, "quick").stdout


def test_files_that_take_long_come_first_then_those_with_most_tests() -> None:
    names = [
        "tests/a.py::test_1",
        "tests/b.py::test_2",
        "tests/b.py::test_1",
        *(f"tests/{name}::test" for name in LONGEST_FIRST[::-1]),
    ]
    items = [SimpleNamespace(nodeid=name) for name in names]
    ordered = [item.nodeid for item in longest_first(cast("list[pytest.Item]", items))]
    assert ordered == [*(f"tests/{name}::test" for name in LONGEST_FIRST), *names[1:3], names[0]]


def test_every_file_that_takes_long_is_there() -> None:
    assert [name for name in LONGEST_FIRST if not (ROOT / "tests" / name).is_file()] == []


def test_workers_begin_with_the_longest_files(tmp_path: Path) -> None:
    """And not with those that have the most tests, as xdist would by itself."""
    folder = tmp_path / "tests" / "simulation"
    folder.mkdir(parents=True)
    (tmp_path / "tests" / "test_first.py").write_text("def test_1(): ...\ndef test_2(): ...\n")
    (folder / "test_seeds.py").write_text("def test_1(): ...\n")
    done = run_suite(tmp_path, "quick", "def test_3(): ...\n", "-vv", "-n", "1", "--dist", "loadfile")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"PASSED\S* .*?(\w+\.py::\w+)", done.stdout)
    assert ran == ["test_seeds.py::test_1", "test_first.py::test_1", "test_first.py::test_2", "test_suite.py::test_3"]


def test_bug_tests_of_ctrl_c_hung_in_a_suite_that_was_started_in_the_background(tmp_path: Path) -> None:
    """A shell has such a process ignore SIGINT, which Python then leaves so: no KeyboardInterrupt ever came."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a child inherits what is ignored
    try:
        done = run_suite(tmp_path, "quick", INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("node_id", "part"),
    [
        ("tests/laws/test_merge.py::test_a", "laws"),
        ("tests/laws/deep/test_merge.py::test_a[x/y]", "laws"),
        ("tests/test_top.py::test_a", "tests"),
    ],
)
def test_a_test_belongs_to_its_folder_below_tests(node_id: str, part: str) -> None:
    assert part_of(node_id) == part
