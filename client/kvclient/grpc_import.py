"""grpc, imported so that a process that uses this client can fork, and a channel of it in plain text.

gRPC's core prepares for forks unless GRPC_ENABLE_FORK_SUPPORT says otherwise, its Python side only if it says so; with asyncio
channels open the two do not get along, and os.fork crashes parent or child (grpcio 1.85, one fork in three). So the core is told
what Python's side goes by, for the moment in which it is read: its import. A host that has set the variable, or has imported grpc
before, keeps what it has.

gRPC's own threads do not survive a fork: a child of a process that has used it cannot, and is told so.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from kvclient.errors import ForkedClient
from kvproto.options import CHANNEL_OPTIONS

__all__ = ["aio", "begin_use", "grpc", "open_channel"]

_FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"

_is_set_here = "grpc" not in sys.modules and _FORK_SUPPORT not in os.environ
if _is_set_here:
    os.environ[_FORK_SUPPORT] = "0"
try:
    import grpc
    from grpc import aio
finally:
    if _is_set_here:
        del os.environ[_FORK_SUPPORT]

_used_by_pid: int | None = None


def begin_use() -> None:
    """Before a channel is opened. Raises `ForkedClient` where gRPC would wait for threads that exist in the parent only."""
    global _used_by_pid  # noqa: PLW0603 - it is of the process, as gRPC's threads are
    if _used_by_pid is None:
        _used_by_pid = os.getpid()
    elif _used_by_pid != os.getpid():
        raise ForkedClient(
            f"process {_used_by_pid} used gRPC before it forked this one, where gRPC can no longer work: fork before the first "
            "client connects, or start children with multiprocessing's 'spawn' or 'forkserver'"
        )


def open_channel(address: str) -> Any:
    """A `grpc.aio.Channel` to `address` in plain text; the seam at which simulation puts its own."""
    begin_use()
    return aio.insecure_channel(address, options=CHANNEL_OPTIONS)
