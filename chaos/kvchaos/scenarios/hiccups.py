"""Nodes that lost each other though nothing kept them apart, as on a machine that is too busy: by their own logs.

What such nodes answer is `degraded` by right, until each has told what it has not handed over (safety rule 12); so whoever holds an
answer against a node has to know of it.
"""

from __future__ import annotations

import json

from kvchaos.faults.link_state import Link
from kvchaos.faults.linked_cluster import LinkedCluster
from kvchaos.faults.verification import claim_of

LOST = "peer_down"


class Hiccups:
    """From the moment it is made."""

    def __init__(self, cluster: LinkedCluster) -> None:
        self._cluster = cluster
        self._read = {node: len(cluster.nodes.said(node)) for node in cluster.node_ids}

    def until_now(self) -> list[str]:
        """A sentence for each time that a running node lost another that it reaches both ways, by what is done to links now."""
        nodes, states = self._cluster.nodes, self._cluster.injector.states
        found = []
        for link in self._cluster.links():
            back = Link(link.target, link.source)
            if all(claim_of(each, states[each], nodes) for each in (link, back)):
                found += [f"{link.source} lost {link.target}: {why}" for why in self._lost(link)]
        return found

    def _lost(self, link: Link) -> list[str]:
        said = self._cluster.nodes.said(link.source)[self._read[link.source] :]
        events = [json.loads(line) for line in said.splitlines() if LOST in line and line.startswith("{") and line.endswith("}")]
        return [str(event.get("reason")) for event in events if event.get("event") == LOST and event.get("peer") == link.target]
