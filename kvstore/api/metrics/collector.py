"""One node's registry: every family there is, put together when somebody asks. Called off the event loop; it takes what it reads as
it finds it, and a sum may be a batch ahead of its count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from kvstore.api.metrics.replication import collect_links, collect_ring
from kvstore.api.metrics.requests import collect_calls, collect_requests
from kvstore.api.metrics.runtime import collect_runtime
from kvstore.api.metrics.storage import KeyEstimate, collect_commits, collect_store
from kvstore.local_node import LocalNode
from kvstore.transport.peer_link import PeerLink


class NodeCollector(Collector):
    """Reads the counters of `local` and of its `links`."""

    def __init__(
        self, local: LocalNode, links: Mapping[str, PeerLink], certificate_expires_at_ms: Callable[[], int | None] = lambda: None
    ) -> None:
        self._local = local
        self._links = links
        self._certificate_expires_at_ms = certificate_expires_at_ms
        self._keys = KeyEstimate(local.engine)
        self._engine = local.engine.statistics().get("engine", type(local.engine).__name__)

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: no two collectors of a node share a name."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family, as of now."""
        local, telemetry = self._local, self._local.telemetry
        yield from collect_runtime(local.config, self._engine, telemetry, self._certificate_expires_at_ms())
        if telemetry.requests is not None:
            yield from collect_requests(local, telemetry.requests)
        if telemetry.calls is not None:
            yield from collect_calls(telemetry.calls)
        yield from collect_links(self._links)
        yield from collect_ring(local.ring.view)
        if telemetry.commits is not None:
            yield from collect_commits(local, telemetry.commits)
        yield from collect_store(local, self._keys)


def make_registry(collector: NodeCollector) -> CollectorRegistry:
    """The node's own families, and those of its process and of Python's cycle collector."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
