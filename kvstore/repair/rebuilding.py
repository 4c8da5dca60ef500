"""A node that has lost records, and does not know which: wiped, replaced, or put back to an older copy (safety rule 5).

How it knows: its peers remember, durably, under which actor it has minted and how far it had leased. Its own directory lists every
actor that it has been. Of one that the peers remember and it does not, or of a lease beyond its own, it has lost at least what it
stored under that name; what else, nobody can tell. A directory that is new may be the node's first or not: until a peer has
answered it counts as lost. While it lasts, over restarts, no answer of it is a vote, be it "not found" or a record; what it has is
told beside, and merged. What it is asked to store it stores, and counts.

It is whole again when an exchange of each partition that it owns has been completed with enough of the other owners: of what was
acknowledged by w of n replicas, this one among them, every n - w + 1 others hold a copy, those not counted that are rebuilding
themselves (core/heard.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from kvproto.columns import NamespaceInfo
from kvproto.errors import StorageError
from kvstore.cluster.view import RingHolder, RingView
from kvstore.core.heard import Heard
from kvstore.crash_points import crash_point
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.epochs import ActorLedger
from kvstore.storage.layout import system_key
from kvstore.storage.store import Store
from kvstore.telemetry import log

REBUILDING_KEY = system_key(b"rebuilding")
LOST = "lost"
"""What it held is gone, in part or in whole."""
ABSENT = "absent"
"""It was away for so long that what it held is set aside (absence.py)."""
UNHEARD = "unheard"
"""Its directory is new, and no peer has said yet whether it had another one before."""

BEGUN = crash_point("rebuild.begun", "this node has learnt that it may have lost records, and is writing that down")
COVERED = crash_point(
    "rebuild.covered", "what a peer holds is here; with enough of them it is being written down that all is whole"
)


class Rebuilding:
    """This node's state; `reason` is "" while it is whole."""

    def __init__(
        self,
        me: str,
        engine: Engine,
        store: Store,
        committer: Committer,
        ledger: ActorLedger,
        ring: RingHolder,
        lose_registers: Callable[[], list[tuple[bytes, bytes]]] = list,
    ) -> None:
        """`lose_registers`: what is to be written so that an acceptor that has lost its promises does not vote (safety rule 15)."""
        self._lose_registers = lose_registers
        self._me = me
        self._store = store
        self._committer = committer
        self._ledger = ledger
        self._ring = ring
        self._heard = Heard()
        self._missed: dict[bytes, int] = {}
        """Actors, with their leases, under which it stored what it has not. Those of `_made_good` were made good since: a peer that
        comes later and remembers one of them says nothing new."""
        self._made_good: dict[bytes, int] = {}
        self._noted: asyncio.Future[None] | None = None
        self._is_news = False  # nobody has waited for that yet
        self._is_asking = False
        self._has_answer = False
        self.knows_all: Callable[[], bool] = lambda: True
        """Whether this node goes by the newest namespaces that it has heard of: what it has lost of others, nobody has told it."""
        self.reason = (engine.get(REBUILDING_KEY) or b"").decode()
        self.ended = 0
        self.unsynced: Unsynced | None = None
        """What may be lost of namespaces that are not synced; it ends in the same way."""
        store.is_rebuilding = bool(self.reason)

    def begin_if_new(self, *, has_peers: bool) -> None:
        """Before anybody is greeted: whether this directory is the node's first one, the peers have to say."""
        self._is_asking = True
        if has_peers and not self._ledger.has_past:
            self.begin(UNHEARD)

    def heard(self, actor: bytes, lease: int, *, asked: bool = False) -> None:
        """A peer remembers that this node has been `actor`, with counters leased up to `lease`; b"": it remembers nothing, which is
        an answer where it was `asked`."""
        if actor and not self._ledger.has_been(actor, lease):
            if lease > self._made_good.get(actor, -1):
                self._missed[actor] = max(lease, self._missed.get(actor, 0))
                self.begin(LOST)
        elif asked:
            self._has_answer = True
            self._end_if_new()

    def all_asked(self) -> None:
        """All that are there have been greeted. That one remembers nothing says nothing before: it may be new itself."""
        self._is_asking = False
        self._end_if_new()

    def _end_if_new(self) -> None:
        if self.reason == UNHEARD and self._has_answer and not self._is_asking:
            self._end()

    def begin(self, reason: str) -> None:
        """From now on nothing that this node holds is a vote. Durable once `noted` returns."""
        if self._committer.failure is not None:
            return
        # Also when records were being rebuilt already: a disk that is an older copy has lost promises besides.
        rows = self._lose_registers() if reason == LOST else []
        if self.reason in ("", UNHEARD):
            log.warning("rebuilding", node=self._me, reason=reason)
            self.reason = reason
            self._store.is_rebuilding = True
            self._heard.clear()
            rows.append((REBUILDING_KEY, reason.encode()))
        elif not rows:
            return
        noted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._noted, self._is_news = noted, True

        def done(_: StorageError | None) -> None:
            if not noted.done():
                noted.set_result(None)

        self._committer.submit(Commit(rows, 64, done))

    async def noted(self) -> None:
        """Returns once what was begun outlives this process, or cannot any more. Peers are told of a new actor only then: it
        replaces what they remember."""
        if self._noted is not None:
            if self._is_news:
                self._is_news = False
                await BEGUN.passed()
            await asyncio.shield(self._noted)

    @property
    def is_behind(self) -> bool:
        """Whether anything that is held here is no vote until the others have been heard."""
        return bool(self.reason) or (self.unsynced is not None and not self.unsynced.is_over)

    def covered(self, peer: str, prefixes: Iterable[bytes], unsure: Collection[bytes] = ()) -> None:
        """Everything that `peer` holds under these prefixes is here now; under those of `unsure` it may have lost records."""
        prefixes = list(prefixes)
        if self.unsynced is not None:
            self.unsynced.covered(peer, prefixes, unsure)
        if self.reason in ("", UNHEARD):
            return
        self._heard.take(peer, prefixes, unsure)
        if self.knows_all() and not self.open_prefixes():
            self.ended += 1
            self._made_good.update(self._missed)
            self._end()

    def _end(self) -> None:
        log.info("rebuilt", node=self._me, reason=self.reason)
        self.reason = ""
        self._store.is_rebuilding = False
        self._heard.clear()
        if self._committer.failure is None:
            self._committer.submit(Commit((), 64, lambda error: None, [REBUILDING_KEY]))

    def open_prefixes(self) -> list[bytes]:
        """Those of which too few other owners have been heard."""
        if not self.reason:
            return []
        view = self._ring.view
        return [
            prefix
            for space in view.spaces.values()
            if space.is_compared
            for prefix, owners in zip(space.prefixes, view.preference, strict=True)
            if self._me in (homes := owners[: space.info.n])
            and not self._heard.is_enough(prefix, [node for node in homes if node != self._me], owners_needed(space.info))
        ]


class Unsynced(Protocol):
    """See unsynced.py."""

    @property
    def is_over(self) -> bool:
        """Whether there is no doubt left."""

    def covered(self, peer: str, prefixes: Iterable[bytes], unsure: Collection[bytes]) -> None:
        """As in `Rebuilding`."""


def owners_needed(space: NamespaceInfo) -> int:
    """How many of the other owners hold, together, whatever was acknowledged with this one's copy among w; if they lose nothing."""
    return min(space.n - 1, max(1, space.n - space.w + 1))


def shared_prefixes(view: RingView, me: str, peer: str, namespace: str = "") -> list[bytes]:
    """What `me` and `peer` both have to keep, of one namespace or of all: their trees are to be equal."""
    return [
        prefix
        for name, space in view.spaces.items()
        if (not namespace or name == namespace) and space.is_compared
        for prefix, owners in zip(space.prefixes, view.preference, strict=True)
        if me in (homes := owners[: space.info.n]) and peer in homes
    ]
