"""A cluster of real nodes in which every link, between nodes and from clients, can be broken; by what, its subclasses say.

Node i dials node j only by that link's own way; clients are told the ways of the first site, those of other sites get a map. That
nothing goes another way is tried when the cluster comes up: with every link refused no node may see another.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from kvchaos.disks.build import CannotBuild, build_shim
from kvchaos.disks.recorded import RecordedDisk
from kvchaos.faults import probes
from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_plane import Injector, LinkPlane, Look
from kvchaos.faults.link_state import Kind, Link
from kvchaos.faults.nodes import NodePlace, NodeProcesses
from kvchaos.history import Recorder
from kvclient import AsyncClient

CLIENTS = "clients"

DIALLED_ANEW_S = 0.5
"""A node whose stream to a peer has ended dials it again after less than this."""

Settings = Mapping[str, Mapping[str, str | int | float]]


class LinkedCluster(ABC):
    """Nodes n1, n2, … below `root` and their plane; an async context manager that ends all of them.

    `sites` are places that clients call from: a link from each to every node. `namespaces` are tables of node.toml by name. What
    happens is written to `recorder`, by default one on the event loop's clock. `recorded`: what nodes write and sync is written
    down, so that their power can be cut; it takes Linux and a C compiler.
    """

    def __init__(
        self,
        root: Path,
        *,
        nodes: int = 3,
        sites: Sequence[str] = (CLIENTS,),
        namespaces: Settings | None = None,
        cluster: Mapping[str, str | int | float] | None = None,
        recorder: Recorder | None = None,
        command: Sequence[str] | None = None,
        recorded: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.root = root.resolve()
        self.sites = tuple(sites)
        self.recorder = recorder or Recorder(lambda: int(loop.time() * 1e9))
        self.node_ids = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.namespaces = dict(namespaces or {"default": {"preset": "pa-ec"}})
        self.cluster = {"id": f"chaos-{random.SystemRandom().getrandbits(64):016x}", **(cluster or {})}
        self._command = command
        self._recorded = recorded
        self._open = AsyncExitStack()
        self.nodes: NodeProcesses
        self.injector: Injector
        self.prefixes: Mapping[str, Sequence[str]] = {}
        self.plane: LinkPlane

    async def __aenter__(self) -> Self:
        try:
            places, look = await self.lay_out(self._open)
            self.nodes = NodeProcesses(places, command=self._command, disks=await self._disks(places), prefixes=self.prefixes)
            self._open.push_async_callback(self.nodes.end)
            await self.nodes.start()
            self.plane = LinkPlane(self.injector, self.nodes, self.recorder, look=look)
            await self._prove_routes()
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._open.aclose()
        if error is None and self.plane.unseen:
            raise InjectorFailure(f"over without having been seen: {', '.join(self.plane.unseen)}")

    @abstractmethod
    async def lay_out(self, stack: AsyncExitStack) -> tuple[list[NodePlace], Look]:
        """Opens `injector`, which `stack` closes; the places of the nodes, and who looks at links. Raises `InjectorFailure`."""

    def addresses(self, site: str | None = None) -> str:
        """Where clients of a site (by default the first) find the cluster."""
        return ",".join(self.address_map(site).values())

    def address_map(self, site: str | None = None) -> dict[str, str]:
        """The same by node: `AsyncClient(cluster.addresses(site), address_map=cluster.address_map(site))`."""
        return {node: self.injector.routes[Link(site or self.sites[0], node)].listen for node in self.node_ids}

    def client(self, site: str | None = None, **options: Any) -> AsyncClient:
        """A client at a site, an async context manager; `options` are those of `AsyncClient`."""
        return AsyncClient(self.addresses(site), address_map=self.address_map(site), **options)

    def links(self) -> list[Link]:
        """Those between nodes."""
        return [Link(source, target) for source in self.node_ids for target in self.node_ids if source != target]

    def links_of_sites(self) -> list[Link]:
        """Those from clients to nodes."""
        return [Link(site, node) for site in self.sites for node in self.node_ids]

    async def _disks(self, places: Sequence[NodePlace]) -> dict[str, RecordedDisk]:
        if not self._recorded:
            return {}
        try:
            library = await asyncio.to_thread(build_shim)
        except CannotBuild as error:
            raise InjectorFailure(f"power cannot be cut: {error}") from error
        return {place.id: RecordedDisk(library, place.data, place.folder) for place in places}

    async def _prove_routes(self) -> None:
        """Everything answers through the proxies; with those between nodes refused no node sees another; then all see all again."""
        await self.plane.verify()
        if len(self.node_ids) > 1:
            await self.plane.partition([[node] for node in self.node_ids], kind=Kind.REFUSE)
            await self.plane.verify()
            # A node that has just lost what the proxies carried sees nobody either, until it dials anew, past them or not.
            await asyncio.sleep(DIALLED_ANEW_S)
            await self.plane.verify()
            await self.plane.heal()
            await self.plane.verify()
        for node, place in self.nodes.places.items():
            try:
                told = {member.id: member.address for member in (await probes.describe(place.listen)).members}
            except grpc.aio.AioRpcError as error:
                raise InjectorFailure(f"{node} does not describe the ring: {error.details()}") from error
            if told != self.address_map():
                raise InjectorFailure(f"{node} tells clients {told}: they would not go by {self.address_map()}")
