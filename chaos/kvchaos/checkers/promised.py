"""Which checkers verify what the dial promises, and which would verify the next stronger promise. Pure.

A promise of `kvclient.dial` is verified by the checkers named here. What a setting does *not* promise is judged as well: its
history is read as if it had (`stronger`), so that a violation shows that the promise says no less than it could.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from kvchaos.causality import stories_of
from kvchaos.checkers.atomic_reads import LEVEL as ATOMIC
from kvchaos.checkers.atomic_reads import check_atomic_reads
from kvchaos.checkers.linearizability.verdicts import check_linearizable
from kvchaos.checkers.strict import check_strict
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import WRITES, Call, Event, calls_of
from kvclient.dial import Promise, Setting, promise_of

EXACT = "what is not sloppy is never degraded nor on stand-ins"

CONVERGES = ("invented", "siblings", "reads")
VERIFIED_BY: dict[Promise, tuple[str, ...]] = {
    Promise.CACHE: ("invented", "stays_ended"),
    Promise.EVENTUAL: CONVERGES,
    Promise.REGULAR_UNLESS_DEGRADED: (*CONVERGES, "strict"),
    Promise.REGULAR: (*CONVERGES, "strict"),
    Promise.ATOMIC: (*CONVERGES, "strict", "atomic"),
    Promise.UNSEEN_ONLY: (*CONVERGES, "atomic"),
    Promise.TIMELINE: ("timeline",),
    Promise.BOUNDED: ("timeline",),
    Promise.LINEARIZABLE: ("linearizable",),
}
"""Names of kvchaos.checkers.judge. A cache is judged so in the scenarios of namespaces in memory (kvchaos.simulation.spaces)."""

STRONGEST = frozenset({Promise.ATOMIC, Promise.LINEARIZABLE})
"""There is nothing above them in their mode."""


def check_exact(calls: Iterable[Call], setting: Setting) -> list[Violation]:
    """At most one: an answer of a setting without stand-ins that says it did with less."""
    if setting.sloppy:
        return []
    told = [call for call in calls if call.is_ok and (call.fact("degraded") or call.fact("hinted"))]
    return [Violation(EXACT, call.key, f"a {call.f} did with less", events_of(call)) for call in told[:1]]


def stronger(events: Sequence[Event], setting: Setting) -> list[Violation]:
    """What of the next stronger promise the history breaks; nothing for those that are the strongest."""
    check = _NEXT.get(promise_of(setting))
    return [] if check is None else check(events, setting.n)


def _regular(events: Sequence[Event], n: int, *, excused: bool) -> list[Violation]:
    """As if every write and read overlapped; `excused`: unless their answers say that they did with less."""
    seen = [_claims(event, n, excused=excused) for event in events]
    return check_strict(stories_of(calls_of(seen), None), n)


def _claims(event: Event, n: int, *, excused: bool) -> Event:
    if event.type != "ok" or event.f not in {"read", *WRITES}:
        return event
    facts = {**event.facts, "needed": n}
    if not excused:
        facts.pop("degraded", None)
        facts.pop("hinted", None)
    return replace(event, facts=facts)


def _unseen(events: Sequence[Event], _n: int) -> list[Violation]:
    """As if every read were atomic."""
    seen = [
        replace(event, facts={**event.facts, "level": ATOMIC}) if event.type == "invoke" and event.f == "read" else event
        for event in events
    ]
    return check_atomic_reads(stories_of(calls_of(seen), None))


_NEXT: dict[Promise, Callable[[Sequence[Event], int], list[Violation]]] = {
    Promise.EVENTUAL: lambda events, n: _regular(events, n, excused=True),
    Promise.REGULAR_UNLESS_DEGRADED: lambda events, n: _regular(events, n, excused=False),
    Promise.REGULAR: _unseen,
    Promise.UNSEEN_ONLY: lambda events, n: _regular(events, n, excused=False),
    Promise.TIMELINE: lambda events, _n: check_linearizable(calls_of(events)),
    Promise.BOUNDED: lambda events, _n: check_linearizable(calls_of(events)),
}
