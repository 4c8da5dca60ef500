"""What gRPC says of a call that did not end well, as the client's API says it."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

EOF: Any = vars(grpc.aio)["EOF"]  # the type stubs do not know it

Code = grpc.StatusCode


def rpc_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """The error that grpc.aio raises."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, details=details, debug_error_string=details)
