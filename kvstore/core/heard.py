"""Whom a node that may have lost records has heard, and whether nothing can be missing any more (safety rule 5). Pure.

What w of n replicas acknowledged, this node among them, has a copy on w - 1 others: unless they have lost theirs as well. So those
count that have lost nothing: n - w + 1 of them hold a copy together. Whoever is rebuilding itself has told what it holds, but what
it does not hold says nothing. Where all others were heard there is nobody left to wait for: what was acknowledged is here, or on no
disk. That must be so at one moment. Of two others that rebuild, one may be whole again by the help of the other, which then loses
its disk: so each of them must have said that it still rebuilds after both had been heard.

repair/rebuilding.py asks it for all that is on a lost disk, repair/unsynced.py for what a power cut may have taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Heard:
    """Of each prefix, which other owners have told everything that they hold under it."""

    __slots__ = ("_turn", "_unsure", "_whole")

    def __init__(self) -> None:
        self._whole: dict[bytes, set[str]] = {}
        self._unsure: dict[bytes, dict[str, tuple[int, int]]] = {}
        """Those that may have lost records themselves: at which turns they were heard first and last."""
        self._turn = 0

    def clear(self) -> None:
        """Nobody was heard."""
        self._whole.clear()
        self._unsure.clear()

    def take(self, peer: str, prefixes: Iterable[bytes], unsure: Collection[bytes] = ()) -> None:
        """Everything that `peer` holds under these prefixes is here now; under those of `unsure` it may have lost records."""
        self._turn += 1
        for prefix in prefixes:
            whole, doubtful = self._whole.setdefault(prefix, set()), self._unsure.setdefault(prefix, {})
            if prefix not in unsure:
                whole.add(peer)
                doubtful.pop(peer, None)
            elif peer not in whole:
                doubtful[peer] = doubtful.get(peer, (self._turn, 0))[0], self._turn

    def is_enough(self, prefix: bytes, others: Collection[str], needed: int) -> bool:
        """Whether, of the `others` that own `prefix`, `needed` that have lost nothing were heard, or all at one moment."""
        whole, unsure = self._whole.get(prefix, set()).intersection(others), self._unsure.get(prefix, {})
        if len(whole) >= needed:
            return True
        doubtful = [unsure[peer] for peer in others if peer in unsure]
        if len(whole) + len(doubtful) < len(others):
            return False
        return all(first <= last for first, _ in doubtful for _, last in doubtful)
