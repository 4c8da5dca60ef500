"""Rules of linearizable registers left out, as far as whole clusters show it (safety rules 15, 16, 19 and 20). All others are found
missing by the random schedules of tests/laws/register_world.py, which meet what is rare a thousand times as often."""

from __future__ import annotations

from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.coordinator.linearizable import local_reads
from kvstore.core.register import proposer
from kvstore.core.register.acceptor import Acceptor, GroupState, Verdict
from kvstore.core.register.changes import Operation
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
    scenario="missed-tombstone",
)
def reap_at_majority(patch: Patch) -> None:
    """Who missed it brings back what was deleted."""
    patch.set(Reaping, "owners_needed", lambda self, owners: owners // 2 + 1)
    patch.set(RegisterReaper, "all_are_there", lambda self, group: True)


@bug(
    "first-attempts-trusted",
    "a first attempt is executed though its id may be forgotten (safety rule 8)",
    scenario="late-first-attempts",
)
def trust_first_attempts(patch: Patch) -> None:
    """It came late; its client had asked another node, and what it wrote then was overwritten since: it is back."""

    def decide(operation: Operation, *args: Any) -> Any:
        operation.is_alone = True
        return decide_knowing(operation, *args)

    decide_knowing = patch.set(proposer, "decide", decide)


@bug("promise-before-fsync", "an acceptor promises before that is durable (safety rule 3)", scenario="unsynced-promises")
def promise_before_it_is_durable(patch: Patch) -> None:
    """After a power cut it serves an earlier ballot: what that one writes, whoever has the later ballot does not see.

    Ordinary schedules do not find it, because three things hide it. An accept writes the promise again. An accept under way when
    its acceptor crashes ends the ballot, and the next one reads anew. And a promise is lost only if the power fails within its
    sync. What is left are reads that confirm a later ballot by nobody but the acceptor that forgot it, while the earlier proposer
    still writes through that acceptor: two proposers that do not reach each other, a slow disk, a power cut within the sync.
    """

    def commit(self: Registers, verdict: Verdict, done: Any, more: Any = ()) -> None:
        if not verdict.writes and not verdict.deletes and not more:
            done(None, verdict.reply)
            done = _nothing
        commit_first(self, verdict, done, more)

    commit_first = patch.set(Registers, "_commit", commit)


def _nothing(*_: Any) -> None:
    """Nobody is told."""
