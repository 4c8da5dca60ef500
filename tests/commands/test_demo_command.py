"""`kv demo`: every step is shown and checked, on a terminal and elsewhere, and nothing is left running."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.commands.demo_data import first_characters, in_chunks, named_characters
from tests.commands.conftest import is_alive

DEMO = (sys.executable, "-m", "kvstore.commands.demo", "--names", "3000", "--no-cut")
TIMEOUT_S = 90


def pids_in(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"pid (\d+)", text)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of the demo's own, to see what it leaves there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_demo_shows_and_checks_every_step_and_leaves_nothing(place: Path) -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout
    assert [line.split()[0] for line in text.splitlines() if re.match(r" \d  ", line)] == list("1234567")
    assert text.count("    $ kv ") == 7
    assert "3,000 of 3,000 equal, 0 missing, 0 different" in text
    assert "sibling 2: Grace was here" in text
    assert "✗" not in text
    assert "\x1b" not in text, "colours where there is no terminal"
    assert len(pids_in(text)) >= 4
    assert not [pid for pid in pids_in(text) if is_alive(pid)]
    assert list(place.iterdir()) == []


def test_an_interrupted_demo_leaves_nothing_either(place: Path) -> None:
    process = subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = ""
    while "Everything acknowledged" not in text:
        line = process.stdout.readline()
        assert line, text
        text += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert not [pid for pid in pids_in(text) if is_alive(pid)]
    assert list(place.iterdir()) == []


@pytest.mark.long
def test_on_a_terminal_no_line_is_wider_than_80_columns(place: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm-256color"}
    with subprocess.Popen(DEMO, stdout=follower, stderr=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                read = os.read(leader, 65_536)
            except OSError:  # the other end is closed
                break
            if not read:
                break
            shown += read
    os.close(leader)
    assert process.returncode == 0
    text = shown.decode()
    assert "\x1b[" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    assert [line for line in plain.splitlines() if len(line) > 80] == []


def test_the_data_is_the_unicode_database() -> None:
    names = dict(named_characters())
    assert len(names) > 130_000
    assert names["SNOWMAN"].decode() == "☃ U+2603 So"


def test_chunks_hold_every_name_once() -> None:
    names = first_characters(1_000)
    chunks = list(in_chunks(names, 300))
    assert [len(chunk) for chunk in chunks] == [300, 300, 300, 100]
    assert {name: value for chunk in chunks for name, value in chunk.items()} == names


@pytest.mark.long
@pytest.mark.timeout(240, func_only=True)
def test_it_ends_with_four_presets_through_one_cut_and_the_measured_table(place: Path, toxiproxy_server: Path) -> None:
    done = subprocess.run((*DEMO[:-1], "--cut"), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    screen = done.stdout.partition("$ kv chaos pacelc --split")[2]
    for preset in ("pa-el", "pa-ec", "pc-ec", "pc-el"):
        assert len(re.findall(rf"^    {preset} ", screen, re.MULTILINE)) == 2, screen
    assert "✓ every side did what its preset promises" in screen
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(place.iterdir()) == []
