"""Every call succeeds. Pure. For histories in which enough replicas could be reached at any time."""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

SERVED = "every call succeeds while enough replicas can be reached"


def check_served(calls: Iterable[Call]) -> list[Violation]:
    """A violation for each call that failed, or whose outcome nobody knows."""
    failed = [call for call in calls if not call.is_ok]
    return [Violation(SERVED, call.key, f"{call.f}: {_outcome(call)}", events_of(call)) for call in failed]


def _outcome(call: Call) -> str:
    return "refused" if call.is_refused else "nobody knows what became of it"
