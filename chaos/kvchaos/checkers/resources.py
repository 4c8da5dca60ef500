"""Nothing grows and nothing is left: queues within their bounds, no work that outlives its deadline, every invariant. Pure.

Facts: `resources` (value: {"in_flight", "queues": {name: [held, bound]}, "left": [names]}) of a node that should be idle,
`invariant` (value: the sentence that failed), `defect` (value: an exception nobody expected), `overrun` (a node's part of a call
took {"took_ms"} of {"given_ms"}). Calls say how long they may take: `timeout_ms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call, Event
from kvchaos.stalls import stood_still

RESOURCES = "nothing is left over"
BOUNDS = "queues keep their bounds"
INVARIANTS = "state machines keep their invariants"
DEADLINES = "a call ends within its time"
SLACK_MS = 500


def check_resources(events: Iterable[Event]) -> list[Violation]:
    """Every fact that says that something is left, or beyond a bound, or broken."""
    violations = []
    for event in events:
        if event.f in ("invariant", "defect"):
            violations.append(Violation(INVARIANTS, "", f"{event.node or event.process}: {event.value}", (event.index,)))
        elif event.f == "overrun":
            took_ms, given_ms = event.value["took_ms"], event.value["given_ms"]
            text = f"{event.node} worked {took_ms} ms on a batch of which the longest deadline was {given_ms} ms"
            violations.append(Violation(DEADLINES, "", text, (event.index,)))
        elif event.f == "resources":
            if event.value.get("in_flight"):
                text = f"{event.node} still works on {event.value['in_flight']} operations, long after their deadline"
                violations.append(Violation(RESOURCES, "", text, (event.index,)))
            left = event.value.get("left", ())
            violations += [Violation(RESOURCES, "", f"{event.node}: {name}", (event.index,)) for name in left]
            for name, (held, bound) in sorted(event.value.get("queues", {}).items()):
                if held > bound:
                    violations.append(Violation(BOUNDS, "", f"{event.node}: {name} holds {held} of {bound}", (event.index,)))
    return violations


def check_deadlines(calls: Sequence[Call], events: Iterable[Event] = ()) -> list[Violation]:
    """Every call that took longer than it was given, or never ended. What the clients' own process stood still meanwhile, by
    `events`, is no part of that."""
    violations, still = [], stood_still(events)
    for call in calls:
        timeout_ms = call.invoke.facts.get("timeout_ms")
        if timeout_ms is None:
            continue
        if call.end is None:
            violations.append(Violation(DEADLINES, call.key, f"{call.f} never ended", events_of(call)))
        elif (took_ms := _took_ms(call.began_ns, call.end.time_ns, still)) > timeout_ms + SLACK_MS:
            text = f"{call.f} took {took_ms:.0f} ms, it was given {timeout_ms} ms"
            violations.append(Violation(DEADLINES, call.key, text, events_of(call)))
    return violations


def _took_ms(began_ns: int, ended_ns: int, still: Iterable[tuple[int, int]]) -> float:
    stood_ns = sum(max(0, min(ended_ns, over_ns) - max(began_ns, from_ns)) for from_ns, over_ns in still)
    return (ended_ns - began_ns - stood_ns) / 1e6
