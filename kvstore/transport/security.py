"""How connections between this node and others are secured, as the node sees it: one contract, and the absence of TLS.

`credentials.py` implements it with certificates. The API and the peer transport take either and ask nothing about files.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from kvproto.errors import KvError, TlsError
from kvproto.tls_probe import explain_failure


class Security(Protocol):
    """Chosen by the seams; used from the event loop."""

    @property
    def expires_at_ms(self) -> int | None:
        """When this node's certificate expires, Unix time; None without TLS."""

    def version(self) -> int:
        """Moves on when a channel opened now would present or trust other certificates than one opened before."""

    def listen(self, server: Any, address: str) -> int:
        """Adds the address to a `grpc.aio.Server`; the port. Raises `RuntimeError` when it cannot be had."""

    async def explain(self, address: str) -> TlsError | None:
        """Why a peer's address cannot be connected to, if that is TLS's fault."""

    def why_not_peer(self, context: Any, node_id: str = "") -> KvError | None:
        """Why the caller of a method of the Peer service is no node of this cluster, or not `node_id`; None: nothing speaks
        against it. `context` is gRPC's."""

    async def watch(self) -> None:
        """Looks after the certificates until cancelled; without TLS returns at once."""


class PlainText:
    """No TLS: whoever reaches the port may do everything. `explain` is asked when a peer cannot be reached."""

    expires_at_ms: int | None = None

    def __init__(self, explain: Callable[[str], Awaitable[TlsError | None]] | None = None) -> None:
        self._explain = explain

    def version(self) -> int:
        """See `Security.version`."""
        return 0

    def listen(self, server: Any, address: str) -> int:
        """See `Security.listen`."""
        return int(server.add_insecure_port(address))

    async def explain(self, address: str) -> TlsError | None:
        """See `Security.explain`."""
        return None if self._explain is None else await self._explain(address)

    def why_not_peer(self, context: Any, node_id: str = "") -> KvError | None:
        """See `Security.why_not_peer`."""
        return None

    async def watch(self) -> None:
        """See `Security.watch`."""


async def explain_plain(address: str) -> TlsError | None:
    """Whether `address` speaks TLS, to which plain text cannot connect."""
    return await explain_failure(address, None)
