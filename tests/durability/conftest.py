"""The shim, compiled once; and the size of the runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kvchaos.disks.build import build_shim
from tests.conftest import TIER

# A log of a node rotates after some 950 writes: a kill midway between two rotations leaves the most in a log of its own.
ACKS = {"quick": 2_400, "long": 30_000}[TIER]


@pytest.fixture(scope="session")
def shim() -> Path:
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim is preloaded the way Linux does it")
    return build_shim()


@pytest.fixture
def acks() -> int:
    """How many writes a run waits to see acknowledged."""
    return ACKS
