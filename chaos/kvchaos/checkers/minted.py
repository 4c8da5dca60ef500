"""No version is given to two writes: an actor's counter never goes back, whatever its node has lost (safety rule 2). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

MINTED = "no version is minted twice"


def check_minted(calls: Iterable[Call]) -> list[Violation]:
    """Every acknowledged write whose version an earlier one of another name has, on whatever key."""
    first: dict[str, Call] = {}
    found = []
    for call in calls:
        version = str(call.fact("version", "")) if call.is_ok else ""
        name = call.invoke.facts.get("write")
        if not version or name is None:
            continue
        other = first.setdefault(version, call)
        earlier = other.invoke.facts.get("write")
        if earlier != name:
            text = f"{name} of {call.key} has the version of {earlier} of {other.key}"
            found.append(Violation(MINTED, call.key, text, events_of(other, call)))
    return found
