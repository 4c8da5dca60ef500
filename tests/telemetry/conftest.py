"""Stops are quick here: what is in flight at a stop is a test's own business."""

from __future__ import annotations

import pytest

from kvstore import assembly


@pytest.fixture(autouse=True)
def quick_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "STOP_GRACE_S", 0.05)
