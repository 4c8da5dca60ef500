"""`kv sim` as a person or a program calls it: exit codes, what stands on stdout, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvchaos.simulation.bugs import BUGS
from kvchaos.simulation.command import Tally
from kvchaos.simulation.fleet import SeedResult
from kvchaos.simulation.scenarios import SCENARIOS
from kvchaos.simulation.schedule import from_json, to_json
from kvchaos.simulation.timeline import LINES_MAX
from tests.house.repository import ROOT
from tests.support.waiting import until

BUG = ("--bug", "ack-before-quorum")


def environment(hash_seed: str = "0") -> dict[str, str]:
    path = os.pathsep.join(part for part in sys.path if part)
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed}


def kv(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kvclient.cli.main", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(hash_seed), capture_output=True, text=True, check=False, timeout=100)


def test_seeds_that_hold_end_0_with_a_line_of_counts_and_the_rate_apart() -> None:
    done = kv("sim", "run", "--seeds", "3", "--from", "5")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"3 seeds: 3 held, 0 broke a promise, 0 inconclusive; [\d,]+ operations answered, \d+ s simulated\n", done.stdout
    )
    assert "seeds a minute" in done.stderr and "simulated seconds a second" in done.stderr


def test_a_planted_bug_is_found_shrunk_and_told_in_a_few_lines() -> None:
    """The same ones in every process: simulation/test_same_bytes.py."""
    found = kv("sim", "run", *BUG, hash_seed="4242")
    assert found.returncode == 8, found.stderr
    report, _, counts = found.stdout.rpartition("\n\n")
    assert "1 broke a promise" in counts
    assert report.startswith("BROKEN  ") and "acknowledged by" in report
    assert len(report.partition("again   ")[0].splitlines()) <= LINES_MAX
    assert str(ROOT) not in found.stdout and "\x1b" not in found.stdout
    command = re.search(r"^again   kv (.+)$", found.stdout, re.MULTILINE)
    assert command is not None
    replayed = kv(*command[1].split(), hash_seed="7")
    assert replayed.returncode == 8
    assert replayed.stdout.startswith(report), "the command replays what it stands under"


def test_a_shrunk_schedule_is_saved_and_replayed_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "small.json"
    found = kv("sim", "run", "--seed", "2", *BUG, "--save", str(file))
    assert found.returncode == 8
    assert len(from_json(file.read_text()).operations) < 5
    replayed = kv("sim", "run", "--schedule", str(file), *BUG)
    assert replayed.returncode == 8 and replayed.stdout.startswith("BROKEN")
    whole = kv("sim", "run", "--schedule", str(file))
    assert whole.returncode == 0 and whole.stdout.startswith("HELD"), "without the bug the store keeps its promise"


def test_a_bug_that_no_seed_shows_ends_9_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "quiet.json"
    file.write_text('{"seed": 1, "operations": [[0, 10, "get", "k", "w1"]]}')
    done = kv("sim", "run", "--schedule", str(file), *BUG)
    assert done.returncode == 9
    assert "the planted bug ack-before-quorum was not found in 1 seed" in done.stderr
    assert "not found" not in done.stdout


def test_json_is_an_object_a_seed_and_for_a_replay_its_events_before() -> None:
    many = [json.loads(line) for line in kv("-o", "json", "sim", "run", "--seeds", "2").stdout.splitlines()]
    assert [row["seed"] for row in many] == [0, 1]
    replay = kv("sim", "run", "--seed", "1", "-o", "json")
    *events, last = (json.loads(line) for line in replay.stdout.splitlines())
    assert last == many[1], "a seed is the same run alone and among others"
    assert {"seed", "verdict", "violations", "digest", "operations", "simulated_s"} <= last.keys()
    assert last["verdict"] == "held" and last["violations"] == []
    assert [event["index"] for event in events] == list(range(len(events)))
    assert {"invoke", "ok", "info"} <= {event["type"] for event in events}


def test_a_broken_seed_says_so_in_json() -> None:
    done = kv("sim", "run", "--seed", "2", *BUG, "-o", "json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["verdict"]) == (8, "broken")
    assert {"promise", "key", "text"} <= last["violations"][0].keys()


def test_a_run_in_which_too_little_was_answered_is_inconclusive(tmp_path: Path) -> None:
    file = tmp_path / "cut.json"
    cut = ", ".join(f'[0, "cut", {{"source": "c1", "target": "n{node}"}}, 0]' for node in (1, 2, 3))
    file.write_text(f'{{"seed": 1, "clients": 1, "faults": [{cut}], "operations": [[0, 50, "put", "k", "w1"]]}}')
    done = kv("sim", "run", "--schedule", str(file))
    assert done.returncode == 9, done.stdout
    assert "too few operations were answered" in done.stderr


@pytest.mark.parametrize(("inconclusive", "code"), [(1, 0), (2, 9)])
def test_a_few_inconclusive_seeds_among_many_are_allowed(inconclusive: int, code: int) -> None:
    tally = Tally()
    for seed in range(10):
        tally.add(SeedResult(seed, (), "", 1.0, 100, 4 if seed < inconclusive else 5))
    assert (tally.inconclusive, tally.code()) == (inconclusive, code)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--bug", "ack-befor-quorum"), "Did you mean 'ack-before-quorum'?"),
        (("--scenario", "calmm"), "Did you mean 'calm'?"),
        (("--scenario", "zzz"), "There are: "),
        (("--seed", "1", "--seeds", "2"), "--seeds and --seed exclude each other"),
        (("--full",), "--seed or --schedule"),
        (("--seeds", "0"), "0 is not in the range"),
        (("--schedule", "no-such-file"), "does not exist"),
    ],
)
def test_wrong_usage_is_refused_with_the_way_out(arguments: tuple[str, ...], said: str) -> None:
    done = kv("sim", "run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_bugs_and_scenarios_are_listed() -> None:
    for what, known in (("bugs", BUGS), ("scenarios", SCENARIOS)):
        listed = kv("sim", what).stdout.splitlines()
        assert {line.split()[0] for line in listed} == known.keys()


def test_an_interrupted_run_ends_130_and_leaves_no_processes() -> None:
    command = [sys.executable, "-m", "kvclient.cli.main", "-o", "json", "sim", "run", "--minutes", "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline(), "the first seed is done, so its processes run"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors

    def is_gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    asyncio.run(until(is_gone))


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_a_scenario_draws_schedules_that_can_be_written_down(name: str) -> None:
    schedule = SCENARIOS[name](3)
    assert schedule.scenario == name
    assert from_json(to_json(schedule)) == schedule == SCENARIOS[name](3)
