"""Locks, counters and sets while they are used: what each checker must accuse, the nearest it must not, and laws."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvchaos.checkers.counters import BETWEEN
from kvchaos.checkers.judge import judge
from kvchaos.checkers.locks import EXCLUSIVE, FENCED, TOKENS
from kvchaos.checkers.sets import FRESH, KEPT, REFUSED, set_stories
from kvchaos.history import calls_of
from tests.chaos.scribe import Scribe

MS = 1_000_000


def broken(scribe: Scribe) -> list[str]:
    return [found.promise for found in judge(scribe.history)]


# --- locks


def acquire(scribe: Scribe, token: int, began_ms: int, ended_ms: int, lease_ms: int | None = None) -> None:
    told = {} if lease_ms is None else {"lease_ms": lease_ms}
    scribe.call("acquire", None, began_ms * MS, ended_ms * MS, result=token, invoked=told)


def release(scribe: Scribe, token: int, began_ms: int, ended_ms: int, type_: str = "ok") -> None:
    scribe.call("release", token, began_ms * MS, ended_ms * MS, type_=type_)


def test_one_holder_after_the_other_is_as_it_should_be() -> None:
    scribe = Scribe(promises=["locks"])
    acquire(scribe, 1, 1, 2)
    release(scribe, 1, 5, 8)
    acquire(scribe, 2, 3, 6)
    assert broken(scribe) == [], "a release may have taken place as soon as it began"


def test_two_holders_at_a_time_are_found_and_the_end_of_a_lease_ends_a_holding() -> None:
    scribe = Scribe(promises=["locks"])
    acquire(scribe, 1, 1, 2, lease_ms=10)
    acquire(scribe, 2, 11, 12, lease_ms=10)
    assert broken(scribe) == [], "the lease counts from the beginning"
    scribe = Scribe(promises=["locks"])
    acquire(scribe, 1, 1, 2, lease_ms=10)
    acquire(scribe, 2, 9, 10, lease_ms=10)
    assert broken(scribe) == [EXCLUSIVE]
    trusting = Scribe(promises=["locks"], exclusive=False)
    acquire(trusting, 1, 1, 2)
    acquire(trusting, 2, 9, 10)
    assert broken(trusting) == []


def test_a_release_that_was_refused_releases_nothing_and_one_of_unknown_outcome_may() -> None:
    for type_, found in (("fail", [EXCLUSIVE]), ("info", [])):
        scribe = Scribe(promises=["locks"])
        acquire(scribe, 1, 1, 2)
        release(scribe, 1, 3, 4, type_)
        acquire(scribe, 2, 5, 6)
        assert broken(scribe) == found


@pytest.mark.parametrize(("tokens", "found"), [((1, 2), []), ((2, 1), [TOKENS]), ((1, 1), [TOKENS])])
def test_tokens_grow_from_holder_to_holder(tokens: tuple[int, int], found: list[str]) -> None:
    scribe = Scribe(promises=["locks"], exclusive=False)
    acquire(scribe, tokens[0], 1, 2)
    acquire(scribe, tokens[1], 3, 4)
    assert broken(scribe) == found


@pytest.mark.parametrize(("tokens", "found"), [((1, 2), []), ((2, 2), []), ((2, 1), [FENCED])])
def test_what_is_guarded_refuses_who_was_overtaken(tokens: tuple[int, int], found: list[str]) -> None:
    scribe = Scribe(promises=["locks"])
    scribe.call("guarded", tokens[0], 1, 2)
    scribe.call("guarded", tokens[1], 3, 4)
    scribe.call("guarded", 0, 5, 6, type_="fail")
    assert broken(scribe) == found


@given(st.integers(0, 1 << 32))
def test_a_lock_that_is_handed_on_is_accepted_and_one_that_is_had_twice_is_not(seed: int) -> None:
    rng = random.Random(seed)
    scribe = Scribe(promises=["locks"])
    now, token = 0, 0
    for _ in range(rng.randint(1, 10)):
        asked, token = now - rng.randint(0, 5), token + rng.randint(1, 3)
        acquire(scribe, token, max(0, asked), now + 2)
        release(scribe, token, now + 10, now + 13)
        scribe.call("guarded", token, (now + 4) * MS, (now + 5) * MS)
        now += 20
    assert broken(scribe) == []
    acquire(scribe, token + 1, now - 20 + 4, now - 20 + 6)
    assert broken(scribe) == [EXCLUSIVE]


# --- counters


@pytest.mark.parametrize(("held", "found"), [(0, [BETWEEN]), (1, []), (2, []), (3, []), (4, [BETWEEN])])
def test_a_counter_has_what_was_acknowledged_and_at_most_what_was_tried(held: int, found: list[str]) -> None:
    scribe = Scribe(promises=["counters"])
    scribe.call("increment", 1, 1, 2)
    scribe.call("increment", 1, 1, 2, type_="info")
    scribe.call("increment", 1, 8, 30)
    scribe.call("increment", 1, 1, 2, type_="fail")
    scribe.call("increment", 1, 20, 30)
    scribe.call("read", None, 5, 10, result=held)
    assert broken(scribe) == found


@pytest.mark.parametrize(("held", "found"), [(1, [BETWEEN]), (2, []), (4, []), (5, []), (6, [BETWEEN])])
def test_what_is_taken_away_counts_like_what_is_added(held: int, found: list[str]) -> None:
    scribe = Scribe(promises=["counters"])
    scribe.call("count", 5, 1, 2)
    scribe.call("count", -1, 3, 30)
    scribe.call("count", -2, 3, 30)
    scribe.call("view", None, 5, 10, result={"n": held, "s": []})
    assert broken(scribe) == found


def test_an_answer_that_may_be_old_is_accused_only_of_what_was_never_tried() -> None:
    scribe = Scribe(promises=["counters"], stale_ok=True)
    scribe.call("count", 2, 1, 2)
    scribe.call("view", None, 5, 10, result={"n": 0, "s": []})
    assert broken(scribe) == []
    scribe.call("view", None, 5, 10, result={"n": 3, "s": []})
    assert broken(scribe) == [BETWEEN]


@given(st.integers(0, 1 << 32), st.booleans())
def test_a_counter_that_counts_each_once_is_accepted_and_one_that_drops_or_repeats_is_not(seed: int, repeats: bool) -> None:
    rng = random.Random(seed)
    scribe = Scribe(promises=["counters"])
    total, now = 0, 0
    for _ in range(rng.randint(1, 20)):
        by, unknown = rng.choice([-2, -1, 1, 2, 3]), rng.random() < 0.2
        scribe.call("increment", by, now, now + 5, type_="info" if unknown else "ok")
        total += 0 if unknown and rng.random() < 0.5 else by
        scribe.call("read", None, now + 6, now + 8, result=total)
        now += 10
    assert broken(scribe) == []
    for call in range(20):  # more than all that is unknown can come to
        scribe.call("increment", 3, now + call, now + call, type_="ok")
    scribe.call("read", None, now + 100, now + 101, result=total + 121 if repeats else total)
    assert (broken(scribe) == [BETWEEN]) is (repeats or _unknown_lowers(scribe) < 60)


def _unknown_lowers(scribe: Scribe) -> int:
    calls = calls_of(scribe.history.events)
    return -sum(min(0, int(call.invoke.value)) for call in calls if call.f == "increment" and not call.is_ok)


# --- sets


def insert(scribe: Scribe, element: str, began: int, ended: int, type_: str = "ok") -> None:
    scribe.call("insert", element, began, ended, type_=type_)


def seen(scribe: Scribe, elements: str, began: int, ended: int) -> None:
    scribe.call("read", None, began, ended, result=list(elements))


@pytest.mark.parametrize(
    ("answers", "lax", "strict"),
    [
        (["a"], [], []),
        (["", "a"], [], [FRESH]),
        (["a", ""], [KEPT], [KEPT]),
        (["a", "", "a"], [], [FRESH]),
        ([""], [KEPT], [KEPT]),
        ([], [], []),
        (["ab"], [REFUSED], [REFUSED]),
    ],
)
def test_what_becomes_of_an_element(answers: list[str], lax: list[str], strict: list[str]) -> None:
    for promise, found in (("sets", lax), ("fresh_sets", strict)):
        scribe = Scribe(promises=[promise])
        insert(scribe, "a", 1, 2)
        for number, elements in enumerate(answers):
            seen(scribe, elements, 10 * number + 5, 10 * number + 8)
        assert broken(scribe) == found


def test_an_element_of_unknown_outcome_counts_once_it_was_seen() -> None:
    scribe = Scribe(promises=["sets"])
    insert(scribe, "a", 1, 2, type_="info")
    seen(scribe, "", 5, 6)
    assert broken(scribe) == []
    seen(scribe, "a", 7, 8)
    seen(scribe, "", 9, 10)
    assert broken(scribe) == [KEPT]


def test_an_element_is_not_in_an_answer_before_it_was_added_or_when_that_was_refused() -> None:
    scribe = Scribe(promises=["sets"])
    seen(scribe, "a", 1, 2)
    insert(scribe, "a", 5, 6)
    insert(scribe, "b", 5, 6, type_="fail")
    seen(scribe, "ab", 7, 8)
    assert broken(scribe) == [REFUSED, REFUSED]


def test_what_somebody_tried_to_remove_may_be_missing() -> None:
    scribe = Scribe(promises=["sets"])
    insert(scribe, "a", 1, 2)
    scribe.call("take", "a", 3, 4, type_="info")
    seen(scribe, "", 5, 6)
    assert broken(scribe) == []


def test_how_long_an_element_took_to_be_there_for_good() -> None:
    scribe = Scribe(promises=["sets"])
    insert(scribe, "a", 1 * MS, 2 * MS)
    insert(scribe, "b", 1 * MS, 2 * MS)
    seen(scribe, "b", 5 * MS, 6 * MS)
    seen(scribe, "b", 9 * MS, 10 * MS)
    seen(scribe, "ab", 20 * MS, 21 * MS)
    [story] = set_stories(calls_of(scribe.history.events))
    assert (story.added, story.stable, story.never_read, story.stable_ms) == (2, 2, 0, [7.0])
    assert [element for element, _ in story.stale] == ["a"]


@given(st.integers(0, 1 << 32), st.integers(1, 15))
def test_a_set_that_keeps_everything_is_accepted_and_one_that_loses_something_is_not(seed: int, count: int) -> None:
    rng = random.Random(seed)
    scribe = Scribe(promises=["fresh_sets"])
    held: list[Any] = []
    for number in range(count):
        unknown = rng.random() < 0.2
        insert(scribe, f"e{number}", number * 10, number * 10 + 4, type_="info" if unknown else "ok")
        if not unknown or rng.random() < 0.5:
            held.append(f"e{number}")
        scribe.call("read", None, number * 10 + 5, number * 10 + 8, result=list(held))
    assert broken(scribe) == []
    if held:
        held.remove(rng.choice(held))
        scribe.call("read", None, count * 10 + 5, count * 10 + 8, result=list(held))
        assert broken(scribe) == [KEPT]
