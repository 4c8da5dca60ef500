from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from kvclient import AsyncClient
from kvproto import options
from kvstore import assembly, seams
from tests.support.certificates import Pki
from tests.support.nodes import Nodes

HANDSHAKE_MS = 500


class Port:
    """A node alone in its cluster, its port, and a good client of it. `tls` is what others need to connect."""

    def __init__(self, nodes: Nodes, client: AsyncClient, pki: Pki | None) -> None:
        self.address = nodes.addresses["n1"]
        self.host, port = self.address.split(":")
        self.port = int(port)
        self.nodes = nodes
        self.client = client
        self.pki = pki

    async def serves(self) -> None:
        await self.client.put("k", b"v", timeout_s=10)
        assert (await self.client.get("k", timeout_s=10)).value == b"v"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "STOP_GRACE_S", 0.05)


@pytest.fixture
def short_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes cut off soon who has not finished its handshake. To be asked for before `port`."""
    others = [option for option in options.SERVER_OPTIONS if option[0] != "grpc.server_handshake_timeout_ms"]
    monkeypatch.setattr(seams, "SERVER_OPTIONS", [*others, ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS)])


@pytest.fixture(params=["plain", "tls"])
async def port(request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Port]:
    """In plain text and with TLS. Afterwards: the good client is served, and nothing was logged as a defect."""
    pki = Pki(tmp_path / "tls") if request.param == "tls" else None
    async with Nodes(tmp_path, ("n1",)) as nodes:
        with structlog.testing.capture_logs() as events, caplog.at_level(logging.WARNING):
            nodes.tls = {"n1": None if pki is None else pki.node("n1")}
            await nodes.start()
            async with AsyncClient(nodes.addresses["n1"], tls=None if pki is None else pki.client()) as client:
                port = Port(nodes, client, pki)
                await port.serves()
                yield port
                await port.serves()
    assert [event for event in events if event["log_level"] == "error"] == []
    # grpc.aio complains so when several event loops have been used in one process, which tests do and nodes do not.
    logged = [record.getMessage() for record in caplog.records if "PollerCompletionQueue" not in record.getMessage()]
    assert logged == [], "a traceback for everybody who knocks"
