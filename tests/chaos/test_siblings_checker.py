"""The checker of siblings accuses what broke, whichever way, and excuses only what may be excused."""

from __future__ import annotations

import pytest

from kvchaos.causality import executions_of, stories_of
from kvchaos.checkers.siblings import DELETED, LOST, MAXIMAL, UNREAD, check_siblings
from kvchaos.history import calls_of
from tests.chaos.scribe import Scribe, dot, token


def promises_broken(scribe: Scribe) -> list[str]:
    events = scribe.history.events
    return [found.promise for found in check_siblings(stories_of(calls_of(events), executions_of(events)))]


def test_an_acknowledged_write_that_no_one_superseded_must_be_there() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 3, 4, dot(2), knew=[])
    scribe.rest(["b"], token({1: 2}))
    assert promises_broken(scribe) == [LOST]


def test_an_acknowledged_write_that_was_read_and_replaced_may_be_gone() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 3, 4, dot(2), knew=["a"])
    scribe.rest(["b"], token({1: 2}))
    assert promises_broken(scribe) == []


def test_whoever_superseded_it_must_be_accounted_for_as_well() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 3, 4, dot(2), knew=["a"])
    scribe.rest([], token({1: 2}))
    assert promises_broken(scribe) == [LOST]


def test_a_version_that_nobody_has_heard_of_any_more_is_lost_even_where_an_overwrite_might_excuse_it() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1, actor=2))
    scribe.write("b", 3, 4, dot(1), overwrites=True)
    scribe.rest(["b"], token({1: 1}))
    assert promises_broken(scribe) == [LOST]


def test_an_overwrite_may_have_superseded_what_had_begun_before_it_ended_and_nothing_else() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 1, 4, dot(2), overwrites=True)
    scribe.rest(["b"], token({1: 2}))
    assert promises_broken(scribe) == []
    later = Scribe()
    later.write("a", 5, 6, dot(2))
    later.write("b", 1, 4, dot(1), overwrites=True)
    later.rest(["b"], token({1: 2}))
    assert promises_broken(later) == [LOST]


def test_a_watched_overwrite_superseded_what_it_was_minted_over_and_nothing_else() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1, actor=2))
    scribe.write("b", 3, 4, dot(1), overwrites=True)
    scribe.watch(("a", dot(1, actor=2), []), ("b", dot(1), []))
    scribe.rest(["b"], token({1: 1, 2: 1}))
    assert promises_broken(scribe) == [LOST]
    met = Scribe()
    met.write("a", 1, 2, dot(1, actor=2))
    met.write("b", 3, 4, dot(1), overwrites=True)
    met.watch(("a", dot(1, actor=2), []), ("b", dot(1), [dot(1, actor=2)]))
    met.rest(["b"], token({1: 1, 2: 1}))
    assert promises_broken(met) == []


def test_what_was_read_stays_though_it_was_never_acknowledged() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, type_="info")
    scribe.read(["a"], 3, 4, token({1: 1}))
    scribe.rest([], token({}))
    assert promises_broken(scribe) == [UNREAD]


def test_a_write_of_unknown_outcome_that_nobody_saw_may_be_gone() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, type_="info")
    scribe.rest([], token({}))
    assert promises_broken(scribe) == []


def test_a_write_that_arrived_in_what_the_final_state_has_seen_must_be_there() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, type_="info")
    scribe.watch(("a", dot(1), []))
    scribe.rest([], token({1: 2}))
    assert promises_broken(scribe) == [MAXIMAL]


@pytest.mark.parametrize(("f", "promise"), [("write", MAXIMAL), ("delete", DELETED)])
def test_what_was_superseded_must_not_be_back(f: str, promise: str) -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1), attempts=1)
    scribe.write("b", 3, 4, dot(2), f=f, knew=["a"])
    scribe.rest(["a"] if f == "delete" else ["a", "b"], token({1: 2}))
    assert promises_broken(scribe) == [promise]


def test_what_was_superseded_through_others_must_not_be_back_either() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1), attempts=1)
    scribe.write("b", 3, 4, dot(2), knew=["a"], attempts=1)
    scribe.write("c", 5, 6, dot(3), knew=["b"], attempts=1)
    scribe.rest(["a", "c"], token({1: 3}))
    assert promises_broken(scribe) == [MAXIMAL]


def test_a_write_that_two_coordinators_executed_may_stand_beside_its_successor() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1), attempts=2)
    scribe.write("b", 3, 4, dot(2), knew=["a"])
    scribe.watch(("a", dot(1), []), ("a", dot(1, actor=2), []), ("b", dot(2), [dot(1)]))
    scribe.rest(["a", "b"], token({1: 2, 2: 1}))
    assert promises_broken(scribe) == []


def test_a_write_that_one_coordinator_executed_may_not() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1), attempts=2)
    scribe.write("b", 3, 4, dot(2), knew=["a"])
    scribe.watch(("a", dot(1), []), ("b", dot(2), [dot(1)]))
    scribe.rest(["a", "b"], token({1: 2}))
    assert promises_broken(scribe) == [MAXIMAL]


def test_a_delete_that_may_have_been_applied_excuses_what_it_knew_but_convicts_nobody() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1), attempts=1)
    scribe.delete("d", 3, 4, type_="info", knew=["a"])
    scribe.rest([], token({1: 2}))
    assert promises_broken(scribe) == []
    still = Scribe()
    still.write("a", 1, 2, dot(1), attempts=1)
    still.delete("d", 3, 4, type_="info", knew=["a"])
    still.rest(["a"], token({1: 1}))
    assert promises_broken(still) == []


@pytest.mark.parametrize("held", [["a", "b"], ["b"]])
def test_what_a_write_only_meant_to_supersede_may_be_there_or_not(held: list[str]) -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1), attempts=1)
    scribe.write("b", 3, 4, dot(2), meant=["a"])
    scribe.rest(held, token({1: 2}))
    assert promises_broken(scribe) == []


def test_keys_do_not_excuse_each_other() -> None:
    scribe = Scribe()
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 3, 4, dot(2), knew=["a"], key="other")
    scribe.rest([], token({1: 2}))
    assert promises_broken(scribe) == [LOST]
