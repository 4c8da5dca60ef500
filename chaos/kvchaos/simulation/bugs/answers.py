"""Answers that come too early, too late, or from somebody who should not be asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.columns import Level
from kvstore.api.exchange import Exchange
from kvstore.coordinator import batch, put
from kvstore.coordinator.read_repair import ReadRepair
from kvstore.coordinator.read_round import ReadRound
from kvstore.coordinator.replicas import Arrivals
from kvstore.coordinator.write_back import WriteBack
from kvstore.core.quorum import Tally

FAR_S = 1e6


class OneIsEnough(Tally):
    """Counts to one, whatever is needed."""

    def __init__(self, targets: Sequence[str], need: int, size: int) -> None:
        super().__init__(targets, min(need, 1), size)


@bug("ack-before-quorum", "a write is acknowledged by the first replica that has it")
def acknowledge_early(patch: Patch) -> None:
    """The others may never get it."""
    patch.set(put, "Tally", OneIsEnough)


@bug("old-epoch", "a replica answers messages of another ring epoch than its own (safety rule 7)")
def answer_any_epoch(patch: Patch) -> None:
    """Acknowledgements of different epochs add up."""
    patch.set(Exchange, "why_stale", lambda self, epoch, ring_hash: None)


@bug("no-deadline", "a coordinator forgets the deadline of its calls to peers")
def forget_deadlines(patch: Patch) -> None:
    """It waits as long as a silent peer's connection lasts."""

    def make(self: Arrivals, loop: Any, deadline_s: float) -> None:
        init(self, loop, deadline_s + FAR_S)

    init = patch.set(Arrivals, "__init__", make)


@bug("no-read-repair", "a read that saw a stale replica leaves it stale")
def skip_read_repair(patch: Patch) -> None:
    """Replicas do not converge."""
    patch.set(ReadRepair, "submit", lambda self, *args, **named: None)


@bug("exact-degrades", "r and w that a namespace was given degrade as its preset does")
def degrade_what_is_exact(patch: Patch) -> None:
    """What was promised to be met or refused is answered with less."""
    patch.set(batch, "degrades", lambda info, group: group.level is Level.PRESET)


@bug("unseen-by-atomic", "an atomic read answers what a majority need not hold (safety rule 12)", scenario="atomic")
def skip_write_back(patch: Patch) -> None:
    """The next one may meet those that have not heard of it."""

    async def run(_self: WriteBack, _round: Any, positions: list[int], *_: Any) -> tuple[list[int], list[int]]:
        return positions, []

    patch.set(WriteBack, "run", run)


@bug("ignores-session", "a read does not ask whether its session has seen more (safety rule 20)", scenario="sessions")
def ignore_sessions(patch: Patch) -> None:
    """A session misses what it has written."""
    patch.set(ReadRound, "is_behind", lambda self, position: False)
