"""Stops are quick here: what is in flight at a stop is a test's own business."""

from __future__ import annotations

import pytest

from kvstore import node


@pytest.fixture(autouse=True)
def quick_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "STOP_GRACE_S", 0.05)
