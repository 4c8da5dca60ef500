"""Who could not run is told, and only that is no part of how long a call took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from kvchaos.checkers.resources import DEADLINES, check_deadlines
from kvchaos.history import HARNESS, Event, Recorder, calls_of
from kvchaos.stalls import STALL_S_MIN, Stalls, stood_still

PAUSED = """
import json, time
from kvchaos.history import Recorder
from kvchaos.stalls import Stalls, stood_still

recorder = Recorder(time.monotonic_ns)
with Stalls(recorder):
    print("ready", flush=True)
    input()
print(json.dumps([(over - begun) / 1e9 for begun, over in stood_still(recorder.history.events)]))
"""


def late_call(took_ms: int, stall: dict[str, int] | None) -> list[Event]:
    now_ns = [0]
    recorder = Recorder(lambda: now_ns[0])
    recorder.note(1, "invoke", "write", key="k", timeout_ms=2_000)
    now_ns[0] = took_ms * 1_000_000
    recorder.note(1, "ok", "write", key="k")
    if stall is not None:
        recorder.note(HARNESS, "info", "stall", value=stall)
    return recorder.history.events


def broken(events: list[Event]) -> list[str]:
    return [found.promise for found in check_deadlines(calls_of(events), events)]


def test_bug_a_machine_that_stood_still_was_taken_for_a_store_that_was_late() -> None:
    """1. A call is given 2 s. 2. The machine does not run the clients for 0.8 s. 3. Their call ends when they run again, and was
    called late, though they had nothing to end it with."""
    assert broken(late_call(2_750, None)) == [DEADLINES]
    assert broken(late_call(2_750, {"from_ns": 1_900_000_000, "to_ns": 2_700_000_000, "ran_ms": 1})) == []


def test_a_process_that_was_busy_itself_is_not_excused() -> None:
    assert broken(late_call(2_750, {"from_ns": 1_900_000_000, "to_ns": 2_700_000_000, "ran_ms": 700})) == [DEADLINES]


def test_only_what_falls_into_a_call_counts_for_it() -> None:
    assert broken(late_call(2_750, {"from_ns": 2_700_000_000, "to_ns": 3_500_000_000, "ran_ms": 1})) == [DEADLINES]


def test_a_process_that_is_paused_notices() -> None:
    with subprocess.Popen([sys.executable, "-c", PAUSED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        time.sleep(3 * STALL_S_MIN)
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate("\n")
    told = [float(word) for word in out.strip(" []\n").split(",")]
    assert sum(told) > 2 * STALL_S_MIN


def test_whoever_blocks_the_loop_and_nobody_else_is_no_stall() -> None:
    recorder = Recorder(time.monotonic_ns)
    with Stalls(recorder):
        time.sleep(3 * STALL_S_MIN)
    assert sum(over - begun for begun, over in stood_still(recorder.history.events)) / 1e9 < 2 * STALL_S_MIN
