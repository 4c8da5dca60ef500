"""A schedule is the same run in every process, whatever Python's hashes are, with and without a bug planted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
from kvchaos.simulation.fleet import run_seed
from kvchaos.simulation.generate import generate
from kvchaos.simulation.report import explain
from kvchaos.simulation.run import run
for seed in range({first}, {last}):
    result = run_seed("swarm", None, seed)
    print(seed, result.digest, result.simulated_s, result.acknowledged)
bug = "ack-before-quorum"
report = explain(generate(2), run(generate(2), bug=bug).violations[0].promise, bug=bug, runs_max=20)
print(chr(10).join(line.text for line in report.lines))
"""


def printed(hash_seed: str, first: int, last: int) -> str:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(first=first, last=last)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    ).stdout


def test_runs_and_reports_are_the_same_bytes_in_processes_that_hash_differently() -> None:
    first = printed("1", 0, 3)
    assert len({line.split()[1] for line in first.splitlines()[:3]}) == 3, "seeds differ from each other"
    assert "planted bug: ack-before-quorum" in first
    assert printed("2", 0, 3) == first


@pytest.mark.long
def test_two_hundred_seeds_have_the_same_digests_in_two_processes() -> None:
    assert printed("3", 0, 200) == printed("4", 0, 200)
