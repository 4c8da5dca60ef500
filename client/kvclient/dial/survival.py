"""What a setting goes through: how many replicas may be away, a zone, one side of a cut; and how many disks may be lost."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from kvclient.dial.setting import LINEARIZABLE, Kept, Level, Setting


class Answer(StrEnum):
    """What comes of an operation; the words of docs/consistency.md."""

    YES = "yes"
    DEGRADED = "degraded"
    REFUSED = "refused"


class Outcome(NamedTuple):
    """Of writes and of reads."""

    writes: Answer
    reads: Answer

    def __str__(self) -> str:
        return f"{self.writes} / {self.reads}"


def outcome(setting: Setting, reachable: int) -> Outcome:
    """With so many of a key's n home replicas within reach, once that was noticed, and no other node that could stand in. Only a
    preset makes do with fewer: a number of replicas is met or refused, also where stand-ins may be among them."""
    return Outcome(
        _answer(reachable, setting.w, setting.sloppy and setting.write is Level.PRESET),
        _read(setting, reachable),
    )


def _read(setting: Setting, reachable: int) -> Answer:
    if setting.read is Level.ATOMIC:
        return _answer(reachable, setting.r, sloppy=False)
    if setting.mode == LINEARIZABLE and setting.read in (Level.TIMELINE, Level.BOUNDED):
        # Past the bound a replica that hears no majority cannot know that what it has is fresh enough.
        return _answer(reachable, setting.majority, sloppy=False)
    return _answer(reachable, setting.r, setting.sloppy and setting.read is Level.PRESET)


def _answer(reachable: int, need: int, sloppy: bool) -> Answer:
    if reachable >= need:
        return Answer.YES
    return Answer.DEGRADED if sloppy and reachable else Answer.REFUSED


def survived_disks(setting: Setting) -> int:
    """How many of the disks that acknowledged a write may be lost for good, before others have copied it: fewer than wrote it.
    Of a degraded write the receipt says how many these were."""
    return setting.w - 1 if setting.kept is not Kept.MEMORY else 0


def in_a_zone(n: int, zones: int) -> int:
    """The most replicas of a key that one of `zones` zones holds, as the ring spreads them."""
    return -(-n // max(1, zones))
