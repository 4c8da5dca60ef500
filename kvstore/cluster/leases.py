"""What the peers remember of this node's leases: asked before the first dot is minted, told after each renewal (safety rule 2).

Only if all peers answer, somebody remembers them and nobody remembers more does a clean shutdown's actor epoch go on. Peers
remember in memory: one that has been restarted since knows nothing, and that is no proof of anything. Called by starting.py, and
by the actor ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from kvproto.errors import ClusterError, KvError, NotAllowed, TlsError
from kvstore.core.versions import ACTOR_BYTES
from kvstore.storage.epochs import ActorLedger
from kvstore.transport.hello import Identity, remembers_more


class Greeted(Protocol):
    """What a peer says of the lease it remembers; an empty actor: none."""

    remembered_actor: bytes
    remembered_lease: int


class Greeter(Protocol):
    """Greets every peer as the identity that it was given says of itself."""

    async def hello_all(self) -> Mapping[str, Greeted | KvError]:
        """What each peer said, or why it could not be asked or refuses us."""


class Leases:
    """One node's leases in its peers' memory."""

    def __init__(self, identity: Identity, peers: Greeter) -> None:
        self._identity = identity
        self._peers = peers
        self._ledger: ActorLedger | None = None
        self.announcing: asyncio.Task[None] | None = None

    async def greet(self, ledger: ActorLedger, clean_state: bytes | None, *, is_damaged: Callable[[], bool]) -> list[str]:
        """Asks every peer whether it works with us and what it remembers, and has `ledger` resume the epoch of `clean_state`
        (actor, counter, lease) if it may: not if the store `is_damaged` by then. Returns who answered; raises the `ClusterError`
        or `NotAllowed` of a peer that refuses us."""
        present: list[str] = []
        remembered = more = False
        actor, counter, lease = _parse(clean_state)
        replies = await self._peers.hello_all()
        for node, reply in replies.items():
            # With a TLS error nobody has refused us: it may be the peer's certificate that is wrong, and we serve without it.
            if isinstance(reply, ClusterError | NotAllowed) and not isinstance(reply, TlsError):
                raise reply
            if isinstance(reply, KvError):
                continue
            present.append(node)
            if actor and reply.remembered_actor:
                remembered = True
                more = more or remembers_more((reply.remembered_actor, reply.remembered_lease), actor, lease)
        # One who is away may be the only one that was told of a later lease, by a life of which this directory knows nothing.
        has_heard_all = len(present) == len(replies)
        if remembered and not more and has_heard_all and not is_damaged():
            ledger.resume_epoch(actor, counter, lease)
        self._ledger = ledger
        return present

    def renewed(self, actor: bytes, lease: int) -> None:
        """The ledger has leased: the peers are told. Nothing before we have asked what they remember: this would replace it."""
        if self._ledger is not None:
            self._identity.actor, self._identity.lease = actor, lease
            self._announce(self._ledger)

    async def tell(self) -> None:
        """Returns once the peers that can be reached know what is leased now. Before the first dot is minted: whoever starts from
        an older copy of this directory must find us remembered."""
        assert self._ledger is not None, "greeted first"
        self.renewed(self._ledger.actor, self._ledger.lease)
        if self.announcing is not None:
            await self.announcing

    def stop(self) -> None:
        """Tells no more."""
        if self.announcing is not None:
            self.announcing.cancel()

    def _announce(self, ledger: ActorLedger) -> None:
        """A peer that cannot be reached is told when its link opens."""
        if self.announcing is not None and not self.announcing.done():
            return

        async def announce() -> None:
            told = None
            while told != (now := (ledger.actor, ledger.lease)):  # renewed again while we were telling
                told = now
                await self._peers.hello_all()

        self.announcing = asyncio.get_running_loop().create_task(announce(), name=f"lease@{self._identity.node_id}")


def pack_state(ledger: ActorLedger) -> bytes:
    """What a clean shutdown leaves of the ledger."""
    return ledger.actor + ledger.counter.to_bytes(8, "big") + ledger.lease.to_bytes(8, "big")


def _parse(clean_state: bytes | None) -> tuple[bytes, int, int]:
    """Actor, counter and lease; no actor without a clean shutdown."""
    if clean_state is None:
        return b"", 0, 0
    numbers = clean_state[ACTOR_BYTES:]
    return clean_state[:ACTOR_BYTES], int.from_bytes(numbers[:8], "big"), int.from_bytes(numbers[8:], "big")
