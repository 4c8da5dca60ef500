"""A cluster of real nodes in namespaces of their own. Its interface, and what is proven when it comes up, are those of
`ProxiedCluster`.

Addresses are of 198.18.0.0/15, which is set aside for tests (RFC 2544). There is a subnet for the nodes among themselves, one
for each site of clients, so that a rule can tell from where somebody calls, and one by which the harness itself looks, which no
rule touches.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack

from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_plane import Look
from kvchaos.faults.link_state import Link
from kvchaos.faults.linked_cluster import LinkedCluster
from kvchaos.faults.nodes import NodePlace
from kvchaos.netns.namespaces import Network, why_not
from kvchaos.netns.rules import Path, Rules
from kvchaos.netns.sights import Sights, prefixes_of

PORT, FRAMES_PORT, HTTP_PORT = 7400, 7401, 7402
PORTS = f"{PORT}:{FRAMES_PORT}"
"""Those at which nodes reach each other: neighbours, so that one rule meets both."""
SUBNETS_MAX = 8
OWN = 254
_numbers = itertools.count()


class NetnsCluster(LinkedCluster):
    """Nodes n1, n2, … below `root`, each in its namespace; an async context manager that ends and removes all of them."""

    injector: Rules

    async def lay_out(self, stack: AsyncExitStack) -> tuple[list[NodePlace], Look]:
        """See `LinkedCluster`. Raises `InjectorFailure` where there can be no namespaces."""
        if missing := await asyncio.to_thread(why_not):
            raise InjectorFailure(f"no network namespaces: {missing}")
        if len(self.sites) > SUBNETS_MAX - 2:
            raise ValueError(f"there are subnets for {SUBNETS_MAX - 2} sites")
        base = random.SystemRandom().randrange(256 // SUBNETS_MAX) * SUBNETS_MAX
        subnets = {name: f"198.18.{base + at}" for at, name in enumerate(("", *self.sites, "harness"))}
        hosts = {node: number for number, node in enumerate(self.node_ids, start=1)}
        network = Network(
            self.node_ids,
            {node: [f"{subnet}.{host}/24" for subnet in subnets.values()] for node, host in hosts.items()},
            [f"{subnet}.{OWN}/24" for name, subnet in subnets.items() if name],
            next(_numbers),
        )
        await asyncio.to_thread(network.make)
        stack.push_async_callback(asyncio.to_thread, network.remove)
        self.prefixes = prefixes_of(network.namespaces)
        self.injector = Rules(self._routes(subnets, hosts, network.namespaces))
        return [self._place(node, subnets, hosts) for node in self.node_ids], Sights(network.namespaces).find_problems

    def _routes(self, subnets: Mapping[str, str], hosts: Mapping[str, int], namespaces: Mapping[str, str]) -> dict[Link, Path]:
        def path(link: Link) -> Path:
            subnet = subnets[link.source if link.source in self.sites else ""]
            source = hosts.get(link.source, OWN)
            return Path(f"{subnet}.{source}", f"{subnet}.{hosts[link.target]}:{PORT}", namespaces[link.target], PORTS)

        return {link: path(link) for link in (*self.links(), *self.links_of_sites())}

    def _place(self, node: str, subnets: Mapping[str, str], hosts: Mapping[str, int]) -> NodePlace:
        return NodePlace(
            node,
            listen=f"{subnets['harness']}.{hosts[node]}:{PORT}",
            bind=f"0.0.0.0:{PORT}",
            advertise=self.injector.routes[Link(self.sites[0], node)].listen,
            http=f"127.0.0.1:{HTTP_PORT}",
            peers={other: self.injector.routes[Link(node, other)].listen for other in self.node_ids if other != node},
            folder=self.root / node,
            cluster=self.cluster,
            namespaces=self.namespaces,
            frames=f"0.0.0.0:{FRAMES_PORT}",
        )
