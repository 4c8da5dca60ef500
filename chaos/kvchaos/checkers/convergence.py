"""After the last heal the cluster comes to rest within its bound: every key is readable, and its home replicas hold the same. Pure.

Where anti-entropy does not run it is read repair that repairs, so whoever runs this reads every key at level `all` first. Facts it
needs, from any process: `rest` (value: {"after_ms", "bound_ms", "unread": [[key, error], …]}) and, once for each replica, `holds`
(value: {key: digest}) and, where there are hash trees, `trees` (value: {partition: root or "unknown"}); `differ` says that replicas
had not come to agree in time where nobody read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from kvchaos.checkers.violations import Violation
from kvchaos.history import Event

REST = "after the last heal every key can be read"
CONVERGED = "home replicas converge"
TREES = "at rest the hash trees of home replicas agree"
UNAIDED = "home replicas come to agree though nobody reads"


def check_convergence(events: Sequence[Event]) -> list[Violation]:
    """What did not come to rest, and every key of which replicas hold different records."""
    return [*_differing(events), *_unread(events), *_diverged(events, "holds", CONVERGED), *_diverged(events, "trees", TREES)]


def _differing(events: Iterable[Event]) -> Iterable[Violation]:
    for event in events:
        if event.f == "differ":
            yield Violation(UNAIDED, "", f"not within {event.value['bound_ms']} ms", (event.index,))


def _unread(events: Iterable[Event]) -> Iterable[Violation]:
    for event in events:
        if event.f == "rest":
            for key, error in event.value["unread"]:
                yield Violation(REST, key, f"not within {event.value['bound_ms']} ms: {error}", (event.index,))


def _diverged(events: Iterable[Event], fact: str, promise: str) -> Iterable[Violation]:
    holders: defaultdict[str, dict[str, str]] = defaultdict(dict)
    told: dict[str, int] = {}
    for event in events:
        if event.f == fact:
            for key, digest in event.value.items():
                holders[key][event.node or ""] = digest
                told[key] = event.index
    for key in sorted(holders):
        if len(set(holders[key].values())) > 1:
            held = "; ".join(f"{node} {digest or 'nothing'}" for node, digest in sorted(holders[key].items()))
            yield Violation(promise, key, held, (told[key],))
        elif fact == "trees" and "unknown" in holders[key].values():
            yield Violation(promise, key, "unknown everywhere", (told[key],))
