"""Histories are written and read line by line, and calls are paired by process."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from kvchaos.history import NEMESIS, Recorder, calls_of, read_history, reads_of, writes_of


def recorded() -> Recorder:
    clock = iter(range(0, 1000, 10))
    recorder = Recorder(lambda: next(clock), {"seed": 7})
    recorder.note(1, "invoke", "write", key="k", value="a", node="n2", write="a", knew=["z"], overwrites=True)
    recorder.fault("cut", {"source": "n1", "target": "n2"})
    recorder.note(2, "invoke", "read", key="k")
    recorder.note(1, "ok", "write", key="k", value="a", version="07")
    recorder.note(2, "ok", "read", key="k", value="a", siblings=["a"], context="01")
    recorder.note(1, "invoke", "delete", key="k", write="d")
    recorder.note(1, "info", "delete", key="k", error="no answer")
    return recorder


def test_a_file_holds_what_was_recorded(tmp_path: Path) -> None:
    history = recorded().history
    history.write(tmp_path / "history.jsonl")
    again = read_history(tmp_path / "history.jsonl")
    assert again == history
    first, second, third = (tmp_path / "history.jsonl").read_text().splitlines()[:3]
    assert json.loads(first) == {"header": {"seed": 7}}
    row = json.loads(second)
    assert {name: row[name] for name in ("index", "time", "process", "type", "f", "key", "value", "node")} == {
        "index": 0,
        "time": 0,
        "process": 1,
        "type": "invoke",
        "f": "write",
        "key": "k",
        "value": "a",
        "node": "n2",
    }
    assert json.loads(third)["process"] == NEMESIS


def test_calls_are_paired_by_process_and_faults_are_left_out() -> None:
    calls = calls_of(recorded().history.events)
    assert [(call.f, call.began_ns, call.ended_ns) for call in calls] == [
        ("write", 0, 30),
        ("read", 20, 40),
        ("delete", 50, float("inf")),
    ]
    assert [call.write for call in writes_of(calls)] == ["a", "d"]
    assert (calls[0].knew, calls[0].overwrites, calls[0].fact("version")) == (frozenset({"z"}), True, "07")
    assert [call.siblings for call in reads_of(calls)] == [("a",)]


def test_a_call_inside_another_of_the_same_process_is_refused() -> None:
    recorder = recorded()
    recorder.note(5, "invoke", "read", key="k")
    recorder.note(5, "invoke", "read", key="k")
    with pytest.raises(ValueError, match="process 5 has a call open"):
        calls_of(recorder.history.events)


def test_an_end_without_a_beginning_is_refused() -> None:
    recorder = recorded()
    recorder.note(9, "ok", "read", key="k")
    with pytest.raises(ValueError, match="process 9 has no read open"):
        calls_of(recorder.history.events)


def test_a_line_that_is_no_event_is_named() -> None:
    with pytest.raises(ValueError, match="line 2: an event without 'time'"):
        read_history(io.StringIO('{"header": {}}\n{"index": 0}\n'))
