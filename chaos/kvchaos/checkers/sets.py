"""Sets while they are added to: what becomes of every element, and how long it takes to be there for good. Pure.

(Jepsen's set-full.) An element is known from the end of its acknowledged `insert`, or of the first answer that holds it. After that
an answer that lacks it is *stale* if a later one has it again, and the element is *lost* if none has. Answers are those of `view`
(its elements under "s") and of `read` (a list). Elements that somebody tried to remove are typed.py's to judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

KEPT = "an element that was added and acknowledged, or seen, stays"
FRESH = "an element is in every answer that begins after it was acknowledged or seen"
REFUSED = "an element that was refused or never added is in no answer"


@dataclass(slots=True)
class SetStory:
    """Counts of one key's elements; `stable_ms` are the times from known to there for good, of those that were ever missing."""

    key: str
    added: int = 0
    stable: int = 0
    never_read: int = 0
    lost: list[tuple[str, Call]] = field(default_factory=list)
    stale: list[tuple[str, Call]] = field(default_factory=list)
    invented: list[tuple[str, Call]] = field(default_factory=list)
    stable_ms: list[float] = field(default_factory=list)


def check_sets(calls: Iterable[Call], *, fresh: bool = False) -> list[Violation]:
    """Every element that is lost or was never added, and with `fresh` every one that was missing for a while."""
    violations = []
    for story in set_stories(calls):
        found = [(KEPT, element, call, "is missing, and no later answer has it") for element, call in story.lost]
        found += [(REFUSED, element, call, "was refused or never added") for element, call in story.invented]
        found += [(FRESH, element, call, "is missing for a while") for element, call in story.stale if fresh]
        violations += [
            Violation(promise, story.key, f"{element} {text}", events_of(call)) for promise, element, call, text in found
        ]
    return violations


def set_stories(calls: Iterable[Call]) -> list[SetStory]:
    """What became of the elements of every key that has insertions, in the order of the keys."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.f in ("insert", "take", "view", "read"):
            by_key[call.key].append(call)
    return [_tell(key, about) for key, about in sorted(by_key.items()) if any(call.f == "insert" for call in about)]


def _tell(key: str, calls: Sequence[Call]) -> SetStory:
    story = SetStory(key)
    removed = {str(call.invoke.value) for call in calls if call.f == "take" and not call.is_refused}
    answers = sorted((call for call in calls if _is_answer(call)), key=lambda call: call.began_ns)
    held = [(answer, _held(answer)) for answer in answers]
    inserted: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.f == "insert":
            inserted[str(call.invoke.value)].append(call)
    for answer, elements in held:
        for element in sorted(elements):
            if not any(call.began_ns <= answer.ended_ns and not call.is_refused for call in inserted[element]):
                story.invented.append((element, answer))
    for element in sorted(inserted.keys() - removed):
        _follow(story, element, inserted[element], held)
    return story


def _follow(story: SetStory, element: str, inserts: Sequence[Call], held: Sequence[tuple[Call, frozenset[str]]]) -> None:
    having = [answer for answer, elements in held if element in elements]
    known = [call.ended_ns for call in (*inserts, *having) if call.is_ok]
    story.added += any(call.is_ok for call in inserts)
    if not known:
        return
    known_ns = min(known)
    lacking = [answer for answer, elements in held if element not in elements and answer.began_ns > known_ns]
    if not having and not lacking:
        story.never_read += 1
    elif lacking and lacking[-1].began_ns > max((answer.ended_ns for answer in having), default=-1):
        story.lost.append((element, lacking[-1]))
    else:
        story.stable += 1
        if lacking:
            story.stale.append((element, lacking[0]))
            story.stable_ms.append((max(answer.began_ns for answer in lacking) - known_ns) / 1e6)


def _is_answer(call: Call) -> bool:
    return (
        call.is_ok and call.end is not None and (call.f == "view" or (call.f == "read" and isinstance(call.end.value, list | None)))
    )


def _held(answer: Call) -> frozenset[str]:
    assert answer.end is not None
    value = answer.end.value["s"] if answer.f == "view" else answer.end.value or ()
    return frozenset(map(str, value))
