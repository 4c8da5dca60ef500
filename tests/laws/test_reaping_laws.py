"""Laws of core/reaping.py: nothing is ripe before its wait, a change begins anew, one missing answer agrees to nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.reaping import Grace, ReapingPlan, agreed_by_all, agreed_now_ms

KEYS = [b"a", b"b", b"c"]
_steps = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([b"1", b"2"]), st.floats(0, 50)), max_size=30)


@given(_steps, st.floats(2, 100))
def test_a_key_is_ripe_only_as_long_after_its_first_look_as_the_wait_and_with_the_same_record(
    steps: list[tuple[bytes, bytes, float]], grace_s: float
) -> None:
    plan, now_s, confirmed = ReapingPlan(Grace(grace_s)), 0.0, dict[bytes, tuple[bytes, float]]()
    for key, digest, later_s in steps:
        now_s += later_s
        fresh, ripe = plan.sort([(key, digest)], now_s)
        for found in ripe:
            assert confirmed[found[0]][0] == found[1] and now_s - confirmed[found[0]][1] >= plan.grace.wait_s
        plan.forget(ripe)
        plan.confirm(fresh, now_s)
        confirmed.update({one: (what, now_s) for one, what in fresh})
        plan.check()


@given(st.floats(2, 1e6))
def test_the_wait_is_longer_than_messages_are_taken_by_what_clocks_may_differ(grace_s: float) -> None:
    grace = Grace(grace_s)
    assert grace.wait_s + grace.age_s >= grace_s * 0.999
    assert grace.wait_s - grace.late_s >= grace.clocks_s * 0.999


@given(st.sets(st.sampled_from(["n1", "n2", "n3"])), st.sets(st.integers(0, 2)))
def test_one_missing_answer_agrees_to_nothing(answered: set[str], objected: set[int]) -> None:
    found = [(key, b"1") for key in KEYS]
    agreed = agreed_by_all(found, ["n1", "n2", "n3"], {node: sorted(objected) for node in answered})
    assert agreed == ([one for at, one in enumerate(found) if at not in objected] if len(answered) == 3 else [])


def test_evidence_is_bounded_and_let_go_of_when_its_key_is_gone() -> None:
    plan = ReapingPlan(Grace(8.0), count_max=2)
    fresh, _ = plan.sort([(key, b"1") for key in KEYS], 0.0)
    plan.confirm(fresh, 0.0)
    assert len(plan) == 2
    plan.end_pass()
    plan.end_pass()
    assert len(plan) == 0


def test_one_clock_that_is_ahead_ends_nothing_and_a_minority_nothing_at_all() -> None:
    assert agreed_now_ms(900_000, [1000, 1010], 3) == 1010
    assert agreed_now_ms(900_000, [1000], 3) == 1000
    assert agreed_now_ms(900_000, [], 3) is None
    assert agreed_now_ms(7, [], 1) == 7
