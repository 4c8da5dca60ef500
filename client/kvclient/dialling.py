"""From the address of a node to the `Transport` that reaches it, over gRPC. grpc is imported with the first one, so that importing
the client stays quick."""

from __future__ import annotations

from kvclient.credentials import PlainText, Security
from kvclient.transport import Dial, Ring, Transport


def dial_with(security: Security) -> Dial:
    """Dials nodes behind gRPC, connected as `security` says."""

    def dial(address: str, ring: Ring) -> Transport:
        from kvclient.grpc_transport import GrpcTransport

        return GrpcTransport(address, ring, channel=security.channel, security=security, frames=security.frames)

    return dial


def dial_grpc(address: str, ring: Ring) -> Transport:
    """A node behind gRPC, in plain text."""
    return dial_with(PlainText())(address, ring)
