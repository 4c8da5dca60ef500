"""The checker of what ends accuses what broke, and excuses what a node has put into a file for its operator."""

from __future__ import annotations

import pytest

from kvchaos.causality import executions_of, stories_of
from kvchaos.checkers.ended import BACK, GONE, check_ended, filed_in
from kvchaos.history import Event, calls_of
from tests.chaos.scribe import KEY, Scribe, dot, token


def promises_broken(scribe: Scribe, *filed: Event) -> list[str]:
    events = scribe.history.events
    found = check_ended(stories_of(calls_of(events), executions_of(events)), skew_ms=0, touched=frozenset(), filed=filed_in(filed))
    return [violation.promise for violation in found]


def put_into_a_file(node: str, *names: str, key: str = KEY) -> Event:
    return Event(0, 9, "world", "info", "filed", key, list(names), node, {})


def acknowledged_and_gone(*nodes: str) -> Scribe:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1), acknowledged=list(nodes))
    scribe.rest([], token({}))
    return scribe


def test_what_was_acknowledged_and_never_expires_must_be_there() -> None:
    assert promises_broken(acknowledged_and_gone("n2")) == [GONE]


def test_what_was_deleted_must_not_be_there() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 3, 4, dot(2), f="delete", knew=["a"])
    scribe.watch(("a", dot(1), []), (None, dot(2), [dot(1)]))
    scribe.rest(["a"], token({1: 2}))
    assert promises_broken(scribe) == [BACK]


def test_what_all_who_acknowledged_it_have_in_a_file_may_be_gone() -> None:
    assert promises_broken(acknowledged_and_gone("n2"), put_into_a_file("n2", "a")) == []
    both = [put_into_a_file("n2", "a"), put_into_a_file("n3", "b", "a")]
    assert promises_broken(acknowledged_and_gone("n2", "n3"), *both) == []


@pytest.mark.parametrize("filed", [put_into_a_file("n3", "a"), put_into_a_file("n2", "b"), put_into_a_file("n2", "a", key="other")])
def test_a_file_excuses_nothing_else(filed: Event) -> None:
    assert promises_broken(acknowledged_and_gone("n2"), filed) == [GONE]
    assert promises_broken(acknowledged_and_gone("n2", "n1"), put_into_a_file("n2", "a")) == [GONE]
