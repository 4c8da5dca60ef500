"""The same seed gives the same run: twice in one process, and in processes that hash differently."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.house.repository import ROOT
from tests.simulation.scenarios import digest_of

SEEDS = range(1, 7)


def digests_in_a_process(hash_seed: str) -> list[str]:
    path = os.pathsep.join([str(ROOT), *(str(ROOT / folder) for folder in ("proto", "client", "chaos"))])
    command = [sys.executable, "-m", "tests.simulation.scenarios", *map(str, SEEDS)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=100)
    return done.stdout.split()[1::2]


def test_the_same_seed_gives_the_same_run_twice_in_one_process_and_other_seeds_other_runs() -> None:
    first = [digest_of(seed) for seed in SEEDS]
    assert [digest_of(seed) for seed in SEEDS] == first
    assert len(set(first)) == len(SEEDS)


@pytest.mark.long  # the quick tier has test_same_bytes.py
def test_the_same_seed_gives_the_same_run_in_processes_that_hash_differently() -> None:
    here = [digest_of(seed) for seed in SEEDS]
    assert digests_in_a_process("1") == here
    assert digests_in_a_process("4242") == here
