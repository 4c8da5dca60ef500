"""A lock for code without an event loop: `AsyncLock`, whose lease is renewed on the loop of the client's thread."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvclient.bridge import Bridge
    from kvclient.locks import AsyncLock


class BlockingLease:
    """What a holder has; see `kvclient.locks.Lease`. `lost` may be asked and waited for by any thread."""

    def __init__(self, name: bytes, token: int, version: str, lost: threading.Event) -> None:
        self.name = name
        self.token = token
        self.version = version
        self.lost = lost

    def __repr__(self) -> str:
        return f"<Lease {self.name!r}: token {self.token}{', lost' if self.lost.is_set() else ''}>"


class Lock:
    """One way of taking a lock, for one `with`."""

    def __init__(self, inner: AsyncLock, bridge: Bridge) -> None:
        self.name = inner.name
        self._inner = inner
        self._bridge = bridge
        self._lost = threading.Event()
        inner.on_lost = self._lost.set

    def acquire(self) -> BlockingLease:
        """See `AsyncLock.acquire`."""
        lease = self._bridge.call(self._inner.acquire())
        return BlockingLease(lease.name, lease.token, lease.version, self._lost)

    def release(self) -> None:
        """See `AsyncLock.release`."""
        self._bridge.call(self._inner.release())

    def __enter__(self) -> BlockingLease:
        return self.acquire()

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()
