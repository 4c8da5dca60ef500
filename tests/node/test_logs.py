"""What a node logs: events for machines and people, and never what users stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
import structlog

from kvstore import telemetry
from tests.support.logging import logging_put_back


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    with logging_put_back():
        yield


def log_a_defect() -> None:
    secret = b" ".join([b"the key", b"of a user"])
    try:
        print(1 // (len(secret) - len(secret)))
    except ZeroDivisionError:
        structlog.get_logger().exception("round_failed", operations=1)


@pytest.mark.parametrize("as_json", [True, False])
def test_bug_the_traceback_of_a_defect_showed_what_users_stored(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """A round that breaks logs its traceback; on a terminal the values of local variables stood beside each frame."""
    telemetry.configure_logging(json=as_json, node_id="n1")
    log_a_defect()
    told = capsys.readouterr().err
    assert "round_failed" in told and "ZeroDivisionError" in told and "log_a_defect" in told and "n1" in told
    assert "the key of a user" not in told


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logging(json=True, node_id="n1")
    structlog.get_logger("kvstore").info("node_ready", peers=2)
    (line,) = capsys.readouterr().err.splitlines()
    row = json.loads(line)
    assert (row["event"], row["level"], row["peers"], row["node"]) == ("node_ready", "info", 2, "n1") and row["timestamp"]
    assert not sys.stderr.isatty()
