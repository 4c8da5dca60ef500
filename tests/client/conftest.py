"""Fixtures: three fake nodes, and a client of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvclient import AsyncClient
from tests.client.fake_server import FakeCluster


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """Three nodes, listening."""
    async with FakeCluster() as nodes:
        yield nodes


@pytest.fixture
def by_convention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is gathered: each key has the coordinator by convention, however little is under way."""
    monkeypatch.setattr("kvclient.gathering.FULL", 0)


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[AsyncClient]:
    """A connected client of `cluster`."""
    async with AsyncClient(cluster.seeds) as connected:
        yield connected
