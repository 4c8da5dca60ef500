"""Stamps never run backwards, whatever the wall clock and the stamps of others do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.hlc import LOGICAL_BITS, HybridClock, physical_ms

moments = st.integers(0, (1 << 48) - 1)


@given(steps=st.lists(st.tuples(st.booleans(), moments), max_size=30))
def test_stamps_only_grow_and_are_never_before_the_wall_clock(steps: list[tuple[bool, int]]) -> None:
    clock, latest = HybridClock(), -1
    for is_observed, now_ms in steps:
        if is_observed:
            clock.observe(now_ms << LOGICAL_BITS)
            latest = max(latest, now_ms << LOGICAL_BITS)
            continue
        stamp = clock.stamp(now_ms)
        assert stamp > latest and physical_ms(stamp) >= now_ms
        latest = stamp


def test_stamps_of_one_millisecond_are_told_apart_by_the_counter() -> None:
    clock = HybridClock()
    stamps = [clock.stamp(1000) for _ in range(3)]
    assert stamps == [(1000 << LOGICAL_BITS) + at for at in range(3)]
    assert [physical_ms(stamp) for stamp in stamps] == [1000] * 3


def test_a_clock_that_is_set_back_goes_on_from_where_it_was() -> None:
    clock = HybridClock()
    before = clock.stamp(5000)
    assert clock.stamp(10) == before + 1
    assert clock.stamp(5001) == 5001 << LOGICAL_BITS
