"""What happens between a node and its peers, handed to the part that it concerns; and what each peer is told of the node.

Stands between the links, which the node is made with, and the node, which it is told of as soon as there is one: nobody dials and
nobody is let in before that.
"""

from __future__ import annotations

from kvstore.local_node import LocalNode
from kvstore.runtime import Clock
from kvstore.transport.grpc_peers import GrpcPeers
from kvstore.transport.hello import Doorkeeper


class PeerEvents:
    """One node's. `local`, `peers` and `doorkeeper` are set once each is made."""

    local: LocalNode
    peers: GrpcPeers
    doorkeeper: Doorkeeper

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    # --- what is told

    def ring(self) -> tuple[int, int]:
        """Epoch and hash of the ring that the node goes by."""
        ring = self.local.ring.view.ring
        return ring.epoch, ring.hash

    def revision(self) -> int:
        """The version of the namespaces that it goes by."""
        return self.local.ring.view.catalog.revision

    def lived(self) -> tuple[int, int]:
        """Its wall time, and until when it is known to have lived; both Unix time in ms."""
        return self._clock.now_ms(), self.local.returning.absence.lived_ms

    def lease_of(self, node: str) -> tuple[bytes, int] | None:
        """(actor, lease) that it remembers of `node`."""
        return self.doorkeeper.leases.get(node)

    # --- what is heard

    def linked(self, node: str) -> None:
        """The link to `node` is up."""
        self.local.upkeep.owing.linked(node)

    def greeted(self, node: str) -> None:
        """`node` has greeted us and was let in."""
        self.local.upkeep.owing.greeted(node)
        self.peers.greeted_by(node)

    def heard_revision(self, node: str, revision: int) -> None:
        """`node` goes by that version of the namespaces."""
        self.local.namespaces.spread.heard(node, revision)

    def heard_lived(self, node: str, now_ms: int, lived_ms: int) -> None:
        """`node` says what `lived` says here."""
        self.local.returning.absence.heard(node, now_ms, lived_ms)

    def remembered(self, actor: bytes, lease: int) -> None:
        """A peer has said, of itself, what it remembers of our leases."""
        self.local.returning.rebuilding.heard(actor, lease)

    def answered(self, actor: bytes, lease: int) -> None:
        """A peer has said so when it was asked: that it remembers nothing counts too."""
        self.local.returning.rebuilding.heard(actor, lease, asked=True)

    async def noted(self) -> None:
        """Returns when what follows from what peers remember outlives us."""
        await self.local.returning.rebuilding.noted()
