"""A node's wall clock: the machine's, or, for tests, one that a file shifts while the node runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kvstore.runtime import OFFSET_BYTES, OFFSET_VARIABLE, ShiftedClock, SystemClock, wall_clock

NEAR_MS = 5_000


def off_ms(clock: SystemClock | ShiftedClock) -> float:
    return clock.now_ms() - time.time() * 1000


def test_it_is_the_machines_unless_a_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OFFSET_VARIABLE, raising=False)
    clock = wall_clock()
    assert isinstance(clock, SystemClock)
    assert abs(off_ms(clock)) < NEAR_MS


@pytest.mark.parametrize("offset_ms", [3_600_000, -3_600_000, 0])
def test_a_file_shifts_it_while_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offset_ms: int) -> None:
    file = tmp_path / "offset"
    file.write_bytes(bytes(OFFSET_BYTES))
    monkeypatch.setenv(OFFSET_VARIABLE, str(file))
    clock = wall_clock()
    assert isinstance(clock, ShiftedClock)
    with file.open("r+b") as opened:
        opened.write(offset_ms.to_bytes(OFFSET_BYTES, "little", signed=True))
    assert abs(off_ms(clock) - offset_ms) < NEAR_MS
