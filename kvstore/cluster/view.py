"""What a node goes by: the ring of the current epoch with everything precomputed, and the namespaces.

Immutable values inside one holder, swapped whole when the epoch or the namespaces change; coordinators take what they need at the
start of a batch and never look again. Lookups are tuples by partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from kvproto.columns import ClusterInfo, MemberInfo, NamespaceInfo
from kvproto.errors import UnknownNamespace
from kvstore.core.catalog.catalog import CLUSTER_NAMESPACE, CLUSTER_NAMESPACE_ID, Catalog, Entry, Meaning
from kvstore.core.catalog.settings import LINEARIZABLE, MEMORY, PRESET_OF_MODE
from kvstore.core.policies.operations import Policy
from kvstore.core.policies.registry import POLICIES
from kvstore.core.ring import Ring
from kvstore.storage.layout import split_store_key, store_key_prefix

NO_CATALOG = Catalog()


@dataclass(slots=True, frozen=True)
class Space:
    """A namespace with the store-key prefix of each partition, and what becomes of concurrent writes in it."""

    info: NamespaceInfo
    prefixes: tuple[bytes, ...]
    policy: Policy

    @property
    def is_compared(self) -> bool:
        """Whether replicas compare what they hold of it: not registers, and not what is only in memory (ADR 25)."""
        return self.info.mode != LINEARIZABLE and self.info.storage != MEMORY


@dataclass(slots=True, frozen=True)
class OwnerSet:
    """The home replicas of some partitions (node ids, sorted: the order does not matter for a quorum) and whether we are one.
    `stand_ins`: all other nodes in the order in which they take the place of a home replica; the same on every node."""

    nodes: tuple[str, ...]
    includes_me: bool
    stand_ins: tuple[str, ...] = ()


class Place(Enum):
    """Where a record belongs, seen from one node."""

    HOME = "home"
    ELSEWHERE = "elsewhere"
    NOT_YET_KNOWN = "not yet known"
    """Its namespace is one that this node has not heard of yet: whoever sent it has. It stays."""
    DROPPED = "dropped"


class RingView:
    """One node's view of one ring epoch, and of one version of the namespaces. `spaces` are those of users, by name; `inside` is
    the one in which nodes keep what they agree on, which no client is told of."""

    __slots__ = (
        "_by_id",
        "_configured",
        "_policies",
        "catalog",
        "inside",
        "linearizable",
        "me",
        "owner_sets",
        "preference",
        "ring",
        "set_of_partition",
        "spaces",
        "zones",
    )

    def __init__(
        self,
        me: str,
        ring: Ring,
        namespaces: tuple[NamespaceInfo, ...],
        policies: Mapping[str, Policy] | None = None,
        catalog: Catalog = NO_CATALOG,
        *,
        before: RingView | None = None,
    ) -> None:
        """`namespaces` are those of the configuration; `policies` by the name of the namespace, needed where its policy is a
        function, which no name stands for. `before`: a view of the same partitions, whose prefixes need not be made again."""
        self.me = me
        self.ring = ring
        self.catalog = catalog
        self._configured = namespaces
        self._policies = policies or {}
        self.zones = {member.id: member.zone for member in ring.members}
        self.preference = tuple(ring.owners_of(partition) for partition in range(ring.partitions))
        known = {space.info.id: space.prefixes for space in before.all_spaces()} if before is not None else {}

        def space_of(info: NamespaceInfo) -> Space:
            prefixes = known.get(info.id) or tuple(store_key_prefix(partition, info.id) for partition in range(ring.partitions))
            return Space(info, prefixes, self._policies.get(info.name) or POLICIES[info.policy])

        nodes = len(ring.members)
        taken = {info.name for info in namespaces}  # a name in node.toml means what it means there
        made = [made_namespace(entry, nodes) for name, entry in sorted(catalog.live.items()) if name not in taken]
        self.spaces = {info.name: space_of(info) for info in (*namespaces, *filter(None, made))}
        self.inside = space_of(inside_namespace(ring.replicas, nodes))
        self.linearizable = frozenset(
            space.info.id.to_bytes(4, "big") for space in self.all_spaces() if space.info.mode == LINEARIZABLE
        )
        """Ids, as in store keys, of the namespaces whose keys are registers."""
        self._by_id = {space.info.id: space for space in self.all_spaces()}
        # A namespace with fewer replicas than the ring's takes the first n of the preference list; sets are kept for each n in use.
        self.owner_sets: dict[int, tuple[OwnerSet, ...]] = {}
        self.set_of_partition: dict[int, tuple[int, ...]] = {}
        for n in {space.info.n for space in self.all_spaces()}:
            distinct = sorted({tuple(sorted(owners[:n])) for owners in self.preference})
            index = {nodes: at for at, nodes in enumerate(distinct)}
            self.owner_sets[n] = tuple(
                OwnerSet(nodes, me in nodes, self._stand_ins(nodes, at)) for at, nodes in enumerate(distinct)
            )
            self.set_of_partition[n] = tuple(index[tuple(sorted(owners[:n]))] for owners in self.preference)

    def with_ring(self, ring: Ring) -> RingView:
        """The same namespaces on another ring of as many partitions."""
        return RingView(self.me, ring, self._configured, self._policies, self.catalog, before=self)

    def with_catalog(self, catalog: Catalog) -> RingView:
        """The same ring with another version of the namespaces made at run time."""
        return RingView(self.me, self.ring, self._configured, self._policies, catalog, before=self)

    def all_spaces(self) -> tuple[Space, ...]:
        """Those of users, and the nodes' own."""
        return (*self.spaces.values(), self.inside)

    @property
    def configured(self) -> frozenset[str]:
        """Names that the configuration gives a meaning."""
        return frozenset(info.name for info in self._configured)

    def _stand_ins(self, nodes: tuple[str, ...], turn: int) -> tuple[str, ...]:
        """Every other node, beginning with another one for each set of home replicas, so that the load of a dead node is spread."""
        others = [member.id for member in self.ring.members if member.id not in nodes]
        at = turn % len(others) if others else 0
        return tuple(others[at:] + others[:at])

    def place_of(self, store_key: bytes, node: str) -> Place:
        """Whether `node` is a home replica of the record, as far as can be told: of a namespace that this node does not know yet,
        nothing can."""
        partition, namespace_id, _ = split_store_key(store_key)
        space = self._by_id.get(namespace_id)
        if space is not None:
            return Place.HOME if node in self.preference[partition][: space.info.n] else Place.ELSEWHERE
        return Place.DROPPED if self.catalog.meaning(namespace_id) is Meaning.DROPPED else Place.NOT_YET_KNOWN

    def is_home(self, store_key: bytes, node: str) -> bool:
        """Whether `node` is known to be a home replica of the record."""
        return self.place_of(store_key, node) is Place.HOME

    def homes_of(self, store_key: bytes) -> tuple[str, ...]:
        """The home replicas of the record, in preference order; () where they are not known."""
        partition, namespace_id, _ = split_store_key(store_key)
        space = self._by_id.get(namespace_id)
        return () if space is None or partition >= len(self.preference) else self.preference[partition][: space.info.n]

    def space(self, name: str) -> Space:
        """The namespace `name`. Raises `UnknownNamespace` with the names there are."""
        space = self.spaces.get(name)
        if space is None:
            if name == CLUSTER_NAMESPACE:
                return self.inside
            raise UnknownNamespace(f"there is no namespace {name!r}; there is: {', '.join(sorted(self.spaces))}", subject=name)
        return space

    def describe(
        self,
        *,
        cluster_id: str,
        version: str,
        limits: tuple[int, int],
        now_ms: int,
        retry_window_ms: int,
        advertised: Mapping[str, str],
    ) -> ClusterInfo:
        """What clients are told. `limits` are the longest key and value in bytes; `advertised` wins over the members' addresses,
        which are where this node dials them."""
        ring = self.ring
        return ClusterInfo(
            cluster_id=cluster_id,
            node_id=self.me,
            version=version,
            ring_epoch=ring.epoch,
            ring_hash=ring.hash,
            partitions=ring.partitions,
            members=tuple(
                MemberInfo(member.id, advertised.get(member.id, member.address), member.zone, member.weight)
                for member in ring.members
            ),
            owners_per_partition=ring.replicas,
            owners=ring.packed_owners(),
            namespaces=tuple(space.info for space in self.spaces.values()),
            key_bytes_max=limits[0],
            value_bytes_max=limits[1],
            server_time_ms=now_ms,
            retry_window_ms=retry_window_ms,
            catalog_revision=self.catalog.revision,
        )


