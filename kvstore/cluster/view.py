"""What a node goes by: the ring of the current epoch with everything precomputed, and the namespaces.

Immutable values inside one holder, swapped whole when the epoch changes; coordinators take what they need at the start of a batch
and never look again. Lookups are tuples by partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvproto.columns import ClusterInfo, MemberInfo, NamespaceInfo
from kvproto.errors import UnknownNamespace
from kvstore.core.policies.operations import Policy
from kvstore.core.policies.registry import POLICIES
from kvstore.core.ring import Ring
from kvstore.storage.layout import split_store_key, store_key_prefix


@dataclass(slots=True, frozen=True)
class Space:
    """A namespace with the store-key prefix of each partition, and what becomes of concurrent writes in it."""

    info: NamespaceInfo
    prefixes: tuple[bytes, ...]
    policy: Policy


@dataclass(slots=True, frozen=True)
class OwnerSet:
    """The home replicas of some partitions (node ids, sorted: the order does not matter for a quorum) and whether we are one.
    `stand_ins`: all other nodes in the order in which they take the place of a home replica; the same on every node."""

    nodes: tuple[str, ...]
    includes_me: bool
    stand_ins: tuple[str, ...] = ()


class RingView:
    """One node's view of one ring epoch."""

    __slots__ = ("linearizable", "me", "owner_sets", "preference", "ring", "set_of_partition", "spaces", "zones")

    def __init__(
        self, me: str, ring: Ring, namespaces: tuple[NamespaceInfo, ...], policies: Mapping[str, Policy] | None = None
    ) -> None:
        """`policies` by the name of the namespace; needed where its policy is a function, which no name stands for."""
        self.me = me
        self.ring = ring
        self.zones = {member.id: member.zone for member in ring.members}
        self.preference = tuple(ring.owners_of(partition) for partition in range(ring.partitions))
        self.spaces = {
            info.name: Space(
                info,
                tuple(store_key_prefix(partition, info.id) for partition in range(ring.partitions)),
                (policies or {}).get(info.name) or POLICIES[info.policy],
            )
            for info in namespaces
        }
        self.linearizable = frozenset(info.id.to_bytes(4, "big") for info in namespaces if info.mode == "linearizable")
        """Ids, as in store keys, of the namespaces whose keys are registers."""
        # A namespace with fewer replicas than the ring's takes the first n of the preference list; sets are kept for each n in use.
        self.owner_sets: dict[int, tuple[OwnerSet, ...]] = {}
        self.set_of_partition: dict[int, tuple[int, ...]] = {}
        for n in {info.n for info in namespaces}:
            distinct = sorted({tuple(sorted(owners[:n])) for owners in self.preference})
            index = {nodes: at for at, nodes in enumerate(distinct)}
            self.owner_sets[n] = tuple(
                OwnerSet(nodes, me in nodes, self._stand_ins(nodes, at)) for at, nodes in enumerate(distinct)
            )
            self.set_of_partition[n] = tuple(index[tuple(sorted(owners[:n]))] for owners in self.preference)

    def _stand_ins(self, nodes: tuple[str, ...], turn: int) -> tuple[str, ...]:
        """Every other node, beginning with another one for each set of home replicas, so that the load of a dead node is spread."""
        others = [member.id for member in self.ring.members if member.id not in nodes]
        at = turn % len(others) if others else 0
        return tuple(others[at:] + others[:at])

    def is_home(self, store_key: bytes, node: str) -> bool:
        """Whether `node` is a home replica of the record; of a namespace that is gone nobody is."""
        partition, namespace_id, _ = split_store_key(store_key)
        for space in self.spaces.values():
            if space.info.id == namespace_id:
                return node in self.preference[partition][: space.info.n]
        return False

    def space(self, name: str) -> Space:
        """The namespace `name`. Raises `UnknownNamespace` with the names there are."""
        space = self.spaces.get(name)
        if space is None:
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
        )


class RingHolder:
    """The current view; replaced whole when a new epoch is installed."""

    __slots__ = ("view",)

    def __init__(self, view: RingView) -> None:
        self.view = view
