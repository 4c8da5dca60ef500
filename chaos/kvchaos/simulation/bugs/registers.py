"""Rules of linearizable registers left out (consistency.md, section 4; safety rules 3, 15 and 16)."""

from __future__ import annotations

from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.core.register.acceptor import Acceptor, GroupState, Verdict
from kvstore.core.register.proposer import Proposer
from kvstore.storage.registers import Registers

SCENARIO = "registers"


@bug("unconfirmed-read", "a register is read without asking whether the ballot still stands", scenario=SCENARIO)
def read_without_confirming(patch: Patch) -> None:
    """A proposer that was passed by another answers what it knew."""
    patch.set(Proposer, "_must_confirm", lambda self, operation: False)


@bug("uncommitted-read", "a register is answered from a value that no majority has accepted yet", scenario=SCENARIO)
def read_before_commit(patch: Patch) -> None:
    """The value may never be chosen."""
    patch.set(Proposer, "_may_answer_from", lambda self, register: True)


@bug("no-write-back", "a value that only some acceptors hold is taken to be chosen", scenario=SCENARIO)
def adopt_without_accepting(patch: Patch) -> None:
    """The next proposer may not find it."""
    patch.set(Proposer, "_is_chosen", lambda self, states, best, need: True)


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


@bug("promise-before-fsync", "an acceptor answers before what it says is durable (safety rule 3)", scenario=SCENARIO)
def answer_before_fsync(patch: Patch) -> None:
    """A crash takes back a promise or an accept that was counted."""

    def commit(self: Registers, verdict: Verdict, done: Any) -> None:
        write(self, verdict, lambda error, reply: None)
        done(None, verdict.reply)

    write = patch.set(Registers, "_commit", commit)
