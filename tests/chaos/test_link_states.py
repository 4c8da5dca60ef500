"""What faults of links are made of, in which order they come and go, and what must then be seen: rules, as tables."""

from __future__ import annotations

import pytest

from kvchaos.faults.expectations import expected_of
from kvchaos.faults.link_plane import crossing
from kvchaos.faults.link_state import (
    DOWNSTREAM,
    OPEN,
    UPSTREAM,
    Direction,
    Kind,
    Link,
    LinkState,
    Toxic,
    cut,
    delayed,
    plan_change,
    resetting,
    throttled,
    truncated,
)
from kvchaos.faults.probes import RawSight, compare, least_s, padding_of

BOTH, REQUESTS, RESPONSES = Direction.BOTH, Direction.REQUESTS, Direction.RESPONSES
REFUSED = cut(OPEN, Kind.REFUSE, BOTH)
HOLE = cut(OPEN, Kind.BLACKHOLE, REQUESTS)
STALL = cut(OPEN, Kind.STALL, REQUESTS)
SLOW = delayed(OPEN, 20)


def steps(before: LinkState, after: LinkState, *, stalled: bool = False) -> str:
    """The plan as words."""
    return " ".join(step.verb for step in plan_change(before, after, stalled=stalled))


@pytest.mark.parametrize(
    ("before", "after", "plan"),
    [
        (OPEN, OPEN, ""),
        (OPEN, REFUSED, "disable"),
        (REFUSED, OPEN, "enable"),
        (OPEN, HOLE, "add"),  # onto connections that are open: that is what a black hole is
        (HOLE, OPEN, "disable remove enable"),
        (OPEN, SLOW, "add add"),
        (SLOW, OPEN, "remove remove"),
        (SLOW, delayed(SLOW, 30), "change change"),
        (STALL, OPEN, "remove"),  # disabled first it would lose what it holds
        (SLOW, cut(SLOW, Kind.REFUSE, BOTH), "disable"),
        (cut(SLOW, Kind.REFUSE, BOTH), OPEN, "remove remove enable"),
        (resetting(OPEN), OPEN, "disable remove remove enable"),
    ],
)
def test_a_change_takes_these_steps(before: LinkState, after: LinkState, plan: str) -> None:
    assert steps(before, after) == plan


def test_where_the_receiver_stands_still_every_change_is_made_on_a_disabled_link() -> None:
    for before, after in [(OPEN, HOLE), (HOLE, OPEN), (OPEN, SLOW), (SLOW, OPEN), (STALL, OPEN), (SLOW, delayed(SLOW, 30))]:
        words = steps(before, after, stalled=True).split()
        assert (words[0], words[-1]) == ("disable", "enable")
    assert steps(OPEN, REFUSED, stalled=True) == "disable"


@pytest.mark.parametrize(
    ("state", "sentence", "greets", "closes"),
    [
        (OPEN, "open", True, True),
        (REFUSED, "refused", True, True),
        (HOLE, "requests lost", True, False),
        (cut(OPEN, Kind.BLACKHOLE, RESPONSES), "responses lost", False, True),
        (cut(OPEN, Kind.BLACKHOLE, BOTH), "blocked", False, False),
        (STALL, "requests lost", True, False),
        (cut(OPEN, Kind.STALL, RESPONSES), "blocked", False, None),
        (cut(OPEN, Kind.STALL, BOTH), "blocked", False, False),
        (cut(SLOW, Kind.BLACKHOLE, BOTH), "blocked", False, False),
        (SLOW, "slow +40 ms", True, True),
        (throttled(SLOW, 100), "slow +40 ms 100 kB/s", True, True),
        (resetting(OPEN), "broken", True, True),
        (truncated(OPEN, 10, RESPONSES), "broken", True, True),
    ],
)
def test_what_must_be_seen_of_a_link(state: LinkState, sentence: str, greets: bool, closes: bool | None) -> None:
    expected = expected_of(state)
    assert (expected.sentence(), expected.greets, expected.closes) == (sentence, greets, closes)
    assert expected.serves == (sentence == "open" or sentence.startswith("slow"))


