"""scan, load and dump: order, bounds, round trips, and going on after an interruption."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvclient.cli import load, progress_bar
from kvclient.cli.transfer_rows import Row, decode_row, encode_row
from kvproto.errors import DeadlineExceeded, QuorumUnreachable
from tests.cli.conftest import Kv, Stream
from tests.cli.fake_store import FakeClient


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "wall_clock_s", lambda: 1_000.0)


def _fill(store: FakeClient, values: dict[bytes, bytes]) -> None:
    for dot, (key, value) in enumerate(values.items()):
        store.default.cells[key] = {dot: (value, None)}


def _lines(*rows: Mapping[str, object]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def test_scan_prints_keys_in_order_within_its_bounds(kv: Kv, store: FakeClient) -> None:
    _fill(store, {b"b1": b"1", b"a": b"0", b"b3": b"3", b"b2": b"2", b"c": b"4"})
    assert kv("scan").text == "a\t0\nb1\t1\nb2\t2\nb3\t3\nc\t4\n"
    assert kv("scan", "b", "--limit", "2").text == "b1\t1\nb2\t2\n"
    assert kv("scan", "--start", "b2", "--end", "c").text == "b2\t2\nb3\t3\n"
    assert kv("scan", "-o", "raw", "c").stdout == b"4\n"
    assert [row["key"] for row in kv("scan", "b", "-o", "json").rows] == ["b1", "b2", "b3"]
    assert kv("scan", "nothing") == kv("scan", "zzz")
    assert kv("scan", "nothing").code == 0


def test_scan_shows_every_sibling(kv: Kv) -> None:
    kv("put", "cart", "apples")
    kv("put", "cart", "pears", "--context", "")
    scanned = kv("scan")
    assert (scanned.code, scanned.text) == (0, "cart\tapples\ncart\tpears\n")


def test_a_scan_that_breaks_leaves_what_came_before_and_says_why(kv: Kv, store: FakeClient) -> None:
    _fill(store, {b"a": b"1", b"b": b"2"})
    store.default.failing[b"scan"] = DeadlineExceeded("no page within 5 s")
    store.default.scan_breaks_after = 1
    scanned = kv("scan")
    assert (scanned.code, scanned.text, scanned.stderr) == (5, "a\t1\n", "kv: no page within 5 s\n")


def test_what_was_dumped_loads_into_the_same_store(kv: Kv, store: FakeClient) -> None:
    kv("put", "text", "héllo\n")
    kv("put", "-", "-", stdin=b"\xff\x00")
    kv("put", "cart", "apples")
    kv("put", "cart", "pears", "--context", "")
    kv("put", "brief", "gone soon", "--ttl", "30")
    before = kv("dump")
    assert before.code == 0
    assert {"key": "text", "value": "héllo\n"} in before.rows
    assert {"key": "cart", "siblings": [{"value": "apples"}, {"value": "pears"}]} in before.rows
    assert {"key": "brief", "value": "gone soon", "expires_at": 1030.0} in before.rows
    store.namespaces.clear()
    loaded = kv("load", "-", stdin=before.stdout)
    assert (loaded.code, loaded.text) == (0, "loaded 4 keys\n")
    assert kv("dump").stdout == before.stdout
    assert kv("load", "-", stdin=before.stdout).code == 0
    assert kv("dump").stdout == before.stdout, "loading twice must not add siblings"


@given(
    key=st.binary(max_size=8), values=st.lists(st.binary(max_size=8), min_size=1, max_size=3), expiry=st.none() | st.floats(0, 1e10)
)
def test_every_row_survives_its_line(key: bytes, values: list[bytes], expiry: float | None) -> None:
    row = Row(key, tuple(values), expiry)
    line = encode_row(row).encode()
    assert b"\n" not in line
    assert decode_row(line) == row


def test_load_batches_and_the_last_line_of_a_key_wins(kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BATCH_ROWS_MAX", 2)
    lines = _lines({"key": "a", "value": "1"}, {"key": "b", "value": "2"}, {"key": "a", "value": "3"}) + b"\n   \n"
    loaded = kv("load", "-", "-o", "json", stdin=lines)
    assert loaded.rows == [{"loaded": 3, "expired": 0, "lines": 5}]
    assert [options["keys"] for name, options in store.default.calls if name == "put_many"] == [2, 1]
    assert kv("scan").text == "a\t3\nb\t2\n"


def test_load_leaves_out_what_has_expired(kv: Kv) -> None:
    loaded = kv(
        "load", "-", stdin=_lines({"key": "old", "value": "1", "expires_at": 999}, {"key": "new", "value": "2", "expires_at": 1001})
    )
    assert loaded.text == "loaded 1 keys, 1 had expired\n"
    assert kv("scan", "-o", "json").rows[0]["expires_at"] == 1001.0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"value": "1"}', '"key"'),
        (b'{"key": "a"}', '"value"'),
        (b'{"key": "a", "key_base64": "YQ==", "value": ""}', '"key"'),
        (b'{"key": "a", "value_base64": "*"}', "not base64"),
        (b'{"key": "a", "value": 1}', "string"),
        (b'{"key": "a", "value": "", "expires_at": "soon"}', "expires_at"),
        (b'{"key": "a", "siblings": [1, 2]}', "siblings"),
        (b"\xff", "not JSON"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(kv: Kv, line: bytes, complaint: str) -> None:
    refused = kv("load", "-", "-o", "json", stdin=_lines({"key": "a", "value": "1"}) + line + b"\n")
    assert refused.code == 2
    assert refused.error["subject"] == "line 2"
    assert complaint in refused.error["message"]


def _write_file(path: Path, count: int) -> None:
    path.write_bytes(_lines(*({"key": f"k{at}", "value": str(at)} for at in range(count))))


def test_an_interrupted_load_continues_behind_what_was_acknowledged(
    kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(load, "BATCH_ROWS_MAX", 2)
    file = tmp_path / "data.jsonl"
    _write_file(file, 7)
    store.default.failing = {b"k4": QuorumUnreachable("1 of 2 answered", may_have_applied=True)}
    broken = kv("load", str(file))
    assert broken.code == 6
    assert "loaded 4 keys of the first 4 lines" in broken.stderr
    store.default.failing = {}
    store.default.calls.clear()
    resumed = kv("load", str(file))
    assert (resumed.code, resumed.text) == (0, "loaded 3 keys\n")
    assert "continuing behind line 4" in resumed.stderr
    assert len(kv("scan").text.splitlines()) == 7
    assert list(tmp_path.iterdir()) == [file], "a complete load leaves no note"


def test_a_note_of_another_file_or_cluster_is_not_continued(
    kv: Kv, store: FakeClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(load, "BATCH_ROWS_MAX", 2)
    file = tmp_path / "data.jsonl"
    _write_file(file, 4)
    store.default.failing = {b"k3": QuorumUnreachable("1 of 2 answered")}
    assert kv("load", str(file)).code == 5
    store.default.failing = {}
    assert kv("load", str(file), "-n", "other").code == 2
    file.write_bytes(_lines({"key": "x", "value": "1"}))
    refused = kv("load", str(file))
    assert (refused.code, "another transfer" in refused.stderr) == (2, True)
    assert kv("load", str(file), "--fresh").text == "loaded 1 keys\n"


def test_load_skips_the_lines_it_is_told_to(kv: Kv, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    _write_file(file, 5)
    assert kv("load", str(file), "--skip", "3").text == "loaded 2 keys\n"
    assert kv("load", "-", "--skip", "4", stdin=file.read_bytes()).text == "loaded 1 keys\n"


def test_a_file_that_is_not_there_is_refused(kv: Kv, tmp_path: Path) -> None:
    assert kv("load", str(tmp_path / "none")).code == 2


def test_a_dump_into_a_file_appears_when_it_is_whole_and_continues_after_a_break(kv: Kv, store: FakeClient, tmp_path: Path) -> None:
    _fill(store, {b"k%d" % at: b"v" for at in range(5)})
    store.default.failing[b"scan"] = DeadlineExceeded("no page within 5 s")
    store.default.scan_breaks_after = 3
    file = tmp_path / "dump.jsonl"
    assert kv("dump", str(file)).code == 5
    assert not file.exists()
    partial = tmp_path / "dump.jsonl.partial"
    partial.write_bytes(partial.read_bytes()[:-4])  # the last line was cut short by a crash
    store.default.scan_breaks_after = None
    resumed = kv("dump", str(file))
    assert (resumed.code, resumed.text) == (0, f"dumped 5 keys to {file}\n")
    assert "continuing behind line 2" in resumed.stderr
    assert [json.loads(line)["key"] for line in file.read_text().splitlines()] == [f"k{at}" for at in range(5)]
    assert list(tmp_path.iterdir()) == [file]


def test_a_partial_dump_of_another_namespace_is_not_continued(kv: Kv, store: FakeClient, tmp_path: Path) -> None:
    _fill(store, {b"a": b"1", b"b": b"2"})
    store.default.failing[b"scan"] = DeadlineExceeded("no page within 5 s")
    store.default.scan_breaks_after = 1
    file = str(tmp_path / "dump.jsonl")
    assert kv("dump", file).code == 5
    assert kv("dump", file, "-n", "other").code == 2
    store.default.scan_breaks_after = None
    assert kv("dump", file, "--fresh", "-o", "json").rows == [{"dumped": 2, "file": file}]


def test_dump_to_stdout_goes_on_behind_a_key(kv: Kv, store: FakeClient, tmp_path: Path) -> None:
    _fill(store, {b"a1": b"1", b"a2": b"2", b"b": b"3"})
    assert [row["key"] for row in kv("dump", "--after", "a1").rows] == ["a2", "b"]
    assert [row["key"] for row in kv("dump", "--prefix", "a").rows] == ["a1", "a2"]
    assert kv("dump", str(tmp_path / "f"), "--after", "a1").code == 2


def test_a_progress_bar_is_drawn_on_a_terminal_only(kv: Kv) -> None:
    lines = _lines({"key": "a", "value": "1"})
    assert kv("load", "-", stdin=lines).stderr == ""
    assert "loading" in kv("load", "-", stdin=lines, terminal=True).stderr
    assert "\x1b[" not in kv("load", "-", stdin=lines).stderr


def test_a_long_load_says_where_no_terminal_is_how_far_it_has_come(kv: Kv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(_lines(*({"key": f"{at:05d}", "value": ""} for at in range(10 * load.BATCH_ROWS_MAX))))
    assert kv("load", str(file)).stderr == ""
    ticks = count(step=int(progress_bar.SILENT_S / 2))
    monkeypatch.setattr(progress_bar, "clock_s", lambda: float(next(ticks)))
    lines = kv("load", str(file)).stderr.splitlines()
    assert lines[0] == "loading: 20%, 4,000 keys"  # the first batch is within the time of silence
    assert lines[-1] == "loading: 100%, 20,000 keys"
    assert len(lines) == 9


class _Silent(Stream):
    """Standard input on which nothing comes; whoever waits for a line there is interrupted."""

    def __init__(self, file: int) -> None:
        super().__init__()
        self.file = file
        self.waited_to_the_end = False

    @property
    def buffer(self) -> _Silent:  # type: ignore[override]
        return self

    def __next__(self) -> bytes:  # type: ignore[override]
        os.kill(os.getpid(), signal.SIGINT)
        os.read(self.file, 1)
        self.waited_to_the_end = True
        raise StopIteration


def test_bug_ctrl_c_while_a_load_waited_for_its_input_was_only_noted(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    giving_up = threading.Timer(10, os.close, [writing])
    giving_up.start()
    silent = _Silent(reading)
    monkeypatch.setattr("tests.cli.conftest.Stream", lambda *data, **how: silent if data else Stream(**how))
    assert kv("load", "-").code == 130
    giving_up.cancel()
    assert not silent.waited_to_the_end
