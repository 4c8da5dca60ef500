"""How long messages waited, told without comparing clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.transit import MEMORY_S, WAIT_S_MAX, Transit

AHEAD_MS = 9_000_000
"""By which the sender's clock is ahead of ours: it says nothing."""


def test_a_message_that_took_longer_than_the_quickest_has_waited() -> None:
    transit = Transit()
    for at in range(100):
        assert transit.waited_s(AHEAD_MS + at * 10, at * 0.01 + 0.002) == pytest.approx(0.0, abs=1e-6)
    assert transit.waited_s(AHEAD_MS + 1000, 1.0 + 0.002 + 3.0) == pytest.approx(3.0)
    assert transit.waited_s(AHEAD_MS + 4002, 4.004) == pytest.approx(0.0, abs=1e-6)


def test_whoever_says_nothing_has_not_waited() -> None:
    transit = Transit()
    assert transit.waited_s(0, 5.0) == transit.waited_s(0, 500.0) == 0.0


def test_a_clock_that_stood_still_is_forgiven_after_a_while() -> None:
    """The sender's machine slept for an hour, and its clock with it; and again for ten seconds."""
    transit = Transit()
    transit.waited_s(AHEAD_MS, 0.0)
    assert transit.waited_s(AHEAD_MS + 1, 3600.0) == 0.0, f"more than {WAIT_S_MAX} s is nonsense"
    transit = Transit()
    transit.waited_s(AHEAD_MS, 100.0)
    waits_s = [transit.waited_s(AHEAD_MS + at * 1000, 110.0 + at) for at in range(1, 2 * int(MEMORY_S) + 2)]
    assert waits_s[0] == pytest.approx(10.0) and waits_s[-1] == 0.0


@given(
    st.integers(1, 1 << 50),
    st.floats(0.0, 1e6),
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(0.0, 50.0)), min_size=1, max_size=50),
)
def test_law_nobody_is_said_to_have_waited_longer_than_he_did(
    ahead_ms: int, apart_s: float, messages: list[tuple[float, float]]
) -> None:
    transit, sent_s, read_s = Transit(), 0.0, 0.0
    for pause_s, wait_s in messages:
        sent_s += pause_s
        read_s = max(read_s, sent_s + wait_s)
        assert transit.waited_s(ahead_ms + int(sent_s * 1000), apart_s + read_s) <= read_s - sent_s + 0.0021
