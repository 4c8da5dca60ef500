"""Rules of linearizable registers left out, as far as whole clusters show it (safety rules 15 and 16). All others are found
missing by the random schedules of tests/laws/register_world.py, which meet what is rare a thousand times as often."""

from __future__ import annotations

from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.core.register.acceptor import Acceptor, GroupState, Verdict
from kvstore.core.register.readmission import Copied, Readmission
from kvstore.storage.registers import Registers

SCENARIO = "registers"


@bug("accept-below-promise", "an acceptor serves ballots below the one that it promised", scenario=SCENARIO)
def accept_anything(patch: Patch) -> None:
    """A proposer that was passed by another goes on writing."""

    def promise(self: Acceptor, group: bytes, ballot: bytes, verdict: Verdict) -> GroupState:
        state = self._group(group)
        state.promised = max(state.promised, ballot)
        verdict.groups.add(group)
        return state

    patch.set(Acceptor, "_promise", promise)


@bug("amnesiac-acceptor", "an acceptor that has lost its disk votes (safety rule 15)", scenario="lost-acceptor")
def vote_after_a_loss(patch: Patch) -> None:
    """What it had accepted is absent."""
    patch.set(Registers, "votes", property(lambda self: True))


@bug("readmitted-by-one", "a lost acceptor votes again after one other owner has told what it holds", scenario="lost-acceptor")
def hear_one(patch: Patch) -> None:
    """What it had accepted with another one is absent (safety rule 15)."""
    patch.set(Readmission, "needed", property(lambda self: 1))


@bug(
    "readmitted-unread",
    "a lost acceptor votes again under the others' promises, without what they hold",
    scenario="readmitted-acceptor",
)
def copy_nothing(patch: Patch) -> None:
    """What it had accepted with another one is absent as soon as that one is away."""

    def take(self: Readmission, *args: Any) -> Copied | None:
        copied: Copied | None = take_all(self, *args)
        if copied is not None:
            copied.writes, copied.proposed = [], []
        return copied

    take_all = patch.set(Readmission, "take", take)
