"""Reads that a home replica answers alone: at timeline and bounded, where they are proven to be fresh enough (docs/adr/0021).

What cannot be answered so is left to the proposer, at once: a round to prove more would cost as much as reading there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvproto.columns import GroupReply, Kind, Level
from kvstore.coordinator.batch import SubBatch, part_of
from kvstore.coordinator.linearizable.batches import shown
from kvstore.coordinator.outcomes import Emit, receipt
from kvstore.core.register.acceptor import Lost
from kvstore.core.register.ballot import GROUP_BYTES
from kvstore.core.register.changes import Answer, Outcome
from kvstore.core.register.timeline_read import is_answerable
from kvstore.runtime import Clock
from kvstore.storage.registers import Registers

Proof = tuple[float, int]


class LocalReads:
    """One node's. `bound_s`: of reads at `timeline`, which name none."""

    def __init__(self, me: str, registers: Registers, clock: Clock, bound_s: float) -> None:
        self._me = me
        self._registers = registers
        self._clock = clock
        self._bound_s = bound_s
        self.want: Callable[[int], None] = lambda namespace: None
        """Is told in which namespace such reads are asked for here."""
        self.answered = 0
        self.left = 0
        """Reads that were answered alone, and those that were not."""

    def bound_s(self, sub: SubBatch) -> float | None:
        """How old an answer may be; None: not at all."""
        group = sub.group
        if group.kind is not Kind.GET:
            return None
        if group.level is Level.BOUNDED:
            return group.bound_ms / 1000
        is_timeline = group.level is Level.TIMELINE or (group.level is Level.PRESET and sub.space.info.preset == "pc-el")
        return self._bound_s if is_timeline else None

    def answer(self, sub: SubBatch, bound_s: float, emit: Emit) -> SubBatch | None:
        """Answers what can be; the rest of the sub-batch, None if nothing is left."""
        self.want(sub.space.info.id)
        registers, seen_by = self._registers, sub.group.seen
        now_s, now_ms = self._clock.since_boot_s(), self._clock.now_ms()
        proofs: dict[bytes, Proof | None] = {}
        there: list[int] = []
        answers: list[Answer] = []
        oldest_s = float("inf")
        for place, (index, store_key) in enumerate(zip(sub.at(), sub.store_keys, strict=True)):
            group = store_key[:GROUP_BYTES]
            proof = proofs.get(group)
            if proof is None:
                if group in proofs:
                    continue
                proof = registers.tracker.proof(group) if registers.votes_on(group) else None
                if proof is not None and proof[0] < now_s - bound_s:
                    proof = None
                proofs[group] = proof
                if proof is None:
                    continue
            try:
                is_known, payload = registers.shown(store_key, proof)
            except Lost:
                continue
            if is_known and is_answerable(payload, seen_by[index] if seen_by else b"", now_ms):
                there.append(place)
                answers.append(Answer(Outcome.READ, payload))
                oldest_s = min(oldest_s, proof[0])
        self.answered += len(there)
        self.left += len(sub.store_keys) - len(there)
        if not there:
            return sub
        whole = len(there) == len(sub.store_keys)
        self._tell(sub, None if whole else there, answers, now_s - oldest_s, emit)
        if whole:
            return None
        answered = set(there)
        return part_of(sub, [place for place in range(len(sub.store_keys)) if place not in answered])

    def _tell(self, sub: SubBatch, places: list[int] | None, answers: list[Answer], age_s: float, emit: Emit) -> None:
        reply: GroupReply = shown(sub.group_index, answers)
        reply.positions = sub.original(places)
        notes: Sequence[str] = ()
        if sub.group.explain:
            notes = (f"{self._me} answered alone: proven {max(0.0, age_s) * 1000:.0f} ms ago to be behind no majority",)
        reply.receipt = receipt(sub, (self._me,), now_ms=self._clock.now_ms(), durable=True, explanation=notes, needed=1)
        emit(reply, len(answers))
