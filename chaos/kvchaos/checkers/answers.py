"""What an answer said stays true: what one had seen, the state at rest has seen. Pure.

Answers rest on durable state only (safety rule 3), so a context that a read or an acknowledged write returned is never taken back,
whichever node crashed since. Sharper than looking at values: it also sees deletes, and writes that others have superseded.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.causality import KeyStory, vector_of
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

ANSWERS = "what an answer had seen stays seen"


def check_answers(stories: Iterable[KeyStory]) -> list[Violation]:
    """At most one violation a key: the first answer that was taken back."""
    violations = []
    for story in stories:
        if story.final is None:
            continue
        answers: list[Call] = [call for call in (*story.reads, *story.writes.values()) if call.is_ok]
        for call in sorted(answers, key=lambda answer: answer.ended_ns):
            gone = _beyond(str(call.fact("context", "")), story.final_vector)
            if gone:
                violations.append(
                    Violation(
                        ANSWERS,
                        story.key,
                        f"the {call.f} of process {call.invoke.process} had seen {gone}, at rest that is unknown",
                        events_of(call, story.final),
                    )
                )
                break
    return violations


def _beyond(token: str, vector: dict[str, int]) -> str:
    for actor, counter in vector_of(token).items():
        if vector.get(actor, 0) < counter:
            return f"event {counter} of actor {actor}"
    return ""
