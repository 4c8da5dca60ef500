"""Timelines, sessions, atomic reads: what each checker must accuse, the nearest it must not, and laws over simulated stores."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvchaos.checkers.atomic_reads import ATOMIC
from kvchaos.checkers.judge import judge
from kvchaos.checkers.sessions import MONOTONIC_READS, MONOTONIC_WRITES, READ_YOUR_WRITES, WRITES_FOLLOW_READS
from kvchaos.checkers.timeline import BOUND, COMMITTED, FORWARD, IN_TIME, ONE_ORDER
from tests.chaos.scribe import Scribe, dot, token

MS = 1_000_000


def broken(scribe: Scribe) -> list[str]:
    return [found.promise for found in judge(scribe.history)]


def wrote(scribe: Scribe, order: int, began: int, ended: int, **facts: Any) -> None:
    scribe.write(f"w{order}", began, ended, order=order, **facts)


def read(scribe: Scribe, order: int, began: int, ended: int, node: str = "n1", **facts: Any) -> None:
    scribe.read([], began, ended, value=f"w{order}" if order else None, order=order, node=node, **facts)


# --- timeline


def test_two_values_cannot_have_one_place() -> None:
    scribe = Scribe(promises=["timeline"])
    wrote(scribe, 1, 1, 2)
    scribe.read([], 3, 4, value="w1", order=1)
    assert broken(scribe) == []
    scribe.read([], 3, 4, value="other", order=1)
    assert broken(scribe) == [ONE_ORDER]


def test_two_writes_cannot_have_one_place_even_of_one_value() -> None:
    scribe = Scribe(promises=["timeline"])
    wrote(scribe, 1, 1, 2)
    scribe.write("again", 1, 3, value="w1", order=1)
    assert broken(scribe) == [ONE_ORDER]


def test_commits_follow_time_and_what_overlaps_may_go_either_way() -> None:
    scribe = Scribe(promises=["timeline"])
    wrote(scribe, 2, 1, 5)
    wrote(scribe, 1, 5, 8)
    assert broken(scribe) == []
    wrote(scribe, 0, 6, 9)
    assert broken(scribe) == [IN_TIME]


def test_a_replica_goes_forward_and_another_may_be_behind_it() -> None:
    scribe = Scribe(promises=["timeline"])
    wrote(scribe, 1, 1, 2)
    read(scribe, 1, 3, 4, node="n1")
    read(scribe, 0, 5, 6, node="n2")
    assert broken(scribe) == []
    read(scribe, 0, 5, 6, node="n1")
    assert broken(scribe) == [FORWARD]


@pytest.mark.parametrize(("began_ms", "found"), [(102, []), (103, [BOUND])])
def test_a_read_lags_by_no_more_than_the_bound(began_ms: int, found: list[str]) -> None:
    scribe = Scribe(promises=["timeline"], bound_ms=100)
    wrote(scribe, 1, 1 * MS, 2 * MS)
    read(scribe, 0, began_ms * MS, (began_ms + 1) * MS)
    assert broken(scribe) == found


@pytest.mark.parametrize(("began_ms", "found"), [(102, []), (103, [BOUND])])
def test_a_read_that_finds_nothing_lags_as_well(began_ms: int, found: list[str]) -> None:
    scribe = Scribe(promises=["timeline"], bound_ms=100)
    wrote(scribe, 1, 1 * MS, 2 * MS)
    scribe.read([], began_ms * MS, (began_ms + 1) * MS, value=None, node="n1")
    assert broken(scribe) == found


def test_a_delete_that_may_have_been_executed_excuses_a_read_that_finds_nothing() -> None:
    scribe = Scribe(promises=["timeline"], bound_ms=100)
    wrote(scribe, 1, 1 * MS, 2 * MS)
    scribe.delete("d2", 200 * MS, 250 * MS, type_="info")
    scribe.read([], 300 * MS, 301 * MS, value=None, node="n1")
    assert broken(scribe) == []


def test_what_one_replica_shows_every_majority_knows_later() -> None:
    scribe = Scribe(promises=["timeline"])
    wrote(scribe, 1, 1, 2)
    read(scribe, 2, 3, 4, node="n1", acknowledged=["n1"])
    read(scribe, 1, 5, 6, node="n2", acknowledged=["n2"])
    read(scribe, 1, 4, 6, node="n2", acknowledged=["n2", "n3"])
    assert broken(scribe) == [], "they overlap, or are of one replica"
    read(scribe, 1, 5, 6, node="n3", acknowledged=["n2", "n3"])
    assert broken(scribe) == [COMMITTED]


@given(st.integers(0, 1 << 32))
def test_replicas_that_follow_one_order_are_accepted_and_one_that_steps_back_is_not(seed: int) -> None:
    """Three replicas take up commits one after the other, each at its own pace; each read is served by one of them."""
    rng = random.Random(seed)
    scribe = Scribe(promises=["timeline"])
    commits, at = {"n1": 0, "n2": 0, "n3": 0}, {"now": 0}
    newest = 0
    for _ in range(40):
        at["now"] += 10
        if rng.random() < 0.3:
            newest += 1
            wrote(scribe, newest, at["now"], at["now"] + 5)
        node = rng.choice(sorted(commits))
        commits[node] = rng.randint(commits[node], newest)
        read(scribe, commits[node], at["now"], at["now"] + 5, node=node)
    assert broken(scribe) == []
    node = max(commits, key=commits.__getitem__)
    if commits[node]:
        read(scribe, commits[node] - 1, at["now"] + 10, at["now"] + 15, node=node)
        assert broken(scribe) == [FORWARD]


# --- sessions


def sessions(*steps: tuple[str, Any]) -> list[str]:
    """Calls of one session, one after the other: (w or r, its place)."""
    scribe = Scribe(promises=["sessions"])
    for number, (f, order) in enumerate(steps):
        if f == "w":
            scribe.write(f"w{number}", number * 10, number * 10 + 5, order=order, session="s")
        else:
            scribe.call("read", None, number * 10, number * 10 + 5, order=order, session="s")
    return broken(scribe)


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([("w", 1), ("r", 1), ("w", 2), ("r", 3), ("r", 3), ("w", 4)], []),
        ([("w", 2), ("r", 1)], [READ_YOUR_WRITES]),
        ([("r", 2), ("r", 1)], [MONOTONIC_READS]),
        ([("r", 2), ("w", 1)], [WRITES_FOLLOW_READS]),
        ([("w", 2), ("w", 1)], [MONOTONIC_WRITES]),
        ([("w", 3), ("r", 4), ("r", 2)], [MONOTONIC_READS, READ_YOUR_WRITES]),
    ],
)
def test_each_guarantee_of_a_session(steps: list[tuple[str, int]], found: list[str]) -> None:
    assert sessions(*steps) == found


def test_other_sessions_and_calls_that_overlap_promise_each_other_nothing() -> None:
    scribe = Scribe(promises=["sessions"])
    scribe.write("a", 1, 5, order=2, session="s")
    scribe.call("read", None, 4, 9, order=1, session="s")
    scribe.call("read", None, 10, 11, order=1, session="other")
    assert broken(scribe) == []


def test_a_session_of_contexts_is_told_by_what_they_cover() -> None:
    scribe = Scribe(promises=["sessions"])
    scribe.write("a", 1, 2, dot(3), session="s", context=token({1: 3}))
    scribe.call("read", None, 3, 4, session="s", context=token({1: 3}))
    scribe.call("read", None, 5, 6, session="s", context=token({1: 2, 2: 1}, [dot(3)]))
    assert broken(scribe) == [], "a dot beside the vector is seen, too"
    scribe.call("read", None, 7, 8, session="s", context=token({1: 2, 2: 1}))
    assert broken(scribe) == [MONOTONIC_READS, READ_YOUR_WRITES]


def test_answers_that_tell_neither_place_nor_context_accuse_nobody() -> None:
    scribe = Scribe(promises=["sessions"])
    scribe.write("a", 1, 2, session="s")
    scribe.call("read", None, 3, 4, session="s")
    assert broken(scribe) == []


@given(st.lists(st.tuples(st.sampled_from("rw"), st.integers(0, 6)), max_size=12))
def test_a_session_is_accused_exactly_if_a_later_call_has_an_earlier_place(steps: list[tuple[str, int]]) -> None:
    places = [order for _, order in steps]
    assert bool(sessions(*steps)) is (places != sorted(places))


# --- atomic reads


def atomic(scribe: Scribe, siblings: list[str], began: int, ended: int, context: str) -> None:
    scribe.call("read", None, began, ended, level="atomic", siblings=siblings, context=context)


def test_what_an_atomic_read_has_seen_is_not_unseen_by_a_later_one() -> None:
    scribe = Scribe(promises=["atomic"])
    scribe.write("a", 1, 2, dot(1))
    atomic(scribe, ["a"], 3, 6, token({1: 1}))
    atomic(scribe, [], 5, 8, token({}))
    assert broken(scribe) == [], "they overlap"
    scribe.call("read", None, 9, 10, level="quorum", siblings=[], context=token({}))
    assert broken(scribe) == [], "it is not atomic"
    atomic(scribe, [], 7, 8, token({}))
    assert broken(scribe) == [ATOMIC]


def test_a_value_may_go_when_something_can_have_superseded_it() -> None:
    scribe = Scribe(promises=["atomic"])
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 1, 9, dot(2), knew=["a"])
    atomic(scribe, ["a"], 3, 4, token({1: 1}))
    atomic(scribe, ["b"], 5, 6, token({1: 2}))
    assert broken(scribe) == []
    atomic(scribe, [], 7, 8, token({1: 2}))
    assert broken(scribe) == [ATOMIC], "nothing superseded b"


@pytest.mark.parametrize(("later", "found"), [(token({}, [dot(7)]), []), (token({1: 7}), []), (token({1: 6}), [ATOMIC])])
def test_a_single_dot_stays_seen(later: str, found: list[str]) -> None:
    scribe = Scribe(promises=["atomic"])
    atomic(scribe, [], 1, 2, token({}, [dot(7)]))
    atomic(scribe, [], 3, 4, later)
    assert broken(scribe) == found


@given(st.lists(st.dictionaries(st.integers(1, 3), st.integers(1, 4)), max_size=8))
def test_reads_one_after_the_other_are_accused_exactly_if_one_has_seen_less(vectors: list[dict[int, int]]) -> None:
    scribe = Scribe(promises=["atomic"])
    for number, vector in enumerate(vectors):
        atomic(scribe, [], number * 10, number * 10 + 5, token(vector))
    so_far: dict[int, int] = {}
    lost = False
    for vector in vectors:
        lost = lost or any(vector.get(actor, 0) < counter for actor, counter in so_far.items())
        so_far = {actor: max(so_far.get(actor, 0), vector.get(actor, 0)) for actor in {*so_far, *vector}}
    assert bool(broken(scribe)) is lost
