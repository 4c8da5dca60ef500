"""What is exported as EDN is what the history says: read back by a reader of its own."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvchaos.edn import edn, edn_lines, is_keyword
from kvchaos.history import Recorder
from tests.chaos.edn_reader import Keyword, read_edn
from tests.chaos.registers import atomic_history, history_of
from tests.chaos.test_sim_command import environment
from tests.house.repository import ROOT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def plain(value: Any) -> Any:
    """Keywords as their names."""
    if isinstance(value, Keyword):
        return value.name
    if isinstance(value, list):
        return list(map(plain, value))
    return {plain(key): plain(part) for key, part in value.items()} if isinstance(value, dict) else value


@given(JSON)
def test_whatever_json_can_say_is_read_back(value: Any) -> None:
    assert plain(read_edn(edn(value))) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nil"),
        ('say "a\\b"\n\t\x00é\U0001f600', '"say \\"a\\\\b\\"\\n\\t\\u0000é\U0001f600"'),
        ([1, [True, False]], "[1 [true false]]"),
        ({"after_ms": 1, "two words": 2, "n1->n2": 3}, '{:after_ms 1 "two words" 2 :n1->n2 3}'),
        (2**63 - 1, "9223372036854775807"),
        (2**63, "9223372036854775808N"),
        (float("inf"), "##Inf"),
        (0.5, "0.5"),
    ],
)
def test_how_each_kind_of_value_looks(value: Any, text: str) -> None:
    assert edn(value) == text


def test_what_no_history_can_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot hold a bytes"):
        edn(b"bytes")


@pytest.mark.parametrize(("name", "can"), [("read", True), ("two words", False), ("", False), ("a/b", False), ("1st", False)])
def test_what_can_be_a_keyword(name: str, can: bool) -> None:
    assert is_keyword(name) is can


def recorded() -> Recorder:
    recorder = Recorder(iter(range(100)).__next__, {"seed": 1})
    recorder.note(0, "invoke", "write", key="k1", value='a "quoted" one', node="n1")
    recorder.fault("partition", {"groups": [["n1"], ["n2", "n3"]], "phase": "begin"})
    recorder.note(0, "ok", "write", key="k1", value='a "quoted" one', version="ff")
    recorder.note(1, "invoke", "put_if_absent", key="k2", value=7)
    recorder.note(1, "fail", "put_if_absent", key="k2", value=7, mismatch=True)
    recorder.note(2, "invoke", "delete", key="k2")
    recorder.note(2, "info", "delete", key="k2")
    return recorder


def test_a_call_is_a_map_that_jepsen_reads() -> None:
    rows = [read_edn(line) for line in edn_lines(recorded().history)]
    assert rows[0] == {
        Keyword("index"): 0,
        Keyword("time"): 0,
        Keyword("process"): 0,
        Keyword("type"): Keyword("invoke"),
        Keyword("f"): Keyword("write"),
        Keyword("value"): ["k1", 'a "quoted" one'],
        Keyword("node"): "n1",
    }
    assert rows[1][Keyword("process")] == Keyword("nemesis")
    assert rows[1][Keyword("value")] == {Keyword("groups"): [["n1"], ["n2", "n3"]], Keyword("phase"): "begin"}
    assert (rows[3][Keyword("f")], rows[3][Keyword("value")]) == (Keyword("cas"), ["k2", [None, 7]])
    assert (rows[5][Keyword("f")], rows[5][Keyword("value")]) == (Keyword("write"), ["k2", None])


def test_one_key_has_bare_values_and_the_faults() -> None:
    rows = [read_edn(line) for line in edn_lines(recorded().history, key="k2")]
    assert [row[Keyword("process")] for row in rows] == [Keyword("nemesis"), 1, 1, 2, 2]
    assert rows[1][Keyword("value")] == [None, 7]


def kv(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kvclient.cli.main", "chaos", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60)


def test_the_commands_export_a_file_and_judge_it_again(tmp_path: Path) -> None:
    history = history_of(atomic_history(random.Random(1), operations=30, clients=3))
    path = tmp_path / "history.jsonl"
    history.write(path)
    done = kv("export", str(path), "--edn")
    assert done.returncode == 0, done.stderr
    assert [read_edn(line)[Keyword("index")] for line in done.stdout.splitlines()] == list(range(len(history.events)))
    assert kv("export", str(path)).returncode == 2, "which format?"
    assert kv("export", str(path), "--edn", "--key", "no such").returncode == 2
    judged = kv("check", str(path))
    assert (judged.returncode, judged.stdout) == (0, "30 calls, 0 violations\n"), judged.stderr


def test_a_file_that_breaks_its_promise_ends_8_and_one_that_is_no_history_2(tmp_path: Path) -> None:
    recorder = Recorder(iter(range(100)).__next__, {"promises": ["linearizable"]})
    recorder.note(0, "invoke", "read", key="k")
    recorder.note(0, "ok", "read", key="k", value="ghost")
    recorder.history.write(tmp_path / "history.jsonl")
    judged = kv("check", str(tmp_path / "history.jsonl"))
    assert judged.returncode == 8, judged.stderr
    assert "ghost was read, and nobody wrote it" in judged.stdout and "events 0, 1" in judged.stdout
    assert kv("check", str(tmp_path / "history.jsonl"), "--promise", "luck").returncode == 2
    (tmp_path / "other").write_text("no history\n")
    assert kv("check", str(tmp_path / "other")).returncode == 2
