"""The node's actor: under which name it mints dots, and how far it may count.

An actor is (node tag, 64 random bits), its counter leased ahead and the lease made durable before it is used up (Riak's actor
epochs, riak_kv#679). A new epoch is drawn for a new directory, at every start without a clean-shutdown marker, after a
quarantined record, and whenever a peer remembers a higher lease than this node does (safety rule 2): a dot that was ever minted
is never minted again. Who it has been, and how far it had leased, stays in the directory: a peer that remembers more shows that
the directory has lost something (repair/rebuilding.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from xxhash import xxh32_digest

from kvproto.errors import Overloaded, StorageError
from kvstore.core.versions import ACTOR_BYTES
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key, system_name_range

LEASE = 10_000
ACTOR_KEY = system_key(b"actor")
PAST_MAX = 4096
"""Actors of before that are known; each is a life that did not end cleanly, or a copy that was handed over."""
_PAST = b"was/"


def node_tag(node_id: str) -> bytes:
    """Four bytes that say whose dots these are, to people and to peers; uniqueness rests on the epoch."""
    return xxh32_digest(node_id.encode())


Past = tuple[dict[bytes, int], int]
"""Actors, the oldest first, with the counter up to which each had leased; and the number of the latest row."""


def load_past(engine: Engine) -> Past:
    """Every actor that this node has been. Raises `StorageError`."""
    rows = sorted((value[:8], name[-ACTOR_BYTES:], value[8:]) for name, value in engine.scan(*system_name_range(_PAST)))
    past = {actor: int.from_bytes(lease, "big") for _, actor, lease in rows}
    latest = engine.get(ACTOR_KEY)
    if latest is not None:  # the only one that a directory of before this list knows
        past.setdefault(latest[:ACTOR_BYTES], int.from_bytes(latest[ACTOR_BYTES:], "big"))
    return past, int.from_bytes(rows[-1][0], "big") if rows else 0


class ActorLedger:
    """Mints counters of the current epoch. `on_renewed` is told (actor, lease) after each durable renewal, so that peers
    remember."""

    def __init__(
        self,
        node_id: str,
        committer: Committer,
        rng: random.Random,
        *,
        on_renewed: Callable[[bytes, int], None] = lambda actor, lease: None,
        past: Past | None = None,
    ) -> None:
        self._past, self._order = past or ({}, 0)
        self._had_past = bool(self._past)
        self._tag = node_tag(node_id)
        self._committer = committer
        self._rng = rng
        self._on_renewed = on_renewed
        self._renewing = False
        self._waiting: list[asyncio.Future[None]] = []
        self.actor = b""
        self.counter = 0
        self.lease = 0  # durable: counters up to here may be used
        self._draw()
        if self._had_past:
            self._renew()
        # Else not before somebody asks (`ask`). A new directory has a past with its first lease: that it is new, and that its peers
        # have to say whether it is the node's first one, is noted before (repair/rebuilding.py).

    def begin_epoch(self) -> None:
        """From now on everything is minted under a name that was never used."""
        self._draw()
        self._renew()

    def _draw(self) -> None:
        self.actor = self._tag + self._rng.getrandbits(64).to_bytes(8, "big")
        self.counter = self.lease = 0

    def resume_epoch(self, actor: bytes, counter: int, lease: int) -> None:
        """Goes on behind the lease that a clean shutdown ended with; only when peers were asked and remember no higher one.

        What was left of that lease is not used: the first thing to be durable, and told to the peers, is a higher one. A copy of
        the directory restored from before this start is then recognised, whatever is minted from here on.
        """
        assert len(actor) == ACTOR_BYTES and actor.startswith(self._tag) and counter <= lease
        self.actor, self.counter, self.lease = actor, lease, lease
        self._renew()

    @property
    def has_past(self) -> bool:
        """Whether anything was leased in this directory before this life."""
        return self._had_past

    def has_been(self, actor: bytes, lease: int) -> bool:
        """Whether this node knows of having leased so far under that name, in this life or an earlier one."""
        return self._past.get(actor, -1) >= lease

    def ask(self) -> None:
        """Asks for a first lease, if nobody has. Whoever makes the ledger of a new directory does so before it takes anything in:
        the next life must know of this one."""
        if self.lease <= self.counter:
            self._renew()

    async def leased(self) -> None:
        """Returns once there are counters to mint with, or storage has failed: a node that starts need not turn clients away."""
        while self.lease <= self.counter and self._committer.failure is None:
            self.ask()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def reserve(self, count: int) -> int:
        """Takes `count` counters: the first of them; the last is this plus count - 1. Raises `Overloaded` while the lease that
        would cover them is not durable yet."""
        last = self.counter + count
        if last + LEASE // 2 > self.lease:
            self._renew(count)
        if last > self.lease:
            raise Overloaded("the lease of version numbers is being renewed", retry_after_s=0.01, subject="actor-lease")
        first = self.counter + 1
        self.counter = last
        return first

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert self.actor.startswith(self._tag) and len(self.actor) == ACTOR_BYTES
        assert self.counter <= self.lease, "a counter was used before its lease was durable"

    def _renew(self, count: int = 0) -> None:
        if self._renewing or self._committer.failure is not None:
            return
        self._renewing = True
        actor, lease = self.actor, self.counter + LEASE + 2 * count
        self._order += 1
        told = lease.to_bytes(8, "big")
        rows = [(ACTOR_KEY, actor + told), (system_key(_PAST + actor), self._order.to_bytes(8, "big") + told)]
        old = list(self._past)[: max(0, len(self._past) - PAST_MAX)]
        for name in old:
            del self._past[name]
        gone = [system_key(_PAST + name) for name in old]
        self._committer.submit(Commit(rows, 128, lambda error: self._renewed(actor, lease, error), gone))

    def _renewed(self, actor: bytes, lease: int, error: StorageError | None) -> None:
        self._renewing = False
        if error is not None:
            self._wake()
            return
        self._past[actor] = max(lease, self._past.get(actor, 0))
        if actor == self.actor:
            self.lease = max(self.lease, lease)
            self._on_renewed(actor, lease)
        elif self.lease <= self.counter:
            self._renew()  # another epoch began meanwhile: its lease is not durable yet
        if self.lease > self.counter:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
