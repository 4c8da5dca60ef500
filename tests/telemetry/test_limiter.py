"""Events that strangers can bring about: some lines, then a count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kvstore.simulation.logs import caught_logs
from kvstore.telemetry.limiter import BoundedLog


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    caught: list[tuple[str, str, dict[str, Any]]] = []
    with caught_logs(lambda level, event, facts: caught.append((level, event, facts))):
        yield caught


def test_a_flood_is_a_burst_and_a_count(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    now_s = [0.0]
    logs = BoundedLog(lambda: now_s[0], burst=3, per_s=0.5)
    for number in range(100):
        logs.tell("warning", "knock", number=number)
    assert [facts["number"] for _, _, facts in lines] == [0, 1, 2] and logs.suppressed == {"knock": 97}
    now_s[0] = 1.9
    logs.tell("warning", "knock")
    assert len(lines) == 3, "not yet: a line takes two seconds"
    now_s[0] = 2.0
    logs.tell("warning", "knock")
    assert lines[3:] == [("warning", "knock", {"suppressed": 98})]
    now_s[0] = 1e6
    for _ in range(100):
        logs.tell("warning", "knock")
    assert len(lines) == 7, "patience is not saved beyond the burst"


def test_one_event_does_not_silence_another(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    logs = BoundedLog(lambda: 0.0, burst=1)
    for _ in range(3):
        logs.tell("warning", "flood")
    logs.tell("error", "fire", level="high")
    assert [(level, event) for level, event, _ in lines] == [("warning", "flood"), ("error", "fire")]
    assert lines[1][2] == {"level": "high"}
