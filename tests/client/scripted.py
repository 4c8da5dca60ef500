"""Nodes whose answers come when the test says so, behind the client's transport seam: no server, no network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from kvclient import KvError, NodeUnreachable
from kvclient.transport import OnReply, Ring, Transport
from kvproto.columns import (
    ClusterInfo,
    GroupReply,
    LossAccepted,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    OperationGroup,
    Receipt,
    RepairProgress,
    ScanPage,
    ScanQuery,
)
from tests.client.fake_server import FakeCluster, FakeStore


class Scripted:
    """A node whose batches wait in `open` until they are answered or failed."""

    def __init__(self, address: str, world: World) -> None:
        self.address = address
        self.world = world
        self.open: list[tuple[list[OperationGroup], OnReply]] = []
        self.received: list[list[OperationGroup]] = []
        self.answers_questions = True
        self.on_its_own = True

    def exchange(self, groups: list[OperationGroup], on_reply: OnReply) -> None:
        self.received.append(groups)
        self.open.append((groups, on_reply))
        if self.on_its_own:
            asyncio.get_running_loop().call_soon(self.answer)

    def answer(self) -> None:
        """Executes and answers the oldest batch."""
        groups, on_reply = self.open.pop(0)
        store = self.world.cluster.store
        on_reply([store.answer(index, group, list(range(len(group.keys))), Receipt()) for index, group in enumerate(groups)], True)

    def fail(self, error: KvError) -> None:
        """Ends the oldest batch with `error`."""
        groups, on_reply = self.open.pop(0)
        on_reply([GroupReply(group=index, error=error) for index in range(len(groups))], True)

    async def describe(self) -> ClusterInfo:
        if not self.answers_questions:
            raise NodeUnreachable("silent", subject=self.address)
        node = next(node for node in self.world.cluster.nodes if node.address == self.address)
        return self.world.cluster.describe(node)

    async def scan(self, query: ScanQuery) -> AsyncIterator[ScanPage]:
        yield ScanPage()

    async def status(self) -> NodeStatus:
        raise NodeUnreachable("no status", subject=self.address)

    async def repair(self, namespace: str, follow: int) -> RepairProgress:
        raise NodeUnreachable("no repair", subject=self.address)

    async def accept_loss(self, nodes: Sequence[str]) -> LossAccepted:
        raise NodeUnreachable("no loss", subject=self.address)

    async def create_namespace(self, wish: NamespaceWish, timeout_s: float) -> NamespaceInfo:
        raise AssertionError("not asked here")

    async def drop_namespace(self, name: str, timeout_s: float) -> NamespaceInfo:
        raise AssertionError("not asked here")

    async def close(self) -> None:
        self.open.clear()


class World:
    """The nodes of a fake cluster without servers, each behind a scripted transport."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.cluster.store = FakeStore()
        self.transports: dict[str, Scripted] = {}
        for node in self.cluster.nodes:
            node.address = f"{node.node_id}:1"

    def dial(self, address: str, ring: Ring) -> Transport:
        return self.transports.setdefault(address, Scripted(address, self))

    def node(self, key: bytes, rank: int = 0) -> Scripted:
        """The transport to the key's owner of that rank."""
        return self.transports[self.cluster.owners(key)[rank].address]

    def keys_of(self, node: Scripted, count: int) -> list[str]:
        """Keys whose first owner is `node`."""
        return [key for key in (f"k{number}" for number in range(10_000)) if self.node(key.encode()) is node][:count]
