"""Nodes that speak kvproto.v1 over real gRPC and answer from one shared dictionary, with faults on request.

They know nothing of replication: what is under test is the client. Each node keeps a log of the batches it was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from grpc import aio

from kvproto.admin_codec import encode_cluster, encode_status
from kvproto.codec import decode_groups, decode_scan, encode_page, encode_replies
from kvproto.columns import ClusterInfo, GroupReply, Kind, MemberInfo, NamespaceInfo, NodeStatus, OperationGroup, Receipt, ScanPage
from kvproto.errors import KvError
from kvproto.options import SERVER_OPTIONS
from kvproto.partitions import partition_of, partition_shift
from kvproto.v1 import admin_pb2, admin_pb2_grpc, key_value_pb2, key_value_pb2_grpc

SERVER_TIME_MS = 1_900_000_000_000
PARTITIONS = 16
PAGE_KEYS = 10

Write = Callable[[list[GroupReply], int, bool], Awaitable[None]]


@dataclass
class FakeStore:
    """What all the nodes hold. A write whose request id is known is not executed again."""

    values: dict[tuple[str, bytes], list[bytes]] = field(default_factory=dict)
    versions: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    done: dict[bytes, bytes] = field(default_factory=dict)
    executions: int = 0
    alone: bool = False

    def write(self, group: OperationGroup, at: int) -> bytes:
        """Executes one put or delete; returns its version."""
        request_id = group.request_ids[16 * at : 16 * at + 16]
        if request_id in self.done:
            return self.done[request_id]
        self.executions += 1
        version = self.executions.to_bytes(20, "big")
        name = (group.namespace, group.keys[at])
        if group.kind is Kind.DELETE:
            self.values.pop(name, None)
        elif group.contexts and group.contexts[at] == b"\x01\x00\x00":
            self.values.setdefault(name, []).append(group.values[at])
        else:
            self.values[name] = [group.values[at]]
        self.versions[name] = self.done[request_id] = version
        return version

    def answer(self, index: int, group: OperationGroup, positions: list[int], receipt: Receipt) -> GroupReply:
        """The reply to these positions of `group`."""
        whole = len(positions) == len(group.keys)
        reply = GroupReply(group=index, positions=None if whole else positions, receipt=receipt)
        if group.kind is not Kind.GET:
            versions = [self.write(group, at) for at in positions]
            reply.versions = b"".join(versions)
            reply.contexts = [b"\x01" + version for version in versions]
            reply.alone = self.alone
            return reply
        held = [self.values.get((group.namespace, group.keys[at]), []) for at in positions]
        reply.counts = [len(values) for values in held]
        reply.values = [value for values in held for value in values]
        names = [(group.namespace, group.keys[at]) for at in positions]
        reply.versions = b"".join(self.versions[name] for name, values in zip(names, held, strict=True) for _ in values)
        reply.contexts = [b"\x01" + self.versions.get(name, b"") for name in names]
        return reply


class FakeNode(key_value_pb2_grpc.KeyValueServicer, admin_pb2_grpc.AdminServicer):
    """One node. The public attributes after `batches` are its faults."""

    def __init__(self, node_id: str, store: FakeStore, describe: Callable[[FakeNode], ClusterInfo]) -> None:
        self.node_id = node_id
        self.address = ""
        self.batches: list[list[OperationGroup]] = []
        self.describes = 0
        self.answer_in_parts = False
        self.errors: list[KvError] = []
        self.hold: asyncio.Event | None = None
        self.hold_everything: asyncio.Event | None = None
        self.break_before = 0
        self.break_after = 0
        self.reply_epoch = 1
        self.page_errors: list[KvError] = []
        self._store = store
        self._describe = describe
        self._server: aio.Server | None = None

    @property
    def groups(self) -> list[OperationGroup]:
        """Every group received, in order."""
        return [group for batch in self.batches for group in batch]

    async def start(self) -> None:
        """Listens, on the port of before if there was one."""
        self._server = aio.server(options=SERVER_OPTIONS)
        register: Any = key_value_pb2_grpc.add_KeyValueServicer_to_server
        register(self, self._server)
        register = admin_pb2_grpc.add_AdminServicer_to_server
        register(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Goes away at once, as a killed process does."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def Exchange(self, requests: AsyncIterator[Any], context: Any) -> None:
        """Answers batches; a held batch does not stop those behind it."""
        tasks: set[asyncio.Task[None]] = set()
        lock = asyncio.Lock()

        async def write(replies: list[GroupReply], batch_id: int, last: bool) -> None:
            async with lock:  # gRPC allows one write at a time
                await context.write(encode_replies(batch_id, replies, last=last, ring_epoch=self.reply_epoch))

        try:
            async for request in requests:
                if self.break_before:
                    self.break_before -= 1
                    return
                groups = decode_groups(request)
                self.batches.append([_copy(group) for group in groups])
                tasks.add(asyncio.create_task(self._answer(request.batch_id, self.batches[-1], write)))
                if self.break_after:
                    self.break_after -= 1
                    await asyncio.gather(*tasks)
                    return
        finally:
            for task in tasks:
                task.cancel()

    async def Batch(self, request: Any, context: Any) -> Any:
        """Not used by the client."""
        raise NotImplementedError

    async def Scan(self, request: Any, context: Any) -> AsyncIterator[key_value_pb2.ScanReply]:
        """Pages of a few keys."""
        query = decode_scan(request)
        keys = sorted(key for namespace, key in self._store.values if namespace == query.namespace)
        keys = [key for key in keys if key.startswith(query.prefix) and key >= query.start and key > query.after]
        keys = [key for key in keys if not query.end or key < query.end][: query.limit or None]
        for first in range(0, len(keys), PAGE_KEYS):
            page = keys[first : first + PAGE_KEYS]
            held = [self._store.values[(query.namespace, key)] for key in page]
            versions = b"".join(
                self._store.versions[(query.namespace, key)] * len(values) for key, values in zip(page, held, strict=True)
            )
            error = self.page_errors.pop() if first and self.page_errors else None
            yield encode_page(
                ScanPage(
                    keys=page,
                    counts=[len(values) for values in held],
                    values=[value for values in held for value in values],
                    versions=versions,
                    error=error,
                )
            )
            if error is not None:
                return

    async def Describe(self, request: admin_pb2.DescribeRequest, context: Any) -> admin_pb2.DescribeReply:
        """The ring."""
        self.describes += 1
        if self.hold_everything is not None:
            await self.hold_everything.wait()
        return encode_cluster(self._describe(self))

    async def Repair(self, request: admin_pb2.RepairRequest, context: Any) -> admin_pb2.RepairReply:
        return admin_pb2.RepairReply()

    async def Status(self, request: admin_pb2.StatusRequest, context: Any) -> admin_pb2.StatusReply:
        """Some numbers."""
        keys = len(self._store.values)
        return encode_status(NodeStatus(self.node_id, self.address, "a", "alive", ring_epoch=1, keys=keys, version="0.1.0"))

    async def _answer(self, batch_id: int, groups: list[OperationGroup], write: Write) -> None:
        receipt = Receipt(needed=1, n=1, n_asked=1, coordinator=self.node_id, ring_epoch=self.reply_epoch)
        if self.hold_everything is not None:
            await self.hold_everything.wait()
        elif self.hold is not None:
            await self.hold.wait()
        if self.errors:
            error = self.errors.pop(0)
            replies = [GroupReply(group=index, error=error) for index in range(len(groups))]
            await write(replies, batch_id, True)
        elif self.answer_in_parts:
            for parity in (1, 0):
                replies = [
                    self._store.answer(index, group, list(range(parity, len(group.keys), 2)), receipt)
                    for index, group in enumerate(groups)
                    if len(group.keys) > parity
                ]
                await write(replies, batch_id, parity == 0)
        else:
            replies = [
                self._store.answer(index, group, list(range(len(group.keys))), receipt) for index, group in enumerate(groups)
            ]
            await write(replies, batch_id, True)


def _copy(group: OperationGroup) -> OperationGroup:
    """Lists instead of protobuf's containers, which end with their message."""
    return replace(
        group,
        keys=list(group.keys),
        values=list(group.values),
        contexts=list(group.contexts),
        ttls_ms=list(group.ttls_ms),
        timeouts_ms=list(group.timeouts_ms),
    )


