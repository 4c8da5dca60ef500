"""The tally against an oracle that counts from scratch: whatever the order of arrivals, refusals and failures."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.page import Page
from kvstore.core.quorum import Outcome, Tally


@dataclass(frozen=True)
class Arrival:
    """One target's answer: what it refused, or None when it failed."""

    target: str
    refused: frozenset[int] | None


@dataclass(frozen=True)
class Story:
    """A sub-batch and everything that arrives for it, in order."""

    targets: tuple[str, ...]
    need: int
    size: int
    arrivals: tuple[Arrival, ...]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    targets = tuple(f"n{at}" for at in range(draw(st.integers(1, 5))))
    size = draw(st.integers(1, 5))
    answers = st.one_of(st.none(), st.just(frozenset[int]()), st.frozensets(st.integers(0, size - 1)))
    order = draw(st.permutations(targets))[: draw(st.integers(0, len(targets)))]
    return Story(targets, draw(st.integers(1, len(targets))), size, tuple(Arrival(target, draw(answers)) for target in order))


def oracle(story: Story, arrived: int, position: int) -> Outcome:
    """Counts the answers that count for one position among the first `arrived`."""
    seen = story.arrivals[:arrived]
    received = sum(arrival.refused is not None and position not in arrival.refused for arrival in seen)
    if received >= story.need:
        return Outcome.MET
    return Outcome.PENDING if received + len(story.targets) - arrived >= story.need else Outcome.UNREACHABLE


@given(story=stories())
def test_every_operation_is_decided_once_and_as_soon_as_it_can_be(story: Story) -> None:
    tally = Tally(story.targets, story.need, story.size)
    reported: dict[int, Outcome] = {}
    for arrived in range(len(story.arrivals) + 1):
        if arrived:
            arrival = story.arrivals[arrived - 1]
            if arrival.refused is None:
                tally.fail(arrival.target)
            else:
                tally.record(arrival.target, sorted(arrival.refused))
        for outcome, positions in tally.settle():
            assert outcome is not Outcome.PENDING
            for position in range(story.size) if positions is None else positions:
                assert position not in reported, "decided once"
                reported[position] = outcome
        expected = {position: oracle(story, arrived, position) for position in range(story.size)}
        assert {position: tally.outcome(position) for position in expected} == expected
        assert reported == {position: outcome for position, outcome in expected.items() if outcome is not Outcome.PENDING}
        assert tally.settled is (len(reported) == story.size)
        assert set(range(story.size)) - set(reported) == set(range(story.size) if (left := tally.undecided()) is None else left)
        assert tally.settle() == [], "nothing new without an arrival"


@given(story=stories())
def test_a_decision_never_changes_whatever_comes_later(story: Story) -> None:
    for position in range(story.size):
        outcomes = [oracle(story, arrived, position) for arrived in range(len(story.arrivals) + 1)]
        decided = [outcome for outcome in outcomes if outcome is not Outcome.PENDING]
        assert len(set(decided)) <= 1


@given(story=stories())
def test_who_answered_failed_and_waits_is_told_in_order(story: Story) -> None:
    tally = Tally(story.targets, story.need, story.size)
    for arrival in story.arrivals:
        if arrival.refused is None:
            tally.fail(arrival.target)
        else:
            tally.record(arrival.target, arrival.refused)
    assert tally.answered == tuple(arrival.target for arrival in story.arrivals if arrival.refused is not None)
    assert tally.failed == tuple(arrival.target for arrival in story.arrivals if arrival.refused is None)
    heard = {arrival.target for arrival in story.arrivals}
    assert tally.waiting == set(story.targets) - heard
    assert tally.waiting_in_order == tuple(target for target in story.targets if target not in heard)
    for position in range(story.size):
        counted = tally.answered_for(position)
        assert counted == tuple(
            arrival.target for arrival in story.arrivals if arrival.refused is not None and position not in arrival.refused
        )
        assert tally.received(position) == len(counted)


@given(story=stories())
def test_positions_that_are_told_together_were_answered_by_the_same_targets(story: Story) -> None:
    tally = Tally(story.targets, story.need, story.size)
    for arrival in story.arrivals:
        if arrival.refused is None:
            tally.fail(arrival.target)
        else:
            tally.record(arrival.target, arrival.refused)
        for _, positions in tally.settle():
            assert len({tally.answered_for(position) for position in positions or range(story.size)}) == 1


@pytest.mark.parametrize(("targets", "need", "size"), [(("a", "b"), 3, 1), (("a", "b"), 0, 1), ((), 1, 1), (("a",), 1, 0)])
def test_a_tally_that_makes_no_sense_is_a_mistake_of_its_caller(targets: tuple[str, ...], need: int, size: int) -> None:
    with pytest.raises(AssertionError):
        Tally(targets, need, size)


def test_answers_of_strangers_second_answers_and_unknown_positions_are_mistakes() -> None:
    tally = Tally(("a", "b"), 1, 2)
    tally.record("a")
    for target in ("a", "c"):
        with pytest.raises(AssertionError):
            tally.record(target)
        with pytest.raises(AssertionError):
            tally.fail(target)
    with pytest.raises(AssertionError):
        Tally(("a",), 1, 2).record("a", [2])


def test_a_page_ends_at_its_last_key_readable_or_lost() -> None:
    assert Page([b"a", b"c"], [b"", b""], True).last == b"c"
    assert Page([b"a"], [b""], True, [b"b"]).last == b"b"
    assert Page([], [], False, [b"b"]).last == b"b"
    assert Page([], [], False).last == b""