def made_namespace(entry: Entry, nodes: int) -> NamespaceInfo | None:
    """A namespace made at run time, in a ring of `nodes` nodes; None for one of a newer version's kind, not served here."""
    settings = entry.settings
    if not settings.is_understood:
        return None
    r, w = settings.quorums(nodes)
    return NamespaceInfo(
        id=entry.id,
        name=entry.name,
        mode=settings.mode,
        preset=settings.preset,
        n=min(settings.n, nodes),
        n_asked=settings.n,
        r=r,
        w=w,
        ttl_ms=settings.ttl_ms,
        policy=settings.policy,
        r_is_exact=settings.r > 0,
        w_is_exact=settings.w > 0,
        created=True,
        quota_operations_per_s=settings.quota_operations_per_s,
        quota_bytes_per_s=settings.quota_bytes_per_s,
        storage=settings.storage,
        durability=settings.durability,
        max_bytes=settings.max_bytes,
        value_bytes_max=settings.value_bytes_max,
    )


def inside_namespace(replicas: int, nodes: int) -> NamespaceInfo:
    """Where nodes keep what they agree on: on as many replicas as a partition has (safety rule 6)."""
    n = min(replicas, nodes)
    return NamespaceInfo(
        CLUSTER_NAMESPACE_ID, CLUSTER_NAMESPACE, LINEARIZABLE, PRESET_OF_MODE[LINEARIZABLE], n, replicas, n // 2 + 1, n // 2 + 1
    )


class RingHolder:
    """The current view; replaced whole when a new epoch or another version of the namespaces is installed."""

    __slots__ = ("view",)

    def __init__(self, view: RingView) -> None:
        self.view = view
