"""A lock that one holder at a time has, for as long as it renews its lease: a key of a linearizable namespace.

Taken by put-if-absent under a time to live, renewed by a touch and given back by a delete, both only if the version is still the
one that was taken. The version grows with every write that consensus orders, so it gives the fencing token. The lease is counted
from before it was asked for, so the holder never believes in it for longer than the nodes do, clocks that stand still apart: those
are what the token is for (Kleppmann, "How to do distributed locking", 2016). Made by `conditional`; `blocking` waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from kvclient.errors import AvailabilityError, ConditionFailed, DeadlineExceeded, KvError, LockNotAcquired
from kvclient.retry import backoff_s

if TYPE_CHECKING:
    from random import Random

    from kvclient.values import PutResult

RENEWALS_A_LEASE = 3
RETRY_S = 0.1
"""Between two attempts to renew."""
SEQUENCE_BITS = 40
"""A proposer takes a new ballot before its sequence reaches 2^40, so round and sequence fit beside each other."""


class Space(Protocol):
    """What a lock needs of a namespace."""

    async def put(self, key: bytes, value: bytes, *, ttl_s: float | None, if_absent: bool, timeout_s: float | None) -> PutResult:
        """Takes it."""

    async def touch(self, key: bytes, ttl_s: float | None, *, if_version: str | None, timeout_s: float | None) -> PutResult:
        """Renews it."""

    async def delete(self, key: bytes, *, if_version: str | None, timeout_s: float | None) -> PutResult:
        """Gives it back."""


class Lease:
    """What a holder has. `token` grows with every holder of the lock; `lost` is set once the lease could not be renewed: what is
    done from then on, somebody else may be doing too. Both are of no use after the block."""

    def __init__(self, name: bytes, version: str) -> None:
        self.name = name
        self.version = version
        self.token = fencing_token(version)
        self.lost = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Lease {self.name!r}: token {self.token}{', lost' if self.lost.is_set() else ''}>"


class AsyncLock:
    """One way of taking a lock, for one `async with`. `lease_s`: how long after the holder's death others have it;
    `timeout_s`: how long to wait for it. `on_lost` is called when the lease is lost."""

    def __init__(
        self,
        space: Space,
        name: bytes,
        *,
        rng: Random,
        lease_s: float,
        timeout_s: float,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.on_lost = on_lost
        self._space = space
        self._rng = rng
        self._lease_s = lease_s
        self._timeout_s = timeout_s
        self._lease: Lease | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def acquire(self) -> Lease:
        """Waits for it and keeps it until `release`. Raises `LockNotAcquired` when the time is up, which may have applied if the
        last attempt was not answered (its lease ends by itself), `WrongMode` where there is no consensus, `AvailabilityError`."""
        assert self._lease is None, "a lock is taken once: call lock() for another block"
        loop, rng = asyncio.get_running_loop(), self._rng
        holder = b"%032x" % rng.getrandbits(128)
        deadline_s = loop.time() + self._timeout_s
        first_s = loop.time()
        attempt = 0
        held = False  # by somebody else, when we were last told
        while True:
            asked_s = loop.time()
            try:
                left_s = max(0.001, deadline_s - asked_s)
                done = await self._space.put(self.name, holder, ttl_s=self._lease_s, if_absent=True, timeout_s=left_s)
                return self._begin(done.version, asked_s)
            except ConditionFailed as error:
                if error.entry.values == [holder]:  # an attempt of ours whose answer was lost: counted from the first, to be safe
                    return self._begin(error.entry.version, first_s)
                held = True
            except AvailabilityError as error:
                if held and isinstance(error, DeadlineExceeded):  # the last attempt had little time
                    raise self._not_acquired(may_have_applied=error.may_have_applied) from error
                if not error.may_have_applied or loop.time() >= deadline_s:
                    raise
            delay_s = backoff_s(attempt, rng)
            attempt += 1
            if loop.time() + delay_s >= deadline_s:
                raise self._not_acquired()
            await asyncio.sleep(delay_s)

    async def release(self) -> None:
        """Gives it back. That nodes cannot be reached is no error: the lease ends by itself."""
        lease, renewing = self._lease, self._renewing
        if lease is None or renewing is None:
            return
        self._lease = self._renewing = None
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        try:
            patience_s = min(self._timeout_s, self._lease_s)
            await self._space.delete(self.name, if_version=lease.version, timeout_s=patience_s)
        except ConditionFailed:
            self._lose(lease)  # it had ended before we knew
        except AvailabilityError:
            pass

    def _not_acquired(self, *, may_have_applied: bool = False) -> LockNotAcquired:
        name = self.name.decode(errors="replace")
        said = f"somebody else holds the lock {name!r} for all of {self._timeout_s:g} s"
        return LockNotAcquired(said, subject=name, may_have_applied=may_have_applied)

    def _begin(self, version: str, since_s: float) -> Lease:
        lease = self._lease = Lease(self.name, version)
        name = f"lock {self.name.decode(errors='replace')}"
        self._renewing = asyncio.get_running_loop().create_task(self._renew(lease, since_s), name=name)
        return lease

    async def _renew(self, lease: Lease, since_s: float) -> None:
        """Renews for as long as it can; the lease is lost when this ends by itself."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(max(0.0, since_s + self._lease_s / RENEWALS_A_LEASE - loop.time()))
                asked_s = loop.time()
                left_s = since_s + self._lease_s - asked_s
                if left_s <= 0:
                    return
                try:
                    await self._space.touch(self.name, self._lease_s, if_version=lease.version, timeout_s=left_s)
                    since_s = asked_s
                except AvailabilityError:
                    await asyncio.sleep(min(RETRY_S, max(0.0, since_s + self._lease_s - loop.time())))
        except KvError:  # its condition failed, so somebody else may have it, or the client is closed
            return
        finally:
            if self._lease is lease:
                self._lose(lease)

    def _lose(self, lease: Lease) -> None:
        if not lease.lost.is_set():
            lease.lost.set()
            self.on_lost()

    async def __aenter__(self) -> Lease:
        return await self.acquire()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.release()


def fencing_token(version: str) -> int:
    """The number of a version (40 hex digits) of a linearizable namespace: greater for every later write of the key."""
    raw = bytes.fromhex(version)
    return (int.from_bytes(raw[:8], "big") << SEQUENCE_BITS) + int.from_bytes(raw[8:16], "big")
