"""Rules of linearizable registers left out, as far as whole clusters show it (safety rules 15, 16, 19 and 20). All others are found
missing by the random schedules of tests/laws/register_world.py, which meet what is rare a thousand times as often."""

from __future__ import annotations

from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.coordinator.linearizable import local_reads
from kvstore.core.register.acceptor import Acceptor, GroupState, Verdict
from kvstore.core.register.progress import Progress
from kvstore.core.register.readmission import Copied, Readmission
from kvstore.core.register.reaping import Reaping
from kvstore.core.register.timeline_read import is_answerable
from kvstore.repair.register_reaping import RegisterReaper
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


@bug("timeline-unproven", "a home replica answers alone without proof that it lags behind nobody", scenario="minority-accepts")
def prove_nothing(patch: Patch) -> None:
    """One that is cut off shows what it holds for ever (safety rule 19)."""

    def proof(self: Progress, _: Any) -> tuple[float, int] | None:
        return (float("inf"), self.durable) if self.is_known else None

    patch.set(Progress, "proof", proof)


@bug(
    "timeline-uncommitted",
    "a home replica that answers alone shows what it has accepted, committed or not",
    scenario="minority-accepts",
)
def show_accepted(patch: Patch) -> None:
    """What nobody else has accepted was seen, and never was."""
    patch.set(Acceptor, "is_committed", lambda self, store_key, held: True)


@bug(
    "timeline-ignores-session", "a home replica that answers alone does not look at what the session has seen", scenario="timeline"
)
def ignore_what_was_seen(patch: Patch) -> None:
    """A session does not read what it wrote (safety rule 20)."""

    def answerable(payload: bytes | None, _: bytes, now_ms: int) -> bool:
        return is_answerable(payload, b"", now_ms)

    patch.set(local_reads, "is_answerable", answerable)


@bug(
    "register-reaped-at-majority",
    "a tombstone of a register is forgotten when a majority of its owners holds it",
    scenario="timeline",
)
def reap_at_majority(patch: Patch) -> None:
    """Who missed it brings back what was deleted."""
    patch.set(Reaping, "owners_needed", lambda self, owners: owners // 2 + 1)
    patch.set(RegisterReaper, "all_are_there", lambda self, group: True)
