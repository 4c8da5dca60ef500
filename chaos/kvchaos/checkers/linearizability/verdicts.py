"""Whether each key of a history is linearizable: yes, no and why, or not known. Pure.

Keys of reads and unique writes are decided by zones, whatever their size; the others are searched, and not known when that takes
too many steps. What makes searches long is many clients at once on a key, and many of unknown outcome: at most 8 clients a key,
and another key after 8 unknown outcomes, and everything is decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kvchaos.checkers.linearizability.explanation import explain
from kvchaos.checkers.linearizability.just_in_time import Outcome, search
from kvchaos.checkers.linearizability.operations import Op, Value, operations_of, without_unseen
from kvchaos.checkers.linearizability.zones import Contradiction, find_contradiction, is_for_zones
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

LINEARIZABLE = "a register behaves as if there were one copy"
UNDECIDED = "whether registers are linearizable can be told"
UNKNOWN_SHARE_MAX = 0.02


@dataclass(frozen=True, slots=True)
class KeyVerdict:
    """What is known of one key. `violation` where it is not linearizable; `steps` is 0 where no search was needed."""

    key: str
    outcome: Outcome
    operations: int
    steps: int = 0
    violation: Violation | None = None


def check_linearizable(calls: Iterable[Call], *, initial: Mapping[str, Value] | None = None) -> list[Violation]:
    """Every key that is not linearizable; and one violation, of `UNDECIDED`, if of more than 2 % of the keys it is not known.
    `initial`: what keys held before, nothing by default."""
    return violations_of(judge_keys(calls, initial=initial))


def judge_keys(
    calls: Iterable[Call], *, initial: Mapping[str, Value] | None = None, steps_max: int | None = None
) -> list[KeyVerdict]:
    """A verdict for every key that has operations on registers, in the order of the keys."""
    held = initial or {}
    return [_judge(key, ops, held.get(key), steps_max) for key, ops in operations_of(calls).items()]


def violations_of(verdicts: Sequence[KeyVerdict]) -> list[Violation]:
    """See `check_linearizable`."""
    found = [verdict.violation for verdict in verdicts if verdict.violation is not None]
    unknown = [verdict for verdict in verdicts if verdict.outcome is Outcome.UNKNOWN]
    if len(unknown) > UNKNOWN_SHARE_MAX * len(verdicts):
        keys = ", ".join(verdict.key for verdict in unknown[:5])
        text = f"{len(unknown)} of {len(verdicts)} keys would have taken too long: {keys}{' …' if len(unknown) > 5 else ''}"
        found.append(Violation(UNDECIDED, "", text))
    return found


def _judge(key: str, ops: Sequence[Op], initial: Value, steps_max: int | None) -> KeyVerdict:
    if is_for_zones(ops, initial):
        contradiction = find_contradiction(ops, initial)
        outcome = Outcome.LINEARIZABLE if contradiction is None else Outcome.VIOLATION
        return KeyVerdict(key, outcome, len(ops), violation=_accuse(key, contradiction))
    relevant = without_unseen(ops)
    answer = search(relevant, initial, steps_max=steps_max)
    contradiction = explain(relevant, answer, initial) if answer.outcome is Outcome.VIOLATION else None
    return KeyVerdict(key, answer.outcome, len(ops), answer.steps, _accuse(key, contradiction))


def _accuse(key: str, contradiction: Contradiction | None) -> Violation | None:
    if contradiction is None:
        return None
    return Violation(LINEARIZABLE, key, contradiction.text, events_of(*(op.call for op in contradiction.ops)))
