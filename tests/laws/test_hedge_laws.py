"""The price of second questions is bounded, whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvclient.hedging import BUDGET_SHARE, HedgeBudget

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60)


@given(STEPS)
def test_never_more_than_a_twentieth_of_the_reads_sent_was_granted(steps: list[tuple[bool, int]]) -> None:
    budget = HedgeBudget()
    sent = granted = 0
    for sends, reads in steps:
        if sends:
            budget.pay_in(reads)
            sent += reads
        elif budget.take(reads):
            granted += reads
        assert granted <= BUDGET_SHARE * sent + 1e-6


@given(STEPS, st.integers(1, 500))
def test_what_was_saved_in_quiet_times_is_bounded(steps: list[tuple[bool, int]], tokens_max: int) -> None:
    budget = HedgeBudget(tokens_max=tokens_max)
    for sends, reads in steps:
        if sends:
            budget.pay_in(reads)
        else:
            budget.take(reads)
    assert not budget.take(tokens_max + 1)


@given(st.integers(20, 2000))
def test_a_budget_that_was_paid_into_grants_its_share(reads: int) -> None:
    budget = HedgeBudget()
    budget.pay_in(reads)
    assert budget.take(int(reads * BUDGET_SHARE * 0.99))
