"""Makes a violation small: the fewest operations found that no order can place. Pure.

What may be left out without making a history worse than it is: operations that change nothing, and changes that nobody left can
have seen (see `operations.without_unseen`; it holds for acknowledged ones too). Everything after the end of the operation that
has no place is left out at once. Each step is tried by searching again, so what is left is a violation by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from kvchaos.checkers.linearizability.just_in_time import Answer, Outcome, search, states_of
from kvchaos.checkers.linearizability.operations import Kind, Op, Value
from kvchaos.checkers.linearizability.zones import Contradiction, told

WORK_MAX = 1_500_000
"""Operations searched through in all, some seconds; with more the explanation stays larger."""
STEPS_EACH = 20_000


def explain(ops: Sequence[Op], answer: Answer, initial: Value = None, *, work_max: int = WORK_MAX) -> Contradiction:
    """A sentence on a violation that `search` found in `ops`, and the operations that make it one."""
    assert answer.misfit is not None, "only a violation needs to be explained"
    kept, work = _until(ops, answer.misfit.ended), 0
    size = len(kept)
    while True:
        changed = False
        for pure in (True, False):
            at = 0
            while at < len(kept) and work < work_max:
                fewer = _left_out(kept, kept[at : at + size], pure=pure, but=answer.misfit)
                if len(fewer) < len(kept):
                    work += len(fewer)
                    if (found := _violation(fewer, initial)) is not None:
                        kept, answer, changed = fewer, found, True
                        continue
                at += size
        if work >= work_max:
            break
        if size == 1 and not changed:
            # What had no place may be none of the reason: where it is left out, something else has none.
            fewer = [op for op in kept if op is not answer.misfit]
            found = _violation(fewer, initial) if answer.misfit is not None and answer.misfit.is_pure else None
            if found is None:
                break
            kept, answer, work = fewer, found, work + len(fewer)
        size = max(1, size // 2)
    misfit = answer.misfit
    assert misfit is not None
    text = f"{told(misfit)} has no place: by its end the register may have held {states_of(answer.values)}"
    others = [told(op) for op in kept if op is not misfit]
    beside = f", given {'; '.join(others)}" if len(others) <= 6 else f", given {len(others)} other operations"
    return Contradiction(text + (beside if others else ""), tuple(kept))


def _until(ops: Sequence[Op], end: float) -> list[Op]:
    """What began by `end`; what was not over by then may have happened."""
    begun = [op for op in ops if op.began <= end]
    return [op if op.ended <= end else replace(op, ended=float("inf")) for op in begun if op.ended <= end or not op.is_pure]


def _left_out(ops: Sequence[Op], chosen: Sequence[Op], *, pure: bool, but: Op | None) -> list[Op]:
    """`ops` without those of `chosen`, except `but`, that may be left out: those that change nothing, or those that do. Of these
    the last go first, as a change sees what was before it."""
    gone = {id(op) for op in chosen if op.is_pure and op is not but} if pure else set[int]()
    if not pure and not any(op.kind in (Kind.DIFFER, Kind.ADD) for op in ops):  # they would take nearly any value
        wanted = Counter(op.old for op in ops if op.kind in (Kind.READ, Kind.CAS))
        for op in reversed(chosen):
            if not op.is_pure and op is not but and wanted[op.new] <= (op.kind is Kind.CAS and op.old == op.new):
                gone.add(id(op))
                if op.kind is Kind.CAS:
                    wanted[op.old] -= 1
    return [op for op in ops if id(op) not in gone]


def _violation(ops: Sequence[Op], initial: Value) -> Answer | None:
    found = search(ops, initial, steps_max=STEPS_EACH + 20 * len(ops))
    return found if found.outcome is Outcome.VIOLATION else None
