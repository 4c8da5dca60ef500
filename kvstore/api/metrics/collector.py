"""One node's metrics, put together when somebody asks: what the event loop owns is read on it, in one turn, so that a page is of
one moment; what lies on disk is read beside it, where the text is made as well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kvstore.api.metrics.repair import collect_repair, collect_trees
from kvstore.api.metrics.replication import collect_endings, collect_hints, collect_links, collect_pace, collect_ring
from kvstore.api.metrics.requests import collect_calls, collect_requests
from kvstore.api.metrics.runtime import collect_runtime
from kvstore.api.metrics.storage import KeyEstimate, collect_commits, collect_engine, collect_memory, collect_store
from kvstore.local_node import LocalNode
from kvstore.transport.peer_link import PeerLink


class Exposition:
    """The text of /metrics, for one reader at a time."""

    def __init__(
        self,
        local: LocalNode,
        links: Mapping[str, PeerLink],
        certificate_expires_at_ms: Callable[[], int | None],
        membership: Callable[[], Iterator[Metric]],
    ) -> None:
        """`membership` gives the families of failure detection."""
        self._collector = _NodeCollector(local, links, certificate_expires_at_ms, membership)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._reading = asyncio.Lock()

    async def render(self, accept: str) -> tuple[bytes, str]:
        """The text, as a reader that sends `accept` wants it, and its content type."""
        encode, content_type = choose_encoder(accept)
        async with self._reading:
            self._collector.read()
            return await asyncio.get_running_loop().run_in_executor(None, encode, self._registry), content_type


class _NodeCollector(Collector):
    """Every family of a node: `read` on the loop, then `collect` on any thread."""

    def __init__(
        self,
        local: LocalNode,
        links: Mapping[str, PeerLink],
        expires_at_ms: Callable[[], int | None],
        membership: Callable[[], Iterator[Metric]],
    ) -> None:
        self._membership = membership
        self._local = local
        self._links = links
        self._expires_at_ms = expires_at_ms
        self._keys = KeyEstimate(local.engine)
        self._engine = local.engine.statistics().get("engine", type(local.engine).__name__)
        self._read: list[Metric] = []

    def read(self) -> None:
        """Takes what the event loop owns, as of now."""
        self._read = list(self._of_the_loop())

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: no two collectors of a node share a name."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """What was read, and what lies on disk."""
        yield from self._read
        yield from collect_engine(self._local.engine, self._local.ring.view, self._keys)

    def _of_the_loop(self) -> Iterator[Metric]:
        local, telemetry = self._local, self._local.telemetry
        yield from collect_runtime(local.config, self._engine, telemetry, self._expires_at_ms())
        if telemetry.requests is not None:
            yield from collect_requests(local, telemetry.requests)
        if telemetry.calls is not None:
            yield from collect_calls(telemetry.calls)
        yield from collect_links(self._links)
        yield from self._membership()
        yield from collect_hints(local.hints, local.upkeep.handoff.replayed)
        yield from collect_endings(local.upkeep.reaper, local.upkeep.reap_votes, local.upkeep.freshness)
        yield from collect_pace(local.pace)
        yield from collect_ring(local.ring.view)
        if local.storage.forest is not None and local.mending is not None:
            yield from collect_repair(local.mending.anti_entropy, local.mending.lost_records)
            yield from collect_trees(local.storage.forest, local.mending.trees, local.returning.rebuilding)
        if telemetry.commits is not None:
            yield from collect_commits(local, telemetry.commits)
        yield from collect_store(local)
        yield from collect_memory(local)
