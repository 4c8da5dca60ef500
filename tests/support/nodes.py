"""Real nodes in this process: LevelDB in a temporary directory, gRPC on free ports of the loopback address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kvproto.columns import OperationGroup
from kvstore.config import ClusterConfig, NodeConfig, TelemetryConfig, TlsConfig
from kvstore.local_node import LocalNode
from kvstore.node import Node
from tests.support.cluster import Answer
from tests.support.waiting import until

SETTINGS = ClusterConfig(id="test", partitions=8)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Nodes:
    """Configurations of the nodes `ids` below `root`, and those that run. Use as `async with`: what still runs is stopped. A node
    starts with what `tls` has for it."""

    def __init__(
        self,
        root: Path,
        ids: Sequence[str] = ("n1", "n2"),
        *,
        settings: ClusterConfig = SETTINGS,
        has_http: bool = False,
        telemetry: TelemetryConfig | None = None,
    ) -> None:
        self.root = root
        self.ids = list(ids)
        self.settings = settings
        ports = free_ports(2 * len(ids))
        self.addresses = {node: f"127.0.0.1:{port}" for node, port in zip(ids, ports[: len(ids)], strict=True)}
        self.http = {node: f"127.0.0.1:{port}" for node, port in zip(ids, ports[len(ids) :], strict=True)} if has_http else {}
        self.telemetry = telemetry or TelemetryConfig()
        self.running: dict[str, Node] = {}
        self.tls: dict[str, TlsConfig | None] = {}

    async def __aenter__(self) -> Nodes:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.gather(*(self.stop(node) for node in list(self.running)))

    def config(self, node: str, **changes: object) -> NodeConfig:
        values: dict[str, object] = {
            "node_id": node,
            "listen": self.addresses[node],
            "advertise": self.addresses[node],
            "data": self.root / node,
            "peers": {other: address for other, address in self.addresses.items() if other != node},
            "cluster": self.settings,
            "http": self.http.get(node, ""),
            "telemetry": self.telemetry,
            "tls": self.tls.get(node),
            **changes,
        }
        return NodeConfig(**values)  # type: ignore[arg-type]

    async def start(self, *ids: str) -> None:
        """Starts nodes one after the other and waits until those that run see each other."""
        for node in ids or self.ids:
            await self.start_one(node)
        await until(self.is_linked)

    async def start_one(self, node: str) -> None:
        """Starts a node and waits for no more than it does."""
        self.running[node] = Node(self.config(node))
        await self.running[node].start()

    async def stop(self, node: str) -> None:
        """The clean end of a node."""
        await self.running.pop(node).stop()

    def local(self, node: str) -> LocalNode:
        local = self.running[node].local
        assert local is not None
        return local

    def is_linked(self) -> bool:
        """Whether every running node has a link to every other one that runs."""
        return all(
            state == "alive" for node in self.running.values() for other, state, _ in node.link_states() if other in self.running
        )

    async def run(self, node: str, *groups: OperationGroup) -> Answer:
        answer = Answer(groups)
        await self.local(node).coordinator.execute(groups, answer.take)
        return await answer.complete()
