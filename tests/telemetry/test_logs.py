"""Log lines: the level can change while a node runs, a stranger's text is harmless, and every event is on the page."""

from __future__ import annotations

import ast
import io
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from kvproto.errors import UserError
from kvstore import telemetry
from kvstore.commands.log_level import follow_file, level_at_start
from kvstore.config import NodeConfig, TelemetryConfig
from kvstore.telemetry.logs import TEXT_CHARS_MAX
from tests.commands.conftest import plan
from tests.commands.test_serve_command import Served
from tests.house.repository import ROOT
from tests.support.logging import logging_put_back

EVENT_ROW = re.compile(r"^\| `(\w+)` \| (info|warning|error) \|", re.MULTILINE)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    with logging_put_back():
        yield


def log_all() -> None:
    log = structlog.get_logger()
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)(f"an_{level}")


def events(told: str) -> list[str]:
    return [json.loads(line)["event"] for line in told.splitlines()]


def test_the_level_holds_from_the_moment_it_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(json=True, level="warning")
    log_all()
    telemetry.set_log_level("debug")
    log_all()
    telemetry.set_log_level("error")
    log_all()
    told = events(capsys.readouterr().err)
    assert told == ["an_warning", "an_error", "an_debug", "an_info", "an_warning", "an_error", "an_error"]


class Writes(io.StringIO):
    """Remembers what was written at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def write(self, text: str) -> int:
        self.parts.append(text)
        return super().write(text)


def test_bug_a_node_that_was_killed_left_a_line_without_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Line and line end were written one after the other, and the process killed in between: what its next life said stood on the
    same line, which is no JSON. Found by F20, once in ten runs."""
    monkeypatch.setattr("sys.stderr", writes := Writes())
    telemetry.configure_logging(json=True, level="debug")
    log_all()
    assert len(writes.parts) == 4
    assert all(part.endswith("}\n") for part in writes.parts)


def test_a_defects_traceback_counts_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(json=True, level="error")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        structlog.get_logger().exception("broke")
    assert events(capsys.readouterr().err) == ["broke"]


@pytest.mark.parametrize("as_json", [True, False])
def test_what_a_stranger_sends_neither_steers_the_terminal_nor_fills_the_disk(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.configure_logging(json=as_json)
    structlog.get_logger().warning("peer_turned_away", peer="\x1b[2Jevil\nnode_ready", reason="x" * 100_000)
    told = capsys.readouterr().err
    assert "\x1b[2J" not in told and len(told.splitlines()) == 1 and len(told) < TEXT_CHARS_MAX + 400


def test_a_key_is_told_as_its_hash() -> None:
    assert telemetry.key_hash(b"alice") == telemetry.key_hash(b"alice") != telemetry.key_hash(b"bob")
    assert "alice" not in telemetry.key_hash(b"alice")


def test_the_variable_goes_before_the_file_and_a_wrong_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = NodeConfig(node_id="n1", listen="", data=Path(), telemetry=TelemetryConfig(log_level="error"))
    monkeypatch.delenv("KV_LOG_LEVEL", raising=False)
    assert level_at_start(config) == "error"
    monkeypatch.setenv("KV_LOG_LEVEL", "debug")
    assert level_at_start(config) == "debug"
    monkeypatch.setenv("KV_LOG_LEVEL", "loud")
    with pytest.raises(UserError, match="KV_LOG_LEVEL='loud' is not a level"):
        level_at_start(config)


def test_a_file_that_cannot_be_read_changes_nothing_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(json=True, level="error")
    (tmp_path / "node.toml").write_text("[telemetry]\nlog_level = 'loud'\n")
    follow_file(tmp_path / "node.toml")
    log_all()
    assert events(capsys.readouterr().err) == ["log_level_kept", "an_error"]


def test_a_running_node_reads_its_level_again_when_it_is_hung_up_on(tmp_path: Path) -> None:
    layout = plan(tmp_path, nodes=1)
    layout.write_configs()
    config = layout.nodes[0].config
    config.write_text(config.read_text() + '[telemetry]\nlog_level = "error"\n')
    node = Served(config)
    config.write_text(config.read_text().replace('"error"', '"info"'))
    node.process.send_signal(signal.SIGHUP)
    assert node.process.stderr is not None
    line = json.loads(node.process.stderr.readline())
    assert (line["event"], line["to"]) == ("log_level_set", "info")
    assert node.end()[0] == 0


def logged_events() -> dict[str, str]:
    """Every event in the server's code, with its level: the first two texts, or the name of the method and the first text."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "kvstore").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            of = ast.unparse(node.func.value)
            if of == "log" and texts:
                found[texts[0]] = node.func.attr
            elif node.func.attr == "tell" and of.endswith("logs"):
                found[texts[1]] = texts[0]
    return {event: level.replace("exception", "error") for event, level in found.items()}


def test_every_event_is_on_the_page_with_its_level_and_no_other_is() -> None:
    page = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    told = logged_events()
    assert len(told) > 10, "the search finds them"
    assert dict(EVENT_ROW.findall(page)) == told
