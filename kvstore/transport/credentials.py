"""TLS on both ends of a node: what it presents and trusts, files read again when they change, and who counts as a peer.

One port serves clients and peers, and gRPC in Python asks either everybody for a certificate or nobody; so everybody needs one,
signed by `ca` or by `client_ca`, and the Peer service looks at whose it is (ADR 5). gRPC asks for the certificates at the beginning
of each handshake, and channels are made anew when they changed; connections that stand go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import grpc
import grpc.aio
from cryptography import x509

from kvproto.errors import KvError, NotAllowed, TlsError
from kvproto.options import CHANNEL_OPTIONS
from kvproto.tls_probe import OurSide, explain_failure
from kvproto.watched_files import WatchedFiles
from kvstore.config import TlsConfig
from kvstore.runtime import Clock
from kvstore.telemetry import log
from kvstore.transport.certificates import NodePem, dns_names, is_signed_by, read_node_pem, why_not_named

LOOK_S = 30.0
WARN_BEFORE_MS = 14 * 24 * 3600 * 1000
WARN_EVERY_MS = 24 * 3600 * 1000
KNOWN_MAX = 256


class NodeCredentials:
    """Implements `Security` with the files of `tls`. Raises `UserError` when they do not add up at the beginning; later the
    ones from before stay, and an event says why."""

    def __init__(self, tls: TlsConfig, *, node_id: str, members: Collection[str], clock: Clock) -> None:
        self._tls = tls
        self._node_id = node_id
        self._members = frozenset(members)
        self._clock = clock
        paths = [tls.cert, tls.key, tls.ca, *([] if tls.client_ca is None else [tls.client_ca])]
        self._files = WatchedFiles(paths, self._read, on_broken=_report_broken)
        self._known: dict[tuple[bytes, ...], frozenset[str] | None] = {}
        self._known_version = 0
        self._warned_ms = 0

    @property
    def expires_at_ms(self) -> int | None:
        """See `Security.expires_at_ms`."""
        return self._files.value.expires_at_ms

    def version(self) -> int:
        """See `Security.version`."""
        self._files.look()
        return self._files.version

    def channel(self, address: str) -> Any:
        """A `grpc.aio.Channel` to a peer, with the certificates as they are now."""
        pem = self._files.look()
        credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)
        return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)

    def listen(self, server: Any, address: str) -> int:
        """See `Security.listen`."""
        served = 0

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called by gRPC at the beginning of each handshake, on a thread of its own; None: as before.
            nonlocal served
            pem = self._files.look()
            if served == self._files.version:
                return None
            served = self._files.version
            return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.ca + b"\n" + pem.client_ca)

        first = fetch()
        assert first is not None, "nothing has been served before"
        credentials = grpc.dynamic_ssl_server_credentials(first, fetch, True)  # type: ignore[arg-type]  # it may return None
        return int(server.add_secure_port(address, credentials))

    async def explain(self, address: str) -> TlsError | None:
        """See `Security.explain`."""
        return await explain_failure(address, OurSide(self._tls.ca, self._tls.cert, self._tls.key))

    def why_not_peer(self, context: Any, node_id: str = "") -> KvError | None:
        """See `Security.why_not_peer`."""
        names = self._peer_names(context.auth_context())
        if names is None:
            reason = f"the certificate is not signed by the ca of {self._node_id}: only nodes may call this"
        else:
            reason = why_not_named(names, node_id, self._members, must_name=self._files.value.must_name)
            reason = reason and f"the certificate {reason}"
        return NotAllowed(f"{self._node_id} refuses {node_id or 'the caller'}: {reason}", subject=node_id) if reason else None

    async def watch(self) -> None:
        """See `Security.watch`."""
        while True:
            self._files.look()
            self._warn()
            await asyncio.sleep(LOOK_S)

    def _peer_names(self, presented: Any) -> frozenset[str] | None:
        """The DNS names of a certificate that our `ca` has signed; None: it has not. gRPC has verified it against `ca` or
        `client_ca`, so a certificate that was looked at once is the same the next time, until our files change."""
        pems = (*presented.get("x509_pem_cert", ()), *presented.get("x509_pem_cert_chain", ()))
        pem = self._files.look()
        if self._known_version != self._files.version or len(self._known) >= KNOWN_MAX:
            self._known_version = self._files.version
            self._known.clear()
        if pems not in self._known:
            self._known[pems] = self._names_if_signed(pems, pem)
        return self._known[pems]

    def _names_if_signed(self, pems: tuple[bytes, ...], pem: NodePem) -> frozenset[str] | None:
        try:
            leaf, *others = x509.load_pem_x509_certificates(b"\n".join(pems))
        except ValueError:  # none was presented
            return None
        return dns_names(leaf) if is_signed_by(leaf, others, pem.authorities, self._clock.now_ms()) else None

    def _read(self) -> NodePem:
        pem = read_node_pem(self._tls, node_id=self._node_id, members=self._members, now_ms=self._clock.now_ms())
        log.info("certificate_loaded", file=str(self._tls.cert), expires_at_ms=pem.expires_at_ms)
        self._warned_ms = 0
        return pem

    def _warn(self) -> None:
        now_ms, expires_at_ms = self._clock.now_ms(), self._files.value.expires_at_ms
        if expires_at_ms - now_ms < WARN_BEFORE_MS and now_ms - self._warned_ms >= WARN_EVERY_MS:
            self._warned_ms = now_ms
            days = (expires_at_ms - now_ms) / (24 * 3600 * 1000)
            log.warning("certificate_expires_soon", file=str(self._tls.cert), days=round(days, 1))


def _report_broken(error: KvError) -> None:
    log.error("certificate_kept", reason=error.message)
