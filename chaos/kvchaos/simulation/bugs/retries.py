"""Writes that are executed again though they are remembered: rule 8."""

from __future__ import annotations

from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.coordinator import minting
from kvstore.core.record import decode
from kvstore.core.record_writes import Minted


@bug("ids-forgotten", "request ids are remembered for live siblings only, not for superseded ones (safety rule 8)")
def forget_superseded_ids(patch: Patch) -> None:
    """A retry that arrives after its write was superseded brings it back."""

    def known_live(base: bytes | None, *args: Any, **named: Any) -> Minted | None:
        known: Minted | None = known_request(base, *args, **named)
        if known is None or base is None or all(sibling.dot != known.dot for sibling in decode(base).siblings):
            return None
        return known

    known_request = patch.set(minting, "known_request", known_live)


@bug("second-dot", "a retry is minted a second dot, also by the coordinator that executed it")
def mint_again(patch: Patch) -> None:
    """Each attempt is an execution."""
    patch.set(minting, "known_request", lambda *args, **named: None)


@bug("late-attempt", "an attempt is executed however long it was on its way (safety rule 8)", scenario="late-attempts")
def execute_late_attempts(patch: Patch) -> None:
    """A node that stood still brings back what was overwritten meanwhile: its client had asked somebody else."""
    patch.set(minting.Minter, "_cutoff_ms", lambda self, group, now_ms: 0)


@bug("age-by-wall-clock", "how old a request is nodes judge by their own wall clocks", scenario="late-attempts")
def judge_by_wall_clock(patch: Patch) -> None:
    """One whose clock is behind executes what is too old; one whose clock is ahead executes nothing."""

    def by_wall_clock(self: minting.Minter, _group: Any, now_ms: int) -> int:
        return max(0, now_ms - self._retry_window_ms)

    patch.set(minting.Minter, "_cutoff_ms", by_wall_clock)
