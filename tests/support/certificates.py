"""Authorities and certificates for tests, as PEM files below one folder; trustme makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from kvclient.credentials import Tls
from kvstore.config import TlsConfig

HOSTS = ("127.0.0.1", "localhost")


class Pki:
    """An authority of its own; `name` tells its files apart."""

    def __init__(self, folder: Path, name: str = "ca", *, authority: trustme.CA | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.name = name
        self.authority = authority or trustme.CA(organization_name=f"kvstore tests {name}")
        self.ca = folder / f"{name}.pem"
        self.ca.write_bytes(self.authority.cert_pem.bytes())

    def below(self, name: str) -> Pki:
        """An authority that this one has signed."""
        return Pki(self.folder, name, authority=self.authority.create_child_ca())

    def issue(self, file: str, *names: str, days: float = 30, common_name: str | None = None) -> tuple[Path, Path]:
        """Writes a certificate (with its chain) for `names`, and its key; negative `days`: it has expired so long ago."""
        ends = datetime.now(UTC) + timedelta(days=days)
        begins = min(ends, datetime.now(UTC)) - timedelta(days=1)
        leaf = self.authority.issue_cert(*names, common_name=common_name, not_before=begins, not_after=ends)
        cert, key = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        return cert, key

    def node(self, node: str, *, client_ca: Path | None = None, days: float = 30, names: tuple[str, ...] = HOSTS) -> TlsConfig:
        """A node's [tls], with a certificate that names it."""
        cert, key = self.issue(node, *names, node, days=days)
        return TlsConfig(cert=cert, key=key, ca=self.ca, client_ca=client_ca)

    def client(self, file: str = "client", *, ca: Path | None = None, days: float = 30) -> Tls:
        """A client's files; `ca`: of the nodes, if it is another one."""
        cert, key = self.issue(file, f"{file}@clients.example", days=days)
        return Tls(ca=ca or self.ca, cert=cert, key=key)
