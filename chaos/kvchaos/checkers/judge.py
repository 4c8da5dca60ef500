"""All checkers over one history. Its header says what may be asserted: {"n", "r", "w", "promises": [names]}; see `PROMISES` and
`FURTHER`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

from kvchaos.causality import executions_of, stories_of
from kvchaos.checkers.accumulated import check_accumulated
from kvchaos.checkers.answers import check_answers
from kvchaos.checkers.atomic_reads import check_atomic_reads
from kvchaos.checkers.convergence import check_convergence
from kvchaos.checkers.counters import check_counters
from kvchaos.checkers.ended import GONE, check_ended, filed_in, touched_keys
from kvchaos.checkers.executions import DOTS, check_executions
from kvchaos.checkers.invented import check_invented
from kvchaos.checkers.linearizability.verdicts import check_linearizable
from kvchaos.checkers.locks import check_locks
from kvchaos.checkers.membership import check_membership
from kvchaos.checkers.minted import check_minted
from kvchaos.checkers.namespaces import check_namespaces
from kvchaos.checkers.receipts import check_receipts
from kvchaos.checkers.resources import check_deadlines, check_resources
from kvchaos.checkers.served import check_served
from kvchaos.checkers.sessions import MONOTONIC_READS, READ_YOUR_WRITES, check_sessions
from kvchaos.checkers.sets import check_sets
from kvchaos.checkers.siblings import UNREAD, check_siblings
from kvchaos.checkers.strict import check_strict
from kvchaos.checkers.timeline import check_timeline
from kvchaos.checkers.typed import check_counted, check_elements, check_latest
from kvchaos.checkers.violations import Violation
from kvchaos.checkers.whole import check_whole
from kvchaos.checkers.zones import check_zones
from kvchaos.history import NEMESIS, Event, History, calls_of

PROMISES = {
    "invented": "nothing is read that was not written",
    "siblings": "at rest the siblings are exactly the maximal concurrent writes: nothing acknowledged is lost, nothing is back",
    "reads": "at rest what was read is there or superseded: needs that no copy was taken away",
    "answers": "what an answer had seen stays seen: needs that no copy was taken away",
    "strict": "strict quorum reads are regular: needs that no copy was taken away",
    "whole": "a preset's read that is not degraded shows what was acknowledged while nodes were away",
    "accumulated": "sets and counters keep every acknowledged addition",
    "counted": "increments of a counter are counted once",
    "elements": "additions to a set win over removals that have not seen them",
    "latest": "a write of lww is not buried under one that it was written over",
    "ended": "what was deleted, superseded or has expired stays so, and nothing else ends",
    "receipts": "receipts tell the truth",
    "executions": "dots are minted once, and what is remembered or too old is not executed again",
    "convergence": "the cluster comes to rest within its bound",
    "membership": "no incarnation is used in two lives, and after a heal everybody is there to everybody",
    "resources": "nothing grows, nothing is left, calls end in time",
}

FURTHER = {
    "minted": "no version is minted twice",
    "linearizable": "registers behave as if there were one copy",
    "timeline": "replicas go through the commits of a key in one order, and lag by no more than `bound_ms` of the header",
    "namespaces": "namespaces made at run time are agreed on, their ids have one meaning for ever, and the dropped stay gone",
    "sessions": "sessions read what they wrote and what they have read, and their writes come after it",
    "session_reads": "sessions read what they wrote and what they have read",
    "atomic": "what an atomic read has seen, later ones see",
    "served": "every call succeeds: enough replicas can be reached at any time",
    "zone": "a read at zone_quorum shows what was acknowledged at it in the same zone",
    "locks": "fencing tokens grow and are heeded, and a lock has one holder (unless the header says `exclusive` false)",
    "counters": "every answer of a counter is between what was acknowledged and what was tried",
    "sets": "what is in a set stays, and was added",
    "stays_ended": "what was deleted, superseded or has expired stays so; what is there may end at any time",
    "minted_once": "dots are minted once",
    "fresh_sets": "the same, and what was acknowledged or seen is in every later answer",
}
"""Judged only where the header names them: what some stores, modes and levels promise and others do not."""

ROBBING = frozenset({"wipe", "rollback", "flip", "shorten"})
"""Faults that take copies away."""


def robbed_nodes(events: Iterable[Event]) -> frozenset[str]:
    """The nodes from which copies were taken away."""
    return frozenset(event.value["node"] for event in events if event.process == NEMESIS and event.f in ROBBING)


def judge(history: History) -> list[Violation]:
    """Every violation of what the header promises (by default all `PROMISES`), in the order of `PROMISES` and `FURTHER`."""
    header, events = history.header, history.events
    calls = calls_of(events)
    # Only where it is asked for: histories of registers need not say what a write is called.
    stories = functools.cache(lambda: stories_of(calls, executions_of(events), robbed_nodes(events)))
    ended = functools.cache(
        lambda: check_ended(stories(), skew_ms=int(header.get("skew_ms", 0)), touched=touched_keys(calls), filed=filed_in(events))
    )
    n = int(header.get("n", 3))
    preset = {"r": int(header.get("r", n // 2 + 1)), "w": int(header.get("w", n // 2 + 1))}
    checks: dict[str, Callable[[], list[Violation]]] = {
        "invented": lambda: check_invented(stories()),
        "siblings": lambda: [found for found in check_siblings(stories()) if found.promise != UNREAD],
        "reads": lambda: [found for found in check_siblings(stories()) if found.promise == UNREAD],
        "answers": lambda: check_answers(stories()),
        "strict": lambda: check_strict(stories(), n),
        "whole": lambda: check_whole(stories(), events),
        "accumulated": lambda: check_accumulated(stories()),
        "counted": lambda: check_counted(calls),
        "elements": lambda: check_elements(calls, calm=bool(header.get("calm"))),
        "latest": lambda: check_latest(stories()) if header.get("policy") == "lww" else [],
        "ended": ended,
        "stays_ended": lambda: [found for found in ended() if found.promise != GONE],
        "minted_once": lambda: [found for found in check_executions(events) if found.promise == DOTS],
        "receipts": lambda: check_receipts(
            calls,
            events,
            n=n,
            preset=preset,
            lossy=bool(header.get("loss")),
            exact=bool(header.get("exact")),
            zones=header.get("zones"),
        ),
        "executions": lambda: check_executions(events, window_ms=int(header.get("retry_window_ms", 0))),
        "convergence": lambda: check_convergence(events),
        "membership": lambda: check_membership(events),
        "resources": lambda: [*check_resources(events), *check_deadlines(calls, events)],
        "minted": lambda: check_minted(calls),
        "linearizable": lambda: check_linearizable(calls),
        "namespaces": lambda: check_namespaces(calls, events),
        "timeline": lambda: check_timeline(calls, bound_ms=header.get("bound_ms")),
        "sessions": lambda: check_sessions(calls),
        "session_reads": lambda: [found for found in check_sessions(calls) if found.promise in (READ_YOUR_WRITES, MONOTONIC_READS)],
        "atomic": lambda: check_atomic_reads(stories()),
        "served": lambda: check_served(calls),
        "zone": lambda: check_zones(stories(), header.get("zones", {})),
        "locks": lambda: check_locks(calls, exclusive=bool(header.get("exclusive", True))),
        "counters": lambda: check_counters(calls, fresh=not header.get("stale_ok")),
        "sets": lambda: check_sets(calls),
        "fresh_sets": lambda: check_sets(calls, fresh=True),
    }
    promised = header.get("promises", list(PROMISES))
    unknown = set(promised) - checks.keys()
    if unknown:
        raise ValueError(f"no such promise: {', '.join(sorted(unknown))}")
    return [violation for name in checks if name in promised for violation in checks[name]()]
