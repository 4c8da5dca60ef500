"""What a history shows over time: each operation with its outcome, the rates, and the operations that failed. Pure.

Times are seconds since the first operation of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kvchaos.history import Call, History, calls_of
from kvchaos.scenarios.figures import READS, WRITTEN, is_answered

SITES = ("near", "far")
"""The sides of clients in histories whose header does not name them."""


class Outcome(StrEnum):
    """What a client was told."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """`took_ms` is None where there never was an answer; `error` is "" of what was answered."""

    at_s: float
    took_ms: float | None
    outcome: Outcome
    kind: str
    side: str
    call: Call

    @property
    def ended_s(self) -> float:
        """When it was told; when it began if it never was."""
        return self.at_s + (self.took_ms or 0.0) / 1e3

    @property
    def error(self) -> str:
        """What the client was told."""
        return "" if self.outcome is Outcome.OK else str(self.call.fact("error", "no answer"))


def began_ns(histories: Iterable[History]) -> int:
    """The first operation of any of them; 0 if there is none."""
    return min((event.time_ns for history in histories for event in history.events if event.type == "invoke"), default=0)


def operations_of(history: History, zero_ns: int) -> list[Operation]:
    """In the order in which they began, without the last reads, which are made when all is over."""
    sides: Sequence[str] = history.header.get("sites", SITES)
    found = []
    for call in calls_of(history.events):
        process = call.invoke.process
        if call.invoke.facts.get("final") or not isinstance(process, int):
            continue
        outcome = Outcome.OK if is_answered(call) else Outcome.REFUSED if call.is_refused else Outcome.UNKNOWN
        took_ms = None if call.end is None else (call.end.time_ns - call.began_ns) / 1e6
        kind = READS if call.f == "read" else WRITTEN
        found.append(Operation((call.began_ns - zero_ns) / 1e9, took_ms, outcome, kind, sides[process % len(sides)], call))
    return found


def rates(operations: Iterable[Operation], span_s: float, bins: int) -> Mapping[Outcome, list[float]]:
    """Operations a second by outcome, in so many bins of one width from 0 to `span_s`, each operation where it was told."""
    bin_s = span_s / bins
    counts = {outcome: [0] * bins for outcome in Outcome}
    for operation in operations:
        counts[operation.outcome][min(bins - 1, max(0, int(operation.ended_s / bin_s)))] += 1
    return {outcome: [count / bin_s for count in row] for outcome, row in counts.items()}


def failed(operations: Iterable[Operation]) -> list[Operation]:
    """Those that were refused or whose outcome is unknown."""
    return [operation for operation in operations if operation.outcome is not Outcome.OK]
