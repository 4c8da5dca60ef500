"""Which home replicas have missed a write of ours: noted after the reply as a rule, and before it where the reply is for less.

A write that w replicas have is found by every read that asks as many as it must, whoever notes what. One that is answered though
fewer have it is found only if whoever owes it to the others says so, also in its next life (safety rule 12): until that is durable
it is not answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from kvproto.errors import KvError
from kvstore.coordinator.replicas import Arrivals, Noted
from kvstore.crash_points import crash_point
from kvstore.storage.hints import HintTable
from kvstore.storage.store import Store

UNNOTED = crash_point("lesser-write.unnoted", "a write would be answered for less, and who has missed it is being made durable")


class Missed:
    """One node's notes."""

    __slots__ = ("_hints", "_me", "_store")

    def __init__(self, me: str, hints: HintTable, store: Store) -> None:
        self._me = me
        self._hints = hints
        self._store = store

    def owe(self, homes: Sequence[str], keys: Sequence[bytes]) -> None:
        """Notes what `homes` have missed of what we hold. Anti-entropy finds it too, so a full queue is no reason to fail."""
        if pointers := self._pointers(homes, keys):
            with suppress(KvError):
                self._store.admit(len(pointers), sum([len(key) + len(value) for key, value in pointers]))
                self._store.commit([], lambda error: None, pointers, before=[])

    async def write_down(self, home: str, keys: Sequence[bytes], arrivals: Arrivals) -> None:
        """The same of one of them, for a reply that waits for it: `Noted` arrives once it is durable, also if it was noted before.
        Never refused: as much was admitted with the write, and it is a fraction of it."""
        self._store.commit([], lambda error: arrivals.add(Noted(home, error)), self._pointers([home], keys), before=[])
        await UNNOTED.passed()

    def _pointers(self, homes: Sequence[str], keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        return [pointer for home in homes if home != self._me for pointer in self._hints.owe(home, keys)]
