from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from kvstore import assembly
from kvstore.transport import grpc_peers
from tests.support.certificates import Pki
from tests.support.nodes import Nodes


class SecureNodes(Nodes):
    """Nodes with certificates of `pki`, and a client's of `clients`."""

    def __init__(self, root: Path, ids: tuple[str, ...] = ("n1", "n2")) -> None:
        super().__init__(root, ids)
        self.pki = Pki(root / "tls", "ca")
        self.clients = Pki(root / "tls", "clients")
        self.tls = {node: self.pki.node(node, client_ca=self.clients.ca) for node in ids}
        self.client = self.clients.client(ca=self.pki.ca)

    @property
    def at(self) -> str:
        return ",".join(self.addresses.values())


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "STOP_GRACE_S", 0.05)
    monkeypatch.setattr(grpc_peers, "EXPLAIN_EVERY_S", 0.1)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "tls")


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[SecureNodes]:
    """n1 and n2, not started."""
    nodes = SecureNodes(tmp_path)
    async with nodes:
        yield nodes


@pytest.fixture
def events() -> Iterator[list[dict[str, object]]]:
    """What is logged."""
    with structlog.testing.capture_logs() as found:
        yield found  # type: ignore[misc] # they are mappings that can be changed
