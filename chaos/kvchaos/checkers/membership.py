"""No incarnation is used in two lives of a node, and after the last heal everybody is there to everybody. Pure.

Facts, from any process: `incarnation` (value: {"life", "incarnation"}) of a node, and `opinions` (value: {"bound_ms", "doubted":
[[node, of whom, state], …]}). A node whose disk was wiped or put back cannot know what it has used: it is refuted by the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvchaos.checkers.violations import Violation
from kvchaos.history import NEMESIS, Event

FORGETTING = frozenset({"wipe", "rollback"})
TWO_LIVES = "an incarnation belongs to one life"
PRESENT = "after the last heal everybody is there to everybody"


def check_membership(events: Sequence[Event]) -> list[Violation]:
    """Every life that began at or below what an earlier one had used, and everybody who is doubted at rest."""
    found: list[Violation] = []
    latest: dict[str, tuple[int, int, int]] = {}  # node -> life, the highest of it, the event that says so
    for event in events:
        if event.process == NEMESIS and event.f in FORGETTING:
            latest.pop(event.value["node"], None)
        elif event.f == "incarnation":
            node, life, incarnation = event.node or "", event.value["life"], event.value["incarnation"]
            held = latest.get(node)
            if held is not None and life != held[0] and incarnation <= held[1]:
                text = f"life {life} is in incarnation {incarnation}, life {held[0]} had used up to {held[1]}"
                found.append(Violation(TWO_LIVES, node, text, (event.index, held[2])))
            if held is None or incarnation > held[1] or life != held[0]:
                latest[node] = (life, incarnation, event.index)
        elif event.f == "opinions":
            for node, other, state in event.value["doubted"]:
                text = f"{node} takes {other} for {state} after {event.value['bound_ms']} ms"
                found.append(Violation(PRESENT, node, text, (event.index,)))
    return found
