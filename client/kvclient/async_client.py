"""The asyncio client: a cluster, or a store inside this process, as one object.

Put together here and nowhere else: target, membership, dispatcher, namespaces. Belongs to the event loop it is first used on. Keys,
values and errors are as docs/architecture.md describes them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from types import TracebackType
from typing import Self, TypeVar

from kvclient.admin import AsyncAdmin
from kvclient.checks import namespace_name, seconds
from kvclient.clock import Clock, SystemClock
from kvclient.contexts import ContextMemory
from kvclient.credentials import Tls, TlsCredentials
from kvclient.dialling import dial_grpc, dial_with
from kvclient.dispatcher import Dispatcher, elsewhere
from kvclient.errors import BadRequest, ClientClosed, NodeUnreachable
from kvclient.levels import LevelLike, choose
from kvclient.membership import Membership
from kvclient.namespace import AsyncNamespace
from kvclient.request_ids import RequestIds
from kvclient.stats import ClientStats
from kvclient.target import Target, parse_target, redacted
from kvclient.transport import Dial, Transport, open_embedded
from kvproto.columns import ClusterInfo
from kvproto.link import LinkBounds

TIMEOUT_S = 5.0

T = TypeVar("T")


class AsyncClient(AsyncNamespace):
    """A client of a cluster, and by itself its default namespace.

    Use it as `async with`, or call `close`; connects with the first operation.

    `target`: `host:port,host:port`, `kv://host:port/namespace?level=quorum&timeout=2`, `kvs://…` (TLS), `embedded:/path` or
    `embedded::memory:NAME`. `level`, `sloppy` and `timeout_s` hold for calls that say nothing else; `timeout_s` covers each
    call as a whole, with retries and failover. `hedge`: a read whose answer is late is asked once more of another owner.
    `address_map` tells where to reach a node (by id) when that is not the address it advertises. `bounds` is what may wait and be
    in flight for each node. `tls` connects with certificates (True: trusting the public authorities). `dial`, `clock` and `rng` are
    seams for simulation and tests.
    """

    def __init__(
        self,
        target: str = "",
        *,
        timeout_s: float | None = None,
        level: LevelLike | None = None,
        sloppy: bool | None = None,
        address_map: Mapping[str, str] | None = None,
        bounds: LinkBounds | None = None,
        hedge: bool | None = None,
        tls: Tls | bool | None = None,
        dial: Dial | None = None,
        clock: Clock | None = None,
        rng: Random | None = None,
    ) -> None:
        parsed = parse_target(target)
        patience_s = seconds(_first(timeout_s, parsed.timeout_s, TIMEOUT_S))
        self.target = target
        self.rng = rng or Random()
        self.dispatcher: Dispatcher | None = None
        self.key_bytes_max = 0
        self.value_bytes_max = 0
        self.admin = AsyncAdmin(self)
        self._parsed = parsed
        self._address_map = dict(address_map or {})
        self._bounds = bounds
        self._hedge = _first(hedge, parsed.hedge, True)
        self._dial = dial or _secured_dial(parsed, tls)
        self._ids = RequestIds(clock or SystemClock(), self.rng)
        self._memory = ContextMemory()
        self._namespaces: dict[str, AsyncNamespace] = {}
        self._membership: Membership | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._stats = ClientStats()
        self._closed = False
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        chosen = choose(level, None, sloppy, parsed.choice)
        super().__init__(self, parsed.namespace, self._memory.namespace(parsed.namespace), chosen, patience_s)
        self._namespaces[parsed.namespace] = self

    def namespace(
        self,
        name: str,
        *,
        level: LevelLike | None = None,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
    ) -> AsyncNamespace:
        """The namespace `name`; no I/O, so an unknown one shows with the first operation.

        The options are defaults for its calls: a call's own come first, then these, then the client's.
        """
        found = self._namespaces.get(name)
        if found is None:
            contexts = self._memory.namespace(namespace_name(name))
            found = self._namespaces[name] = AsyncNamespace(self, name, contexts, self._choice, self.timeout_s)
        if level is None and bound_ms is None and sloppy is None and timeout_s is None:
            return found
        return found.with_options(level=level, bound_ms=bound_ms, sloppy=sloppy, timeout_s=timeout_s)

    async def connect(self, timeout_s: float | None = None) -> Dispatcher:
        """Finds a node and learns the ring; every operation does so by itself, within its own timeout.

        Raises `AvailabilityError` when no node answers in time, `ClientClosed`, `ForkedClient`, `WrongLoop`.
        """
        if self._closed:
            raise ClientClosed("the client was closed")
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop) or self._pid != os.getpid():
            raise elsewhere(self._pid)
        self._loop = loop
        deadline_s = loop.time() + (self.timeout_s if timeout_s is None else timeout_s)
        async with AsyncExitStack() as stack:
            try:  # somebody else may be connecting, with more time than we have
                async with asyncio.timeout_at(deadline_s):
                    await stack.enter_async_context(self._connecting)
            except TimeoutError as error:
                shown = redacted(self.target)
                raise NodeUnreachable(f"no node has answered at {shown} in time", subject=shown) from error
            if self.dispatcher is not None:
                return self.dispatcher
            membership = self._make_membership()
            dispatcher = self._make_dispatcher(membership)
            membership.owner = dispatcher
            try:
                await membership.connect(deadline_s)
            except BaseException:
                await membership.close()
                raise
            self._membership = membership
            info = membership.router.info
            self.key_bytes_max = info.key_bytes_max
            self.value_bytes_max = info.value_bytes_max
            self.dispatcher = dispatcher
            return dispatcher

    async def connect_within(self, timeout_s: float) -> tuple[Dispatcher, float]:
        """`connect` as the beginning of an operation that may take `timeout_s`; what is left of that comes with it."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        dispatcher = await self.connect(timeout_s)
        return dispatcher, max(0.0, deadline_s - loop.time())

    def check_quorum(self, namespace: str, replicas: int, *, name: str) -> None:
        """Raises `BadRequest` if a namespace was never meant to have so many replicas; says nothing before it is connected."""
        if replicas and self.dispatcher is not None:
            for space in self.info.namespaces:
                if space.name == namespace and replicas > space.n_asked and space.mode != "linearizable":  # nodes refuse any there
                    raise BadRequest(
                        f"{name}={replicas} is not between 1 and n={space.n_asked} of namespace {namespace!r}",
                        limit=space.n_asked,
                        actual=replicas,
                        subject=name,
                    )

    @property
    def membership(self) -> Membership:
        """The nodes and their links, once connected."""
        assert self._membership is not None, "connect first"
        return self._membership

    @property
    def stats(self) -> ClientStats:
        """What this client has done so far: a copy that no longer changes."""
        return replace(self._stats)

    @property
    def info(self) -> ClusterInfo:
        """The ring, limits and namespaces as last learned, once connected."""
        return self.membership.router.info

    async def close(self) -> None:
        """Ends operations under way with `ClientClosed` and lets go of every node. Idempotent; after a fork there is nothing to do.

        Raises `WrongLoop` on another event loop than the client's, where its connections cannot be closed.
        """
        if self._pid != os.getpid():
            self._closed, self.dispatcher = True, None
            return
        if self._loop not in (None, asyncio.get_running_loop()):
            raise elsewhere(self._pid)
        self._closed = True
        dispatcher, self.dispatcher = self.dispatcher, None
        if dispatcher is not None:
            await self.membership.close()
            dispatcher.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _make_dispatcher(self, membership: Membership) -> Dispatcher:
        return Dispatcher(membership, self._ids, self.rng, self._stats, hedge=self._hedge)

    def _make_membership(self) -> Membership:
        if not self._parsed.embedded:
            return Membership(self._parsed.addresses, self._dial, self._ids, address_map=self._address_map, bounds=self._bounds)

        def dial(url: str, _: object) -> Transport:
            return open_embedded(url)

        return Membership((self._parsed.embedded,), dial, self._ids, bounds=self._bounds, is_single=True)

    def __repr__(self) -> str:
        return f"<AsyncClient {redacted(self.target)!r}>"


def _secured_dial(target: Target, tls: Tls | bool | None) -> Dial:
    if tls is None or tls is True:
        tls = target.tls or (Tls() if tls else None)
    if not tls:
        return dial_grpc
    if target.embedded:
        raise BadRequest("an embedded store has no connections: leave tls away", subject=target.embedded)
    return dial_with(TlsCredentials(tls))


def _first(*values: T | None) -> T:
    return next(value for value in values if value is not None)
