"""How much is on its way to a node: less while even the quickest answers take long, and all of it again afterwards."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvclient.send_window import BATCHES, BYTES_MIN, TARGET_S, SendWindow

MOST = 4 * 1024 * 1024


def test_late_answers_make_it_smaller_down_to_a_batch_and_quick_ones_larger_again() -> None:
    window = SendWindow(MOST)
    for _ in range(20 * BATCHES):
        window.heard(2.0)
    assert window.size_bytes == BYTES_MIN
    for _ in range(20 * BATCHES):
        window.heard(0.01)
    assert window.size_bytes == MOST


def test_slow_keys_beside_quick_ones_change_nothing() -> None:
    window = SendWindow(MOST)
    for at in range(1000):
        window.heard(0.005 if at % BATCHES == 0 else 5.0)
    assert window.size_bytes == MOST


@given(st.integers(1, MOST), st.lists(st.floats(0.0, 100.0), max_size=100))
def test_law_it_stays_between_a_batch_and_the_bounds(most: int, latencies_s: list[float]) -> None:
    window = SendWindow(most)
    for latency_s in latencies_s:
        before = window.size_bytes
        window.heard(latency_s)
        assert min(BYTES_MIN, most) <= window.size_bytes <= most
        assert window.size_bytes >= before or (latency_s > 0 and TARGET_S > 0)
