"""A cluster of real nodes in which every link, between nodes and from clients, goes through proxies of its own: of one Toxiproxy.

A link between nodes has two, for gRPC and for frames. Nodes take frames at an address that is chosen here, for a proxy to lead to.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_plane import Look
from kvchaos.faults.link_state import Link
from kvchaos.faults.linked_cluster import CLIENTS, LinkedCluster, Settings
from kvchaos.faults.nodes import NodePlace
from kvchaos.faults.proxies import Proxies, Route
from kvchaos.faults.server_binary import find_server
from kvchaos.faults.verification import find_problems
from kvchaos.ports import address, find_free_ports

__all__ = ["CLIENTS", "ProxiedCluster", "Settings"]


class ProxiedCluster(LinkedCluster):
    """See `LinkedCluster`; its proxies end with it."""

    injector: Proxies

    @property
    def proxies(self) -> Proxies:
        """Its injector."""
        return self.injector

    async def lay_out(self, stack: AsyncExitStack) -> tuple[list[NodePlace], Look]:
        """See `LinkedCluster`."""
        binary = await asyncio.to_thread(find_server)
        places, routes = self._plan()
        self.injector = await stack.enter_async_context(Proxies(binary, routes, log=self.root / "toxiproxy.log"))
        return places, find_problems

    def _plan(self) -> tuple[list[NodePlace], dict[Link, Route]]:
        """Places and routes over one row of free ports."""
        count = 3 * len(self.node_ids) + 2 * len(self.links()) + len(self.links_of_sites())
        try:
            free = iter([address(port) for port in find_free_ports(count)])
        except OSError as error:
            raise InjectorFailure(str(error)) from error
        own = {node: (next(free), next(free), next(free)) for node in self.node_ids}
        frames = {link: Route(next(free), own[link.target][2]) for link in self.links()}
        links = [*self.links(), *self.links_of_sites()]
        routes = {link: Route(next(free), own[link.target][0], frames.get(link)) for link in links}
        places = [
            NodePlace(
                node,
                listen=listen,
                advertise=routes[Link(self.sites[0], node)].listen,
                http=http,
                peers={other: routes[Link(node, other)].listen for other in self.node_ids if other != node},
                folder=self.root / node,
                cluster=self.cluster,
                namespaces=self.namespaces,
                frames=taken_at,
                peer_frames={link.target: route.listen for link, route in frames.items() if link.source == node},
            )
            for node, (listen, http, taken_at) in own.items()
        ]
        return places, routes
