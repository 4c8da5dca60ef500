"""Who is who: what nodes tell each other before they work together, and when they refuse to.

Refusals name what differs: another cluster, other cluster settings, another node than expected behind an address, or a second
living process under one node id. Pure but for the question whether a peer is alive, which the caller answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from kvproto import PROTOCOL
from kvproto.errors import DuplicateNode, KvError, SettingsMismatch, WrongCluster
from kvstore.config import ClusterConfig


@dataclass(slots=True)
class Identity:
    """What this process says of itself; `actor` and `lease` move on as counters are leased."""

    node_id: str
    incarnation: int
    cluster: ClusterConfig
    advertise: str
    zone: str
    actor: bytes = b""
    lease: int = 0
    settings: str = field(init=False)
    """The cluster's, as every greeting carries them: written out once, for links greet anew whenever they are opened."""

    def __post_init__(self) -> None:
        self.settings = self.cluster.canonical_json()


@dataclass(slots=True, frozen=True)
class Greeting:
    """What the other process says of itself, and whom it believes to be talking to."""

    cluster_id: str
    node_id: str
    incarnation: int
    settings: str
    advertise: str
    expects: str
    actor: bytes
    lease: int
    protocol: int = PROTOCOL


@dataclass(slots=True)
class Doorkeeper:
    """Decides whom this node works with, and remembers what others have leased (safety rule 2)."""

    me: Identity
    member_ids: frozenset[str]
    incarnation_of: Callable[[str], Awaitable[int | None]]  # asks the peer at its configured address who lives there; None: nobody
    incarnations: dict[str, int] = field(default_factory=dict)
    leases: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    advertised: dict[str, str] = field(default_factory=dict)
    """Where clients reach each node that was admitted, by what it says itself."""
    on_lease: Callable[[str, bytes, int], None] = lambda node, actor, lease: None
    """Told of what a node has leased that it had not told before."""

    async def admit(self, greeting: Greeting) -> KvError | None:
        """Why `greeting`'s sender is refused, or None. An admitted sender's lease and address for clients are remembered."""
        me = self.me
        if greeting.cluster_id != me.cluster.id:
            return WrongCluster(
                f"node {me.node_id} belongs to cluster {me.cluster.id!r}, node {greeting.node_id} to {greeting.cluster_id!r}",
                subject=me.cluster.id,
            )
        if greeting.expects and greeting.expects != me.node_id:
            return SettingsMismatch(
                f"this is node {me.node_id}, not {greeting.expects}: correct the address of {greeting.expects} in [peers]",
                subject=greeting.expects,
            )
        if greeting.settings != me.settings and (differences := me.cluster.differences(greeting.settings)):
            return SettingsMismatch(
                f"cluster settings of {greeting.node_id} differ from those of {me.node_id}: {'; '.join(differences)}",
                subject=greeting.node_id,
            )
        if greeting.node_id not in self.member_ids:
            return SettingsMismatch(
                f"node {me.node_id} does not know a node {greeting.node_id}: add it to [peers] of every node",
                subject=greeting.node_id,
            )
        if await self._is_double(greeting):
            return DuplicateNode(
                f"another process already is node {greeting.node_id}: every node needs an id of its own", subject=greeting.node_id
            )
        self.incarnations[greeting.node_id] = greeting.incarnation
        told = (greeting.actor, greeting.lease)
        if greeting.actor and greeting.node_id != me.node_id and self.leases.get(greeting.node_id) != told:
            self.leases[greeting.node_id] = told
            self.on_lease(greeting.node_id, *told)
        if greeting.advertise:
            self.advertised[greeting.node_id] = greeting.advertise
        return None

    async def _is_double(self, greeting: Greeting) -> bool:
        if greeting.node_id == self.me.node_id:
            return greeting.incarnation != self.me.incarnation
        known = self.incarnations.get(greeting.node_id)
        if known is None or known == greeting.incarnation:
            return False
        # A restart has a new incarnation too: it is a double only while the old one still answers at its address.
        return await self.incarnation_of(greeting.node_id) == known


def remembers_more(remembered: tuple[bytes, int] | None, actor: bytes, lease: int) -> bool:
    """Whether a peer's memory shows that counters beyond ours may have been used: then a new epoch begins."""
    return remembered is not None and (remembered[0] != actor or remembered[1] > lease)
