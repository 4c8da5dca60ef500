"""Session guarantees: what a session wrote it reads, what it read it reads again, and its writes follow both. Pure.

(Terry and others, Session guarantees for weakly consistent replicated data, PDIS'94.) A session is what the fact `session` names,
on whichever nodes its calls ran, else a process. Whether one answer had seen another is told by the places in the order of
commits (`order`), else by contexts and versions; where the history has neither, nothing is claimed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kvchaos.causality import covers, reach_of
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import CHANGING, Call

READ_YOUR_WRITES = "a session reads what it wrote"
MONOTONIC_READS = "a session reads what it has read, or newer"
WRITES_FOLLOW_READS = "a write of a session comes after what the session has read"
MONOTONIC_WRITES = "a write of a session comes after the session's earlier writes"


def check_sessions(calls: Iterable[Call]) -> list[Violation]:
    """At most one violation of each guarantee for each session and key: the first."""
    sessions: defaultdict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in calls:
        if call.is_ok:
            sessions[str(call.invoke.facts.get("session", call.invoke.process)), call.key].append(call)
    return [violation for (name, key), own in sorted(sessions.items()) for violation in _check(name, key, own)]


def _check(session: str, key: str, calls: list[Call]) -> Iterable[Violation]:
    told: set[str] = set()
    for at, call in enumerate(calls):
        if call.fact("order") is None and call.fact("context") is None:
            continue
        for earlier in reversed(calls[:at]):
            promise = _promise(earlier, call)
            if promise in told or earlier.ended_ns > call.began_ns:
                continue
            seen = has_seen(call, earlier)
            if seen is False:
                told.add(promise)
                text = f"session {session}: its {call.f} (event {call.invoke.index}) has not seen its earlier {earlier.f}"
                yield Violation(promise, key, text, events_of(earlier, call))
            elif seen and (earlier.f in CHANGING) == (call.f in CHANGING):
                break  # whoever has seen this one has seen what it had seen, or this one was accused


def _promise(earlier: Call, later: Call) -> str:
    if earlier.f in CHANGING:
        return MONOTONIC_WRITES if later.f in CHANGING else READ_YOUR_WRITES
    return WRITES_FOLLOW_READS if later.f in CHANGING else MONOTONIC_READS


def has_seen(later: Call, earlier: Call) -> bool | None:
    """Whether what `later` was told includes what `earlier` was told; None: cannot be said."""
    if earlier.fact("order") is not None and later.fact("order") is not None:
        return bool(later.fact("order") >= earlier.fact("order"))
    if later.fact("context") is None:
        return None
    vector, dots = reach_of(str(later.fact("context")))
    if earlier.f in CHANGING and earlier.fact("version"):
        version = str(earlier.fact("version"))
        return covers(vector, version) or version in dots
    if earlier.fact("context") is None:
        return None
    before, single = reach_of(str(earlier.fact("context")))
    return all(vector.get(actor, 0) >= counter for actor, counter in before.items()) and all(
        covers(vector, dot) or dot in dots for dot in single
    )