class FakeCluster:
    """Some nodes of one ring; the first owner of partition p is node p modulo their number."""

    def __init__(self, nodes: int = 3) -> None:
        self.store = FakeStore()
        self.nodes = [FakeNode(f"n{number + 1}", self.store, self.describe) for number in range(nodes)]
        self.members = list(self.nodes)
        self.epoch = 1
        self.retry_window_ms = 10_000
        self.namespaces = (
            NamespaceInfo(1, "default", "eventual", "pa-ec", 3, 3, 2, 2),
            NamespaceInfo(2, "users", "eventual", "pa-ec", 3, 3, 2, 2),
        )

    @property
    def seeds(self) -> str:
        """Where to connect."""
        return ",".join(node.address for node in self.nodes)

    @property
    def batches(self) -> int:
        """How many messages all nodes received."""
        return sum(len(node.batches) for node in self.nodes)

    def first_owner(self, key: bytes) -> FakeNode:
        """The node a client should ask first."""
        return self.owners(key)[0]

    def owners(self, key: bytes) -> list[FakeNode]:
        """The preference list of `key`."""
        partition = partition_of(key, partition_shift(PARTITIONS))
        return [self.members[(partition + rank) % len(self.members)] for rank in range(len(self.members))]

    def describe(self, asked: FakeNode) -> ClusterInfo:
        """The ring as every node knows it."""
        count = len(self.members)
        owners = [(partition + rank) % count for partition in range(PARTITIONS) for rank in range(count)]
        return ClusterInfo(
            cluster_id="fake",
            node_id=asked.node_id,
            version="0.1.0",
            ring_epoch=self.epoch,
            ring_hash=self.epoch,
            partitions=PARTITIONS,
            members=tuple(MemberInfo(node.node_id, node.address, "a") for node in self.members),
            owners_per_partition=count,
            owners=b"".join(owner.to_bytes(2, "big") for owner in owners),
            namespaces=self.namespaces,
            key_bytes_max=4096,
            value_bytes_max=1024 * 1024,
            server_time_ms=SERVER_TIME_MS,
            retry_window_ms=self.retry_window_ms,
        )

    async def __aenter__(self) -> Self:
        for node in self.nodes:
            await node.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for node in self.nodes:
            for event in (node.hold, node.hold_everything):
                if event is not None:
                    event.set()
            await node.stop()
