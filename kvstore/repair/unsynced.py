"""After an end that was not clean: what a node may have lost of namespaces that are not synced (durability `os`; safety rule 5).

Whatever the operating system had not written yet when the power went is gone, and the node cannot tell what, nor whether anything.
So of these namespaces, and of no others, what it holds or does not hold is no vote until it has compared each of its partitions
with enough of the other owners, as one that has lost its disk does (rebuilding.py): of what w of n acknowledged, every n - w + 1
others hold a copy, unless they may have lost it as well (core/heard.py). What all who acknowledged it have lost is lost.

Nothing is noted on the disk: until it is over the node leaves no marker of a clean end, so the next life begins with it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kvstore.cluster.view import RingHolder, RingView, Space
from kvstore.core.catalog.settings import DISK, OS
from kvstore.core.heard import Heard
from kvstore.repair.rebuilding import owners_needed
from kvstore.storage.store import Store
from kvstore.telemetry import log


def unsynced_ids(view: RingView) -> frozenset[bytes]:
    """The ids, as in store keys, of namespaces whose records are written and not synced."""
    return frozenset(space.info.id.to_bytes(4, "big") for space in view.all_spaces() if _is_unsynced(space))


class Unsynced:
    """One node's doubts from its start on; `Store.unsure` has them."""

    def __init__(self, me: str, store: Store, ring: RingHolder, *, may_have_lost: bool) -> None:
        """`may_have_lost`: the last life has not ended cleanly, and there are others to ask."""
        self._me = me
        self._store = store
        self._ring = ring
        self._heard = Heard()
        if may_have_lost:
            store.unsure = unsynced_ids(ring.view)
        if store.unsure:
            log.warning("unsynced_in_doubt", node=me, namespaces=len(store.unsure))

    @property
    def is_over(self) -> bool:
        """Whether there is nothing that may be lost without its being known."""
        return not self._store.unsure

    def covered(self, peer: str, prefixes: Iterable[bytes], unsure: Collection[bytes]) -> None:
        """Everything that `peer` holds under these prefixes is here now; under those of `unsure` it may have lost records."""
        if self.is_over:
            return
        self._heard.take(peer, prefixes, unsure)
        doubtful = self._store.unsure
        left = frozenset(
            number
            for space in self._ring.view.all_spaces()
            if (number := space.info.id.to_bytes(4, "big")) in doubtful and self._is_open(space)
        )
        self._store.unsure = left
        if not left:
            self._heard.clear()
            log.info("unsynced_heard", node=self._me)

    def _is_open(self, space: Space) -> bool:
        needed = owners_needed(space.info)
        return any(
            self._me in (homes := owners[: space.info.n])
            and not self._heard.is_enough(prefix, [node for node in homes if node != self._me], needed)
            for prefix, owners in zip(space.prefixes, self._ring.view.preference, strict=True)
        )


def _is_unsynced(space: Space) -> bool:
    return (space.info.storage, space.info.durability) == (DISK, OS)
