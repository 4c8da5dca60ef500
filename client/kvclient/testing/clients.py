"""The two clients, over a store in this process. What a test controls is the same on both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from random import Random

from kvclient.async_client import AsyncClient
from kvclient.blocking import Client
from kvclient.dispatcher import Dispatcher
from kvclient.errors import KvError, NodeUnreachable
from kvclient.levels import LevelLike
from kvclient.membership import Membership
from kvclient.testing.clock import FakeClock
from kvclient.testing.faults import Faults, FaultyDispatcher
from kvclient.testing.store import FakeStore, Namespaces
from kvclient.transport import OnReply, Ring, Transport
from kvproto.columns import (
    ClusterInfo,
    LossAccepted,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    OperationGroup,
    RepairProgress,
    ScanPage,
    ScanQuery,
)

SEED = 2007


class FakeTransport:
    """One node of a fake store; answers within the call."""

    def __init__(self, node: str, store: FakeStore, faults: Faults) -> None:
        self._node = node
        self._store = store
        self._faults = faults

    def exchange(self, groups: list[OperationGroup], on_reply: OnReply) -> None:
        """See `Transport.exchange`."""
        replies = [reply for index, group in enumerate(groups) for reply in self._store.execute(index, group, self._node)]
        on_reply(replies, True)

    async def describe(self) -> ClusterInfo:
        """See `Transport.describe`."""
        self._check()
        return self._store.describe(self._node)

    async def scan(self, query: ScanQuery) -> AsyncIterator[ScanPage]:
        """See `Transport.scan`."""
        for page in self._store.scan(query, self._node):
            yield page

    async def status(self) -> NodeStatus:
        """See `Transport.status`."""
        self._check()
        return self._store.status(self._node)

    async def repair(self, namespace: str, follow: int) -> RepairProgress:
        """See `Transport.repair`: its nodes hold the same at all times."""
        self._check()
        return RepairProgress(self._node, number=1, over=True)

    async def accept_loss(self, nodes: Sequence[str]) -> LossAccepted:
        """See `Transport.accept_loss`: its nodes lose nothing."""
        self._check()
        return LossAccepted(self._node)

    async def create_namespace(self, wish: NamespaceWish, timeout_s: float) -> NamespaceInfo:
        """See `Transport.create_namespace`."""
        self._check()
        return self._store.create_namespace(wish)

    async def drop_namespace(self, name: str, timeout_s: float) -> NamespaceInfo:
        """See `Transport.drop_namespace`."""
        self._check()
        return self._store.drop_namespace(name)

    async def close(self) -> None:
        """See `Transport.close`."""

    def _check(self) -> None:
        if self._faults.is_unreachable:
            raise NodeUnreachable(f"{self._node} cannot be reached: the test wants it so", subject=self._node)


class Controls:
    """What a test does with a fake client."""

    store: FakeStore
    faults: Faults

    @property
    def clock(self) -> FakeClock:
        """The time of day and of everything that expires."""
        return self.store.clock

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass, at once."""
        self.store.clock.advance(seconds)

    def fail_next(self, error: KvError | type[KvError], *, times: int = 1, applied: bool = False) -> None:
        """The next `times` calls raise `error`; with `applied` writes are executed all the same, as after a lost answer."""
        self.faults.fail_next(error, times=times, applied=applied)

    def unreachable(self) -> AbstractContextManager[None]:
        """Within the block no node can be reached."""
        return self.faults.unreachable()


class FakeAsyncClient(AsyncClient, Controls):
    """An `AsyncClient` of a cluster in memory.

    `namespaces` are those beside `default`, with their policies as in `FakeStore`. Clients that are given the same `store` see the
    same data.
    """

    def __init__(
        self,
        *,
        namespaces: Namespaces = (),
        store: FakeStore | None = None,
        level: LevelLike | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.store = store or FakeStore(namespaces=namespaces)
        self.faults = Faults()

        def dial(address: str, _: Ring) -> Transport:
            return FakeTransport(address.partition(":")[0], self.store, self.faults)

        seeds = ",".join(f"{node}:7400" for node in self.store.nodes)
        super().__init__(
            seeds,
            level=level,
            sloppy=sloppy,
            timeout_s=timeout_s,
            dial=dial,
            clock=self.store.clock,
            rng=Random(f"{SEED}/{self.store.count_client()}"),
        )

    async def connect(self, timeout_s: float | None = None) -> Dispatcher:
        """As ever; when nothing can be reached, it says so without trying for as long as it may."""
        if self.faults.is_unreachable and self.dispatcher is None:
            raise NodeUnreachable("no node can be reached: the test wants it so")
        return await super().connect(timeout_s)

    def _make_dispatcher(self, membership: Membership) -> Dispatcher:
        return FaultyDispatcher(membership, self._ids, self.rng, self._stats, hedge=self._hedge, faults=self.faults)

    def __repr__(self) -> str:
        return "<FakeAsyncClient>"


class FakeClient(Client, Controls):
    """A `Client` of a cluster in memory: `FakeAsyncClient`, blocking. To be closed as any other."""

    def __init__(
        self,
        *,
        namespaces: Namespaces = (),
        store: FakeStore | None = None,
        level: LevelLike | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
    ) -> None:
        inner = FakeAsyncClient(namespaces=namespaces, store=store, level=level, sloppy=sloppy, timeout_s=timeout_s)
        self.store, self.faults = inner.store, inner.faults
        self._use(inner)

    def __repr__(self) -> str:
        return "<FakeClient>"
