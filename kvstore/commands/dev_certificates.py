"""Certificates for a cluster on this machine (`kv dev --tls`): an authority for its nodes, one for its clients, and what they sign.

Made once for a directory and kept. The authorities' own keys are forgotten, so nobody can sign more; for a try-out that is enough.
How real ones are made: docs/security.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvproto.errors import UserError

if TYPE_CHECKING:
    from trustme import LeafCert

FOLDER = "tls"
HOSTS = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class DevCertificates:
    """The files below DATA/tls."""

    folder: Path

    @property
    def ca(self) -> Path:
        """Who signs the nodes' certificates."""
        return self.folder / "ca.pem"

    @property
    def client_ca(self) -> Path:
        """Who signs the clients' certificates."""
        return self.folder / "client-ca.pem"

    def pair(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of a node, or of `client`."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def client_options(self) -> dict[str, str]:
        """What `kv` and `Tls` are given."""
        cert, key = self.pair("client")
        return {"ca": str(self.ca), "cert": str(cert), "key": str(key)}

    def make(self, nodes: Sequence[str]) -> None:
        """Makes whatever is missing; all of it, if any is. Raises `UserError` when trustme is not installed."""
        files = [self.ca, self.client_ca, *(path for name in (*nodes, "client") for path in self.pair(name))]
        if all(path.is_file() for path in files):
            return
        try:
            import trustme
        except ModuleNotFoundError:
            raise UserError("kv dev --tls needs trustme: pip install 'kvstore-server[dev-tls]'", subject="trustme") from None
        self.folder.mkdir(parents=True, exist_ok=True)
        peers, clients = trustme.CA(organization_name="kv dev nodes"), trustme.CA(organization_name="kv dev clients")
        self.ca.write_bytes(peers.cert_pem.bytes())
        self.client_ca.write_bytes(clients.cert_pem.bytes())
        for name in nodes:
            self._write(name, peers.issue_cert(*HOSTS, name))
        self._write("client", clients.issue_cert("client@localhost", common_name="client"))

    def _write(self, name: str, leaf: LeafCert) -> None:
        cert, key = self.pair(name)
        cert.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key.unlink(missing_ok=True)
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(leaf.private_key_pem.bytes())