@pytest.mark.parametrize(
    ("state", "seen", "said"),
    [
        (OPEN, RawSight(greeted=True, closed=True), ""),
        (OPEN, RawSight(refused=True), "connections are refused"),
        (OPEN, RawSight(), "no response passes"),
        (OPEN, RawSight(greeted=True), "no request passes"),
        (REFUSED, RawSight(refused=True), ""),
        (REFUSED, RawSight(greeted=True, closed=True), "connections are accepted"),
        (HOLE, RawSight(greeted=True), ""),
        (HOLE, RawSight(greeted=True, closed=True), "requests pass"),
        (HOLE, RawSight(refused=True), "connections are refused"),
        (cut(OPEN, Kind.BLACKHOLE, BOTH), RawSight(greeted=True), "responses pass"),
        (cut(OPEN, Kind.BLACKHOLE, RESPONSES), RawSight(), "no request passes"),
        (cut(OPEN, Kind.STALL, RESPONSES), RawSight(closed=True), ""),
    ],
)
def test_what_is_seen_is_held_against_it(state: LinkState, seen: RawSight, said: str) -> None:
    assert compare(seen, expected_of(state)) == said


def test_a_throttle_is_shown_by_sending_as_much_as_takes_a_while() -> None:
    expected = expected_of(throttled(OPEN, 100))
    assert padding_of(expected) == 30_000 and 0.2 < least_s(expected) < 0.3
    assert least_s(expected_of(OPEN)) == 0 == padding_of(expected_of(OPEN))


def test_settings_that_mean_nothing_or_two_things_are_refused() -> None:
    with pytest.raises(ValueError, match="no requests that could pass"):
        cut(OPEN, Kind.REFUSE, REQUESTS)
    with pytest.raises(ValueError, match="cut it"):
        throttled(OPEN, 0)
    with pytest.raises(AssertionError, match="bandwidth of 0"):
        Toxic("rate", "bandwidth", UPSTREAM, {"rate": 0})
    for ms in (0, 60_001):
        with pytest.raises(ValueError, match="not between"):
            delayed(OPEN, ms)
    with pytest.raises(ValueError, match="not between"):
        truncated(OPEN, 0, BOTH)
    for state in (HOLE, STALL):
        with pytest.raises(ValueError, match="heal it first"):
            resetting(state)
    with pytest.raises(ValueError, match="heal it first"):
        cut(truncated(OPEN, 10, BOTH), Kind.BLACKHOLE, BOTH)


def test_faults_of_a_link_add_up_and_the_same_one_again_replaces_the_first() -> None:
    state = throttled(delayed(delayed(OPEN, 10), 20), 5)
    assert [(toxic.name, *toxic.attributes.values()) for toxic in state.toxics] == [
        (f"delay_{UPSTREAM}", 20),
        (f"delay_{DOWNSTREAM}", 20),
        (f"rate_{UPSTREAM}", 5),
        (f"rate_{DOWNSTREAM}", 5),
    ]


def test_a_partition_cuts_the_links_between_its_groups_and_no_others() -> None:
    names = ("n1", "n2", "n3")
    links = [Link(one, other) for one in (*names, "east", "west") for other in names if one != other]
    assert {str(link) for link in crossing([["n1", "east"], ["n2", "n3"]], links)} == {
        *("n1->n2", "n1->n3", "n2->n1", "n3->n1"),
        *("east->n2", "east->n3"),
    }
    assert {str(link) for link in crossing([["n1"], ["n2"]], links)} == {"n1->n2", "n2->n1"}, "n3 sees both: a bridge"
    with pytest.raises(ValueError, match="'n9' is neither"):
        crossing([["n9"], ["n1"]], links)
    with pytest.raises(ValueError, match="in two groups"):
        crossing([["n1"], ["n1", "n2"]], links)
