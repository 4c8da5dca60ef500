"""The ring and the namespaces that follow from a configuration, equal on every node whose cluster settings are: what a node goes by
until it hears of a newer epoch or of namespaces made at run time.
"""

from __future__ import annotations

from kvproto.columns import NamespaceInfo
from kvstore.cluster.view import NO_CATALOG, RingView
from kvstore.config import NamespaceConfig, NodeConfig
from kvstore.config.policies import load_policies
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.ring import Member
from kvstore.core.ring_planner import plan_ring


def build_view(config: NodeConfig, catalog: Catalog = NO_CATALOG) -> RingView:
    """What `config` alone says, and the namespaces of the `catalog`, made at run time."""
    addresses = {**config.peers, config.node_id: config.advertise}
    members = [Member(node, addresses[node], config.zone_of(node)) for node in config.nodes]
    cluster = config.cluster
    ring = plan_ring(members, partitions=cluster.partitions, replicas=cluster.replicas)
    namespaces = tuple(_configured(name, space, len(members)) for name, space in sorted(cluster.namespaces.items()))
    return RingView(config.node_id, ring, namespaces, load_policies(cluster.namespaces), catalog)


def _configured(name: str, space: NamespaceConfig, nodes: int) -> NamespaceInfo:
    return NamespaceInfo(
        id=space.id,
        name=name,
        mode=space.mode,
        preset=space.preset,
        n=space.effective_n(nodes),
        n_asked=space.n,
        r=space.read_quorum(nodes),
        w=space.write_quorum(nodes),
        ttl_ms=int((space.ttl_s or 0) * 1000),
        policy=space.policy,
        quota_operations_per_s=space.quota_operations_per_s,
        quota_bytes_per_s=space.quota_bytes_per_s,
        storage=space.storage,
        durability=space.durability,
        max_bytes=space.max_bytes,
        value_bytes_max=space.value_bytes_max,
        r_is_exact=space.r is not None,
        w_is_exact=space.w is not None,
    )
