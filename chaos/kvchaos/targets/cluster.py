"""A cluster of another store in which every link goes through a Toxiproxy of its own, and the plane that breaks them.

What differs from store to store (ports, commands, when it has settled, how it is proven that nothing goes past the proxies) is its
own class's, below.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_plane import LinkPlane
from kvchaos.faults.link_state import Kind, Link
from kvchaos.faults.proxied_cluster import CLIENTS
from kvchaos.faults.proxies import Proxies, Route
from kvchaos.faults.server_binary import find_server
from kvchaos.history import Recorder
from kvchaos.ports import find_free_ports
from kvchaos.targets.questions import Looker, Question
from kvchaos.targets.servers import TargetPlace, TargetProcesses


class TargetCluster(ABC):
    """Servers below `root`, their proxies and the plane; an async context manager that ends all of them.

    `sites` are places that clients call from: a link from each to every server. What happens is written to `recorder`, by default
    one on the event loop's clock. Entering raises `TargetFailed` where the store cannot be had.
    """

    node_ids: Sequence[str]
    question: Question
    ports_each: int
    """Ports of its own that each server needs."""

    def __init__(self, root: Path, *, sites: Sequence[str] = (CLIENTS,), recorder: Recorder | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.root = root
        self.sites = tuple(sites)
        self.recorder = recorder or Recorder(lambda: int(loop.time() * 1e9))
        self._open = AsyncExitStack()
        self.nodes: TargetProcesses
        self.proxies: Proxies
        self.plane: LinkPlane

    async def __aenter__(self) -> Self:
        toxiproxy = await asyncio.to_thread(find_server)
        await asyncio.to_thread(self.find_binary)
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            links = len(self.links()) + len(self.sites) * len(self.node_ids)
            ports = iter(find_free_ports(self.ports_each * len(self.node_ids) + links))
            places, routes = self.plan(ports)
            self.proxies = await self._open.enter_async_context(Proxies(toxiproxy, routes, log=self.root / "toxiproxy.log"))
            await self.before_start(self._open)
            self.nodes = TargetProcesses(places)
            self._open.push_async_callback(self.nodes.end)
            await self.nodes.start()
            self.plane = LinkPlane(self.proxies, self.nodes, self.recorder, look=Looker(self.question).find_problems)
            await self.settle()
            await self._prove_routes()
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._open.aclose()
        if error is None and self.plane.unseen:
            raise InjectorFailure(f"over without having been seen: {', '.join(self.plane.unseen)}")

    def links(self) -> list[Link]:
        """Those between servers."""
        return [Link(source, target) for source in self.node_ids for target in self.node_ids if source != target]

    def address(self, node: str, site: str | None = None) -> str:
        """Where clients of a site (by default the first) reach a server."""
        return self.proxies.routes[Link(site or self.sites[0], node)].listen

    @abstractmethod
    def find_binary(self) -> None:
        """Finds what is run, or raises `TargetFailed`. Blocks."""

    @abstractmethod
    def plan(self, ports: Iterator[int]) -> tuple[list[TargetPlace], dict[Link, Route]]:
        """The servers, and the route of every link, with `ports` to take."""

    async def before_start(self, stack: AsyncExitStack) -> None:
        """Opens what must be there before the servers are, nothing by default; `stack` closes it."""
        del stack

    @abstractmethod
    async def settle(self) -> None:
        """Returns when all servers work together. Raises `TargetFailed` when they do not in time."""

    @abstractmethod
    async def is_apart(self) -> bool:
        """Whether the servers have noticed that no link between them is left."""

    async def _prove_routes(self) -> None:
        """Everything answers through the proxies; with those between servers refused they are apart; then they work together
        again."""
        await self.plane.verify()
        await self.plane.partition([[node] for node in self.node_ids], kind=Kind.REFUSE)
        await self.plane.verify()
        if not await self.is_apart():
            raise InjectorFailure("the servers work together though every link between them is cut: they go past the proxies")
        await self.plane.heal()
        await self.plane.verify()
        await self.settle()
