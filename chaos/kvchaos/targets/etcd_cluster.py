"""Three etcd members, with etcd's defaults, as a target."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

from kvchaos.faults.link_state import Link
from kvchaos.faults.proxies import Route
from kvchaos.ports import address
from kvchaos.targets.cluster import TargetCluster
from kvchaos.targets.doors import Door, split
from kvchaos.targets.etcd_binary import EtcdBinary, find_etcd
from kvchaos.targets.etcd_store import EtcdStore
from kvchaos.targets.failures import TargetFailed
from kvchaos.targets.questions import HTTP_VERSION
from kvchaos.targets.servers import TargetPlace
from kvproto.errors import KvError

PEER_PORT = 2380
SETTLE_TIMEOUT_S = 60.0
PUT_TIMEOUT_S = 1.5


class EtcdTarget(TargetCluster):
    """Members m1, m2, m3. `leader` says who leads; `store` speaks to one member."""

    node_ids = ("m1", "m2", "m3")
    question = HTTP_VERSION
    ports_each = 3  # clients, peers, its door

    binary: EtcdBinary
    _doors: list[Door]
    _direct: dict[str, str]

    def find_binary(self) -> None:
        """See `TargetCluster`."""
        self.binary = find_etcd()

    def plan(self, ports: Iterator[int]) -> tuple[list[TargetPlace], dict[Link, Route]]:
        """See `TargetCluster`."""
        own = {node: (address(next(ports)), address(next(ports)), address(next(ports))) for node in self.node_ids}
        routes = {link: Route(address(next(ports)), own[link.target][1]) for link in self.links()}
        routes |= {Link(site, node): Route(address(next(ports)), own[node][0]) for site in self.sites for node in self.node_ids}
        self._direct = {node: clients for node, (clients, _, _) in own.items()}
        self._doors = [
            Door(door, {advertised(other): routes[Link(node, other)].listen for other in self.node_ids if other != node})
            for node, (_, _, door) in own.items()
        ]
        return [self._place(node, *own[node]) for node in self.node_ids], routes

    async def before_start(self, stack: AsyncExitStack) -> None:
        """See `TargetCluster`."""
        for door in self._doors:
            await stack.enter_async_context(door)

    async def settle(self) -> None:
        """Returns when a put through each member was committed."""
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                for node in self.node_ids:
                    while not await self._commits(node):
                        self.nodes.check()
        except TimeoutError:
            raise TargetFailed(f"etcd: no leader within {SETTLE_TIMEOUT_S:.0f} s") from None
        if not all(door.passed for door in self._doors):
            raise TargetFailed("etcd: a member does not go through its door: it dials its peers directly")

    async def is_apart(self) -> bool:
        """See `TargetCluster`."""
        return not any(await asyncio.gather(*map(self._commits, self.node_ids)))

    async def leader(self) -> str:
        """Who says that it leads. Raises `TargetFailed` when nobody does in time."""
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while True:
                    for node in self.node_ids:
                        if "etcd_server_is_leader 1" in await _metrics(self._direct[node]):
                            return node
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise TargetFailed(f"etcd: nobody has led for {SETTLE_TIMEOUT_S:.0f} s") from None

    def store(self, node: str, site: str | None = None) -> EtcdStore:
        """A client of one member; whoever asks closes it."""
        return EtcdStore(self.address(node, site), node=node)

    async def _commits(self, node: str) -> bool:
        store = EtcdStore(self._direct[node], node=node)
        try:
            await store.put("settled", node.encode(), timeout_s=PUT_TIMEOUT_S)
        except KvError:
            await asyncio.sleep(0.05)
            return False
        finally:
            await store.close()
        return True

    def _place(self, node: str, clients: str, peers: str, door: str) -> TargetPlace:
        folder = self.root / node
        everybody = ",".join(f"{other}=http://{advertised(other)}" for other in self.node_ids)
        command = [
            *(str(self.binary.path), "--name", node, "--data-dir", str(folder / "data"), "--log-level", "warn"),
            *("--listen-client-urls", f"http://{clients}", "--advertise-client-urls", f"http://{clients}"),
            *("--listen-peer-urls", f"http://{peers}", "--initial-advertise-peer-urls", f"http://{advertised(node)}"),
            *("--initial-cluster", everybody, "--initial-cluster-state", "new", "--initial-cluster-token", self.root.name),
            # Our channel options ping every 2 s; etcd's default would answer pings that frequent with GOAWAY.
            *("--grpc-keepalive-min-time", "500ms"),
        ]
        return TargetPlace(
            node,
            listen=peers,
            advertise=clients,
            http="",
            peers={},
            folder=folder,
            command=command,
            environment={"HTTP_PROXY": f"socks5://{door}"},
            question=HTTP_VERSION,
        )


def advertised(node: str) -> str:
    """Where all members believe a member to be; nobody is there, the doors know better."""
    return f"192.0.2.{node.removeprefix('m')}:{PEER_PORT}"


async def _metrics(where: str) -> str:
    try:
        reader, writer = await asyncio.open_connection(*split(where))
    except ConnectionError:
        return ""
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(2.0):
            return (await reader.read(-1)).decode(errors="replace")
    except (ConnectionError, TimeoutError):
        return ""
    finally:
        writer.close()
