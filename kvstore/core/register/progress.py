"""How far the owners of one group are, as one of them sees it: what it may answer alone is proven by digests. Pure; docs/adr/0021.

The digest of a group is the XOR of a hash for each register that is held: its key, stamp and payload. Each owner keeps its own,
and tells it as of what is durable. When another owner's digest is one that was ours, at change `number`, then

- what we hold since has everything that it held, or something later of the same key. Whatever was committed before it was asked is
  held by one of any majority: heard from a majority, we lag behind nothing that was committed before the first of them was asked;
- every register that we held then and hold still was accepted by both, identically. By a majority: it is chosen (safety rule 16).

That takes a history of our digests, which is kept while the group is *watched*: while somebody reads so, or repair looks. Of the
others the digest alone is, and nothing is proven.

So nobody has to know who proposes, under which ballot, and what was lost on the way: what differs has another digest, and proves
nothing until it is repaired. Digests are equal by chance once in 2^128, and a client cannot choose one: stamps hold 64 random bits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

HISTORY_MAX = 512
"""So many of our last digests are known by their numbers; who is further behind is heard again when it has caught up."""
NEVER = -1
NOT_YET = 1 << 62
"""Stands for the number of a change that is not durable before the group is watched."""
LOST = b"lost"
"""Stands for what was held and cannot be read."""


class Told:
    """What one other owner has told. `number`: at which of our changes its digest was ours; `kept_number` and `kept_s`: the last
    one for certain, and when it was asked for that. `looks`: how often it was found to differ, one after the other."""

    __slots__ = ("digest", "kept_number", "kept_s", "looks", "number")

    def __init__(self) -> None:
        self.digest: int | None = None
        self.number = NEVER
        self.kept_number = NEVER
        self.kept_s = float("-inf")
        self.looks = 0


class Progress:
    """One group's. Changes are numbered as they are decided; they are durable in that order. While it is not known what is held (at
    the start, or when something was found lost) nothing is told and nothing is proven."""

    __slots__ = (
        "_awaited",
        "_base",
        "_changes",
        "_last",
        "_looked_at",
        "_need",
        "_numbers",
        "_others",
        "_scanned_to",
        "_shown",
        "_touched",
        "_trimmed",
        "confirmed",
        "decided",
        "digest",
        "durable",
        "durable_digest",
        "is_known",
        "is_watched",
        "only_sums",
        "scans",
        "told",
    )

    def __init__(self, others: Iterable[str], *, decided: int = 0, is_watched: bool = True) -> None:
        """`decided`: no change has a number that is not greater."""
        self.told = {node: Told() for node in others}
        self._others = tuple(self.told.values())
        self._awaited: frozenset[int | None] = frozenset()
        """What the others have told last."""
        self._need = (len(self.told) + 1) // 2
        self.decided = decided
        self.is_watched = is_watched
        self.scans = 0
        """Counts scans that were begun or given up: a page of an earlier one is of no use."""
        self.forget()

    # --- what is held

    def forget(self) -> None:
        """It is not known any more what is held: from now on a scan has to find out."""
        self.is_known = self.only_sums = False
        self.digest = self.durable_digest = 0
        self.durable = NEVER
        self._base = self.decided + 1
        self._touched: dict[bytes, int] = {}
        self._scanned_to = b""
        self.scans += 1
        self._forget_history()

    def _forget_history(self) -> None:
        """Nothing is proven from now on, whatever becomes durable."""
        self.confirmed = self._looked_at = NEVER
        self._trimmed = NOT_YET
        self._numbers: dict[int, int] = {}
        self._changes: deque[tuple[int, int, bytes]] = deque()
        self._last: dict[bytes, tuple[int, float]] = {}
        """Of each key the number of its last change, and when it was decided."""
        self._shown: dict[bytes, int] = {}
        for told in self.told.values():
            told.number = told.kept_number = NEVER
            told.kept_s = float("-inf")

    def watch(self) -> None:
        """From now on changes are remembered. What is held is the first of them, and durable when everything before is."""
        self.is_watched, self.only_sums = True, False
        if self.is_known:
            self._begin()

    def rest(self) -> None:
        """The digest alone is kept from now on."""
        self.is_watched, self.only_sums = False, self.is_known
        self._forget_history()

    def _begin(self) -> None:
        self.decided += 1
        if self.is_watched:
            self._trimmed = self.decided
            self._note(b"", float("-inf"))

    def scanned(self, found: Iterable[tuple[bytes, int]], end: bytes | None) -> None:
        """The next page of a scan: keys up to `end` with their digests, read behind everything that was decided when it was asked
        for; None: there are no more. What was decided since is known better here."""
        touched = self._touched
        for store_key, digest in found:
            if store_key not in touched:
                self.digest ^= digest
        for store_key in [key for key in touched if end is None or key <= end]:
            self.digest ^= touched.pop(store_key)
        if end is not None:
            self._scanned_to = end
            return
        self.is_known, self.only_sums = True, not self.is_watched
        self._base = self.decided + 1
        self._begin()

    @property
    def scanned_to(self) -> bytes:
        """Where the next page begins."""
        return self._scanned_to

    def change(self, store_key: bytes, delta: int, digest: int, now_s: float) -> None:
        """A register was replaced by one with `digest`; `delta`: that XOR the one before. Of a group that `only_sums` the tracker
        does it by itself."""
        if not self.is_known:
            if store_key > self._scanned_to:
                self._touched[store_key] = digest
            else:
                self.digest ^= delta
                self.decided += 1
            return
        self.digest ^= delta
        self.decided += 1
        self._note(store_key, now_s)

    def _note(self, store_key: bytes, now_s: float) -> None:
        digest, number, changes = self.digest, self.decided, self._changes
        changes.append((number, digest, store_key))
        self._numbers[digest] = number
        self._last[store_key] = number, now_s
        if digest in self._awaited:
            for told in self._others:
                if told.digest == digest:
                    told.number = number
            self._confirm()
        if len(changes) > HISTORY_MAX:
            oldest, digest, store_key = changes.popleft()
            self._trimmed = oldest
            if self._numbers[digest] == oldest:
                del self._numbers[digest]
            if self._last[store_key][0] == oldest:
                del self._last[store_key]
                if self._shown:
                    self._shown.pop(store_key, None)

    def became_durable(self, number: int, digest: int) -> bool:
        """Everything up to change `number` is durable, and the digest was `digest` then. Whether there is something new to tell."""
        if not self.is_known or number < self._base:
            return False
        self.durable, self.durable_digest = number, digest
        return True

    @property
    def may_tell(self) -> int | None:
        """The digest of what is durable, for other owners; None: it is not known."""
        return self.durable_digest if self.durable != NEVER else None

    # --- what others hold

    def hear(self, node: str, digest: int | None, before_s: float) -> None:
        """`node` tells another digest than before; what it had told held at least until `before_s`. None: it does not know."""
        told = self.told[node]
        if NEVER < told.number <= self.durable:
            told.kept_number, told.kept_s = told.number, before_s
        told.digest = digest
        told.number = NEVER if digest is None else self._numbers.get(digest, NEVER)
        self._awaited = frozenset([other.digest for other in self._others])
        self._confirm()

    def _confirm(self) -> None:
        numbers = sorted([told.number for told in self._others], reverse=True)
        if self._need:
            self.confirmed = max(self.confirmed, numbers[self._need - 1])

    def proof(self, as_of_s: Mapping[str, float]) -> tuple[float, int] | None:
        """As of when what is durable here lags behind nothing, and with which change that became so; None: as of never. `as_of_s`:
        when each other owner was asked last, of those that have answered."""
        durable = self.durable
        if durable == NEVER or not self.is_watched:
            return None
        if not self._need:
            return float("inf"), durable
        points = []
        for node, told in self.told.items():
            if NEVER < told.number <= durable:
                points.append((as_of_s[node], told.number))
            elif told.kept_number != NEVER:
                points.append((told.kept_s, told.kept_number))
        if len(points) < self._need:
            return None
        points = sorted(points, reverse=True)[: self._need]
        return points[-1][0], max([number for _, number in points])

    def is_chosen(self, store_key: bytes) -> bool:
        """Whether what is held of a key is durable, and held identically by a majority."""
        last = self._last.get(store_key)
        number = self._trimmed if last is None else last[0]
        if number > self.durable:
            return False
        return number <= self.confirmed or not self._need or self._shown.get(store_key) == number

    def was_shown(self, store_key: bytes) -> None:
        """What is held of a key was told to somebody as committed. A watermark of a later ballot says nothing of it any more, and
        what it came over must not be shown again."""
        last = self._last.get(store_key)
        if last is not None:
            self._shown[store_key] = last[0]

    def is_durable(self, store_key: bytes) -> bool:
        """Whether what is held of a key is durable, as far as that is known."""
        last = self._last.get(store_key)
        return (self._trimmed if last is None else last[0]) <= self.durable

    def changed_after(self, store_key: bytes, proof: tuple[float, int]) -> bool:
        """Whether the last change of a key came, for certain, after a proof's change, and after the others were asked for it: what
        it replaced was the latest here when they were. We are one of the majority that has answered."""
        asked_s, number = proof
        last = self._last.get(store_key)
        return last is not None and last[0] > number and last[1] > asked_s

    # --- who differs

    def look(self, looks: int) -> list[str]:
        """Others that have not been where we are, or were at the last look, for `looks` looks."""
        differing = []
        for node, told in self.told.items():
            if told.digest is None or not self.is_known or told.digest == self.digest or told.number >= self._looked_at > NEVER:
                told.looks = 0
                continue
            told.looks += 1
            if told.looks >= looks:
                differing.append(node)
        self._looked_at = self.decided if self.is_known else NEVER
        return differing

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert self.durable <= self.decided, "durable before it was decided"
        assert self.confirmed <= self.decided, "others confirm what was not decided"
        assert len(self._changes) <= HISTORY_MAX + 1
        assert self.only_sums == (self.is_known and not self.is_watched)
        assert self.is_watched or not (self._changes or self._numbers or self._last or self._shown), "remembered and not watched"
