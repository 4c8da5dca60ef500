"""The dial's advice: laws over every point of it, and what it says of staleness against what can be worked out."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvclient.dial import PRESETS, Answer, Legs, Level, Promise, Setting, advise, outcome, predict, promise_of, settings
from kvclient.dial.page import table
from kvclient.dial.words import lines, row
from kvproto.errors import BadRequest, WrongMode
from tests.house.repository import ROOT

EVERY = [setting for n in range(1, 6) for setting in settings(n)]
"""A few hundred: a test goes through all of them, as one each would be most of the suite."""
ORDER = (Answer.REFUSED, Answer.DEGRADED, Answer.YES)
WEAK = Legs.of_round_trip(10.0)


def test_fewer_replicas_within_reach_never_make_an_answer_better() -> None:
    for setting in EVERY:
        outcomes = [outcome(setting, reachable) for reachable in range(setting.n + 1)]
        for worse, better in itertools.pairwise(outcomes):
            assert ORDER.index(worse.writes) <= ORDER.index(better.writes)
            assert ORDER.index(worse.reads) <= ORDER.index(better.reads)
        assert set(outcomes[0]) == {Answer.REFUSED} and set(outcomes[-1]) == {Answer.YES}


def test_only_what_is_sloppy_degrades_and_what_is_exact_is_met_or_refused() -> None:
    for setting in EVERY:
        outcomes = {answer for reachable in range(setting.n + 1) for answer in outcome(setting, reachable)}
        assert Answer.DEGRADED not in outcomes or setting.sloppy
        for reachable in range(setting.n + 1):
            found = outcome(setting, reachable)
            assert found.writes is not Answer.DEGRADED or setting.write is Level.PRESET
            assert found.reads is not Answer.DEGRADED or setting.read is Level.PRESET


def test_both_sides_of_a_cut_serve_whole_only_where_a_read_on_one_may_miss_a_write_on_the_other() -> None:
    """The CAP theorem, for every setting: regular and stronger promises are refused on one side at least."""
    for setting in EVERY:
        larger, smaller = advise(setting).sides
        split = larger.writes is Answer.YES and smaller.reads is Answer.YES
        if split and setting.n > 1:
            assert promise_of(setting) is Promise.EVENTUAL


def test_a_read_is_never_stale_exactly_where_its_promise_says_so() -> None:
    for setting in (setting for setting in EVERY if setting.mode == "eventual"):
        overlaps = promise_of(setting) in (Promise.REGULAR, Promise.REGULAR_UNLESS_DEGRADED, Promise.ATOMIC)
        assert overlaps == (setting.r + setting.w > setting.n) or promise_of(setting) is Promise.UNSEEN_ONLY
    for n, r, w in {(setting.n, setting.r, setting.w) for setting in EVERY if setting.mode == "eventual"}:
        assert (predict(n, r, w, WEAK, trials=200).window_ms == 0.0) == (r + w > n)


def test_words_and_rows_can_be_made_of_every_setting() -> None:
    for setting in EVERY:
        advice = advise(setting, zones=3)
        assert all(lines(advice)[2:]) and promise_of(setting).title in "\n".join(lines(advice))
        assert row(advice)["promise"] == promise_of(setting).name.lower()


@given(st.integers(2, 5), st.data())
def test_waiting_for_more_replicas_never_makes_reads_older(n: int, data: st.DataObject) -> None:
    r, w = data.draw(st.integers(1, n)), data.draw(st.integers(1, n))
    less = predict(n, r, w, WEAK, trials=400)
    more = predict(n, min(n, r + 1), w, WEAK, trials=400)
    assert more.old_versions_p[0] <= less.old_versions_p[0]
    assert more.fresh_at_once >= less.fresh_at_once - 0.1


def test_with_two_replicas_the_window_is_that_of_one_exponential_leg() -> None:
    """n = 2, r = w = 1: the other replica shows it once the write has travelled there, and nothing else plays a part."""
    found = predict(2, 1, 1, Legs(10.0, 5.0, 5.0, 5.0))
    assert found.fresh_at_once == 0.0
    assert found.window_ms == pytest.approx(10.0 * math.log(1000), rel=0.15)


def test_prediction_depends_on_the_seed_alone() -> None:
    assert predict(3, 1, 1, WEAK, seed=4) == predict(3, 1, 1, WEAK, seed=4) != predict(3, 1, 1, WEAK, seed=5)


@pytest.mark.parametrize(
    ("preset", "asked", "error", "names"),
    [
        ("pa-xx", {}, BadRequest, "pa-el"),
        ("pa-ec", {"n": 0}, BadRequest, "n=0"),
        ("pa-ec", {"r": 4}, BadRequest, "n=3"),
        ("pa-ec", {"w": 0}, BadRequest, "w=0"),
        ("pa-ec", {"read": Level.LINEARIZABLE}, WrongMode, "pc-ec or pc-el"),
        ("pc-ec", {"read": Level.ATOMIC}, WrongMode, "pa-ec or pa-el"),
        ("pc-el", {"r": 2}, WrongMode, "pa-el and pa-ec"),
        ("pc-ec", {"sloppy": True}, WrongMode, "stand-ins"),
        ("pa-ec", {"read": Level.ATOMIC, "r": 1}, BadRequest, "majority"),
        ("pa-ec", {"read": Level.ATOMIC, "sloppy": True}, BadRequest, "never sloppy"),
    ],
)
def test_what_cannot_be_chosen_is_refused_and_what_can_is_named(
    preset: str, asked: dict[str, object], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        Setting.of(preset, **asked)  # type: ignore[arg-type]


def test_the_presets_are_the_four_quadrants() -> None:
    promised = {preset: promise_of(Setting.of_preset(preset)) for preset in PRESETS}
    assert promised == {
        "pa-el": Promise.EVENTUAL,
        "pa-ec": Promise.REGULAR_UNLESS_DEGRADED,
        "pc-ec": Promise.LINEARIZABLE,
        "pc-el": Promise.TIMELINE,
    }


def test_the_page_has_the_table_that_the_advice_makes() -> None:
    page = (ROOT / "docs" / "consistency.md").read_text(encoding="utf-8")
    assert "\n".join(table()) in page, "python -m kvclient.dial.page prints it"
