"""Siblings are exactly the maximal concurrent writes: nothing is missing unless superseded, and nothing superseded is back. Pure.

Judged at rest, when every key was read at level `all`. A write must be there, or superseded, if it was acknowledged, if anybody
read it, or if a simulation saw it arrive in what the final state has seen. What is superseded must not be there, except for writes
that more than one coordinator executed (ADR 2), and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.causality import KeyStory
from kvchaos.checkers.violations import Violation, events_of

LOST = "no acknowledged write is lost"
UNREAD = "what was read stays"
MAXIMAL = "siblings are maximal"
DELETED = "deletes stay deleted"


def check_siblings(stories: Iterable[KeyStory]) -> list[Violation]:
    """Every violation of every key that was read at rest."""
    return [violation for story in stories if story.final is not None for violation in (*_missing(story), *_superseded(story))]


def _missing(story: KeyStory) -> Iterable[Violation]:
    assert story.final is not None
    read = {name: call for call in reversed(story.reads) for name in call.siblings}
    for name, call in story.writes.items():
        arrived = story.executions is not None and story.is_present(name)
        kept = story.must_be_kept(call)
        if call.is_refused or (call.is_ok and not kept) or not (kept or name in read or arrived):
            continue
        visible = name in story.final.siblings
        gone = story.is_present(name) is False
        if not gone and (visible or call.f == "delete"):
            continue
        if not gone and story.may_be_superseded(name):
            continue
        promise = LOST if call.is_ok else UNREAD if name in read else MAXIMAL
        told = "acknowledged" if call.is_ok else "read" if name in read else "executed"
        why = "no answer knows of it any more" if gone else "no write that could have superseded it is there"
        yield Violation(
            promise,
            story.key,
            f"{name} was {told}; at rest the key holds {_names(story.final.siblings)}: {why}",
            events_of(call, read.get(name), story.final),
        )


def _superseded(story: KeyStory) -> Iterable[Violation]:
    assert story.final is not None
    for name in story.final.siblings:
        if name not in story.writes or not story.is_executed_once(name):
            continue
        for other, call in story.writes.items():
            if other == name or not story.is_present(other) or name not in story.surely_knew(other):
                continue
            deleted = call.f == "delete"
            yield Violation(
                DELETED if deleted else MAXIMAL,
                story.key,
                f"{name} is there at rest, though {other} {'deleted' if deleted else 'superseded'} it",
                events_of(story.writes[name], call, story.final),
            )
            break


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
