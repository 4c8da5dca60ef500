"""What gRPC itself says of the way to a node, as the client's errors: never about an operation."""

from __future__ import annotations

from kvclient.errors import KvError, NodeUnreachable, UnsupportedProtocol
from kvclient.grpc_import import aio, grpc

# What grpc.aio says for good when a write finds that the other side has ended the stream: the status that the other side sent, if
# it has not been read before, is lost. The next stream is told it again.
_HIDDEN_REASON = "Internal error from Core"


def error_of(address: str, error: grpc.RpcError) -> KvError:
    """What `error` of a call to `address` means."""
    if isinstance(error, aio.AioRpcError):
        return error_of_status(address, error.code(), error.details() or "")
    return error_of_status(address, grpc.StatusCode.UNKNOWN, str(error))


def error_of_status(address: str, code: grpc.StatusCode, details: str) -> KvError:
    """What a status means: about the way to the node, or about what it speaks."""
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnsupportedProtocol(f"{address} does not serve kvproto.v1: {details}", subject=address)
    if code is grpc.StatusCode.INTERNAL and details == _HIDDEN_REASON:
        details = "the stream ended while a batch was being written"
    return NodeUnreachable(f"{address}: {code.name.lower()}: {details}", subject=address)
