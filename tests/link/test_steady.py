"""What another machine's clock says: never ahead of it, and as near as the promptest message of late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvproto.steady import MEMORY_S, FarClock

MESSAGES = st.lists(st.tuples(st.floats(0.001, 30.0), st.floats(0.0, 30.0)), min_size=1, max_size=30)


@given(MESSAGES, st.floats(-1e6, 1e6), st.floats(0.0, 100.0))
def test_the_estimate_is_never_ahead_and_behind_by_no_more_than_the_least_delay(
    messages: list[tuple[float, float]], apart_s: float, later_s: float
) -> None:
    far, sent_s, now_s = FarClock(), 2e6, 0.0
    heard: list[tuple[float, float]] = []  # when, and how long it was on its way
    for pause_s, delay_s in messages:
        sent_s += pause_s
        now_s = max(now_s, sent_s + delay_s)  # in order
        far.heard(int((sent_s + apart_s) * 1000), now_s)
        heard.append((now_s, now_s - sent_s))
    late_s = now_s + later_s + apart_s - far.at_least_ms(now_s + later_s) / 1000
    assert late_s >= -0.001
    assert late_s <= min(delay_s for at_s, delay_s in heard if now_s - at_s <= MEMORY_S) + 0.003


def test_what_was_never_heard_says_nothing() -> None:
    far = FarClock()
    far.heard(0, 10.0)
    assert far.at_least_ms(20.0) == 0
