"""When a tombstone may be forgotten: evidence in, what to ask and what to reap out (consistency, section 5; safety rules 9, 10).

A tombstone keeps what it has superseded from coming back. It is needed as long as there is such a thing anywhere: in the record of
an owner, in a copy or a hint, in a message under way. So it goes in two looks, each at every node of the cluster:

1. Nobody holds anything but this very record, or nothing; nobody has a hint for the key. From this moment on nothing older is
   sent.
2. `wait_s` later, which is longer than messages are taken (`late_s`), the same record again: what was under way at the first look
   is refused everywhere by now, and nobody has anything to send. Each owner that agrees has made the stamp of this reaping durable.

Then every owner forgets it, each for itself. One that does not (it crashed, the message was lost) keeps a tombstone that supersedes
nothing; whoever gets it back from there holds the same, and the next two looks find it: to hold nothing is no objection.

Pure: no clock, no network. `repair/reaping.py` drives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Found = tuple[bytes, bytes]
"""A key and the digest of its record, which is nothing but tombstones."""


@dataclass(slots=True, frozen=True)
class Grace:
    """What follows from the grace: messages older than `late_s` are refused; a tombstone is looked at first when it is `age_s` old,
    and reaped `wait_s` after that look at the earliest. The clocks of two nodes may differ by `wait_s - late_s`, an eighth of
    it."""

    grace_s: float

    @property
    def late_s(self) -> float:
        """Half of it."""
        return self.grace_s / 2

    @property
    def wait_s(self) -> float:
        """Between the two looks."""
        return self.grace_s * 5 / 8

    @property
    def clocks_s(self) -> float:
        """By how much clocks may differ: what the wait is longer than messages are taken."""
        return self.grace_s / 8

    @property
    def age_s(self) -> float:
        """At the first look; with the wait, the grace."""
        return self.grace_s * 3 / 8

    @property
    def marks_s(self) -> float:
        """At most so long between two notes on the disk of when a node was alive: a sixteenth of it, and no more than a minute."""
        return min(60.0, self.grace_s / 16)

    @property
    def absent_s(self) -> float:
        """Whoever was away for less has missed no reaping, be its disk an older copy: what is reaped without it was looked at by it
        `wait_s` before. Less what clocks differ by, and what lies between two notes of when a node was alive."""
        return self.grace_s * 7 / 16


class ReapingPlan:
    """One node's evidence about the tombstones that it is to reap: at most `count_max` keys; the rest waits for a later pass. Times
    are seconds of one clock that never goes back."""

    __slots__ = ("_confirmed", "_count_max", "_seen", "grace")

    def __init__(self, grace: Grace, *, count_max: int = 100_000) -> None:
        self.grace = grace
        self._count_max = count_max
        self._confirmed: dict[bytes, tuple[bytes, float]] = {}  # key -> digest, when every answer of the first look was in
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        """Keys that wait for their second look."""
        return len(self._confirmed)

    def sort(self, found: Sequence[Found], now_s: float) -> tuple[list[Found], list[Found]]:
        """Those to be looked at for the first time, and those whose second look is due. A record that has changed begins anew."""
        fresh: list[Found] = []
        ripe: list[Found] = []
        for key, digest in found:
            self._seen.add(key)
            held = self._confirmed.get(key)
            if held is None or held[0] != digest:
                self._confirmed.pop(key, None)
                fresh.append((key, digest))
            elif now_s - held[1] >= self.grace.wait_s:
                ripe.append((key, digest))
        return fresh[: max(0, self._count_max - len(self._confirmed))], ripe

    def confirm(self, agreed: Sequence[Found], now_s: float) -> None:
        """Every node has agreed to these, the last answer at `now_s`."""
        for key, digest in agreed:
            self._confirmed[key] = (digest, now_s)

    def forget(self, keys: Sequence[Found]) -> None:
        """These are reaped, or somebody has objected at the second look: they begin anew if they are found again."""
        for key, _ in keys:
            self._confirmed.pop(key, None)

    def end_pass(self) -> None:
        """Everything there is was offered once: evidence about keys that were not among it is let go of."""
        for key in [key for key in self._confirmed if key not in self._seen]:
            del self._confirmed[key]
        self._seen = set()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert len(self._confirmed) <= self._count_max


def agreed_by_all(found: Sequence[Found], members: Sequence[str], against: Mapping[str, Sequence[int]]) -> list[Found]:
    """Those of `found` that nobody objects to: every one of `members` has answered, with the positions it is against. None of them
    as long as one answer is missing."""
    if any(member not in against for member in members):
        return []
    objected = {position for member in members for position in against[member]}
    return [one for position, one in enumerate(found) if position not in objected]


def is_absent(mark_ms: int, told: Sequence[tuple[int, int]], grace: Grace) -> bool:
    """Whether tombstones may have been reaped since `mark_ms`, when the last note on this disk was made that its node was alive.
    `told` by peers: their time, and until when each is known to have been alive long enough to have reaped anything. A cluster that
    was stopped as a whole has reaped nothing. A clock that is ahead of the median counts no further than that."""
    if not told:
        return False
    clocks = sorted(now_ms for now_ms, _ in told)
    now_ms = clocks[(len(clocks) - 1) // 2]
    return max(min(lived_ms, now_ms) for _, lived_ms in told) - mark_ms >= 1000 * grace.absent_s


def agreed_now_ms(mine_ms: int, others_ms: Sequence[int], members: int) -> int | None:
    """The time by which values may be ended for good: the lower median of the clocks of a majority, ours included, so that one
    clock that is ahead ends nothing early; None if fewer than a majority of `members` could be asked."""
    clocks = sorted([mine_ms, *others_ms])
    return clocks[(len(clocks) - 1) // 2] if 2 * len(clocks) > members else None
