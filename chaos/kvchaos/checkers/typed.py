"""Counters, sets and lww keep what their policies promise. Pure; judged at rest.

A counter holds every acknowledged increment once, and of those of unknown outcome each once or not at all. An addition wins over a
removal that has not seen it: an element is there if it was added and no removal came after, by any clock. Of lww values none wins
over one that was written on top of it, whatever clocks say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from kvchaos.causality import KeyStory
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

COUNTED = "increments are counted once"
ADDED = "an addition wins over a removal that has not seen it"
LATEST = "the latest write stays"


def check_counted(calls: Sequence[Call]) -> list[Violation]:
    """Every counter that holds less than was acknowledged, or more than was asked for."""
    violations = []
    for key, (writes, final) in _by_key(calls, {"count"}).items():
        low = sum(call.invoke.value for call in writes if call.is_ok)
        high = sum(call.invoke.value for call in writes if not call.is_refused)
        held = _held(final).get("n", 0)
        if not low <= held <= high:
            text = f"{low} was acknowledged, at most {high} may have been counted; the counter holds {held}"
            violations.append(Violation(COUNTED, key, text, events_of(*writes[-3:], final)))
    return violations


def check_elements(calls: Sequence[Call], *, calm: bool) -> list[Violation]:
    """Every element that is missing though nothing can have removed it, or that was never added. `calm`: nothing went wrong, so
    that nothing was executed twice: then what was removed after its last addition is gone."""
    violations = []
    for key, (writes, final) in _by_key(calls, {"insert", "take"}).items():
        held = set(_held(final).get("s", ()))
        for element in sorted({call.invoke.value for call in writes} | held):
            text, accused = _judge(element, element in held, writes, calm=calm)
            if text:
                violations.append(Violation(ADDED, key, f"{element} {text}", events_of(accused, final)))
    return violations


def _judge(element: str, is_held: bool, writes: Iterable[Call], *, calm: bool) -> tuple[str, Call | None]:
    about = [call for call in writes if call.invoke.value == element and not call.is_refused]
    adds = [call for call in about if call.f == "insert"]
    removals = [call for call in about if call.f == "take"]
    if is_held and not adds:
        return "was never added", None
    for call in adds:
        if call.is_ok and not is_held and not any(call.began_ns < removal.ended_ns for removal in removals):
            return "was added after every removal, and is not in the set", call
    if calm and is_held and removals:
        last = max(removals, key=lambda removal: removal.began_ns)
        if last.is_ok and all(call.ended_ns < last.began_ns for call in adds):
            return "was removed after every addition, and is in the set", last
    return "", None


def check_latest(stories: Iterable[KeyStory]) -> list[Violation]:
    """Every key of lww that holds several values, or one that somebody had overwritten where it was held."""
    violations = []
    for story in stories:
        if story.final is None:
            continue
        values = story.final.siblings
        if len(values) > 1:
            violations.append(Violation(LATEST, story.key, f"it holds {', '.join(values)}", events_of(story.final)))
            continue
        overwritten = {version: execution for execution in story.executions or () for version in execution.base or ()}
        for name in values:
            versions = [execution.version for execution in story.by_write.get(name, ())]
            if len(versions) == 1 and versions[0] in overwritten:
                by = overwritten[versions[0]]
                text = f"{name} is there, though {by.node} wrote {by.write or 'a delete'} over it"
                violations.append(Violation(LATEST, story.key, text, events_of(story.writes.get(name), story.final)))
    return violations


def _held(final: Call) -> dict[str, Any]:
    return dict(final.end.value) if final.end is not None else {}


def _by_key(calls: Iterable[Call], kinds: set[str]) -> dict[str, tuple[list[Call], Call]]:
    """Key to its writes of these kinds and its read at rest; keys that were not read are left out."""
    writes: defaultdict[str, list[Call]] = defaultdict(list)
    final: dict[str, Call] = {}
    for call in calls:
        if call.f in kinds:
            writes[call.key].append(call)
        elif call.f == "view" and call.is_ok and call.invoke.facts.get("final"):
            final[call.key] = call
    return {key: (found, final[key]) for key, found in sorted(writes.items()) if key in final}
