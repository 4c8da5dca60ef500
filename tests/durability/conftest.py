"""The shim, compiled once; and the size of the runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import TIER
from tests.durability.shim_build import build_shim

ACKS = {"quick": 2_000, "long": 30_000}[TIER]


@pytest.fixture(scope="session")
def shim() -> Path:
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim is preloaded the way Linux does it")
    return build_shim()


@pytest.fixture
def acks() -> int:
    """How many writes a run waits to see acknowledged."""
    return ACKS
