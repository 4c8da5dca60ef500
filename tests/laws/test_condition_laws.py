"""Laws of conditions: what is built is read again, and what cannot be read is refused rather than taken to hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.columns import VERSION_BYTES
from kvproto.conditions import (
    ABSENT,
    INT64_MAX,
    INT64_MIN,
    PRESENT,
    Condition,
    Test,
    between,
    read_condition,
    value_is,
    version_is,
)
from kvproto.errors import BadRequest

VERSIONS = st.binary(min_size=VERSION_BYTES, max_size=VERSION_BYTES)
INT64 = st.integers(INT64_MIN, INT64_MAX)
HELD = st.one_of(st.none(), st.tuples(VERSIONS, st.binary(max_size=6)))
BUILT = st.one_of(
    st.sampled_from((ABSENT, PRESENT)),
    VERSIONS.map(version_is),
    st.binary(max_size=30).map(value_is),
    st.tuples(INT64, INT64).map(lambda bounds: between(*bounds)),
)


def read(condition: bytes) -> Condition:
    found = read_condition(condition)
    assert found is not None
    return found


@given(VERSIONS, st.binary(max_size=30), INT64, INT64)
def test_what_is_built_is_read_again(version: bytes, value: bytes, low: int, high: int) -> None:
    assert read_condition(b"") is None
    assert (read(ABSENT).test, read(PRESENT).test) == (Test.ABSENT, Test.PRESENT)
    assert read(version_is(version)) == Condition(Test.VERSION, version)
    assert read(value_is(value)) == Condition(Test.VALUE, value)
    assert read(between(low, high)) == Condition(Test.BETWEEN, low=low, high=high)


@given(st.binary(min_size=1, max_size=24))
def test_bytes_are_read_as_what_builds_them_or_refused(condition: bytes) -> None:
    try:
        found = read(condition)
    except BadRequest:
        return
    again = {
        Test.ABSENT: ABSENT,
        Test.PRESENT: PRESENT,
        Test.VALUE: value_is(found.operand),
        Test.BETWEEN: between(found.low, found.high),
    }
    assert (version_is(found.operand) if found.test is Test.VERSION else again[found.test]) == condition


@given(BUILT, st.binary(min_size=1, max_size=4))
def test_a_condition_with_something_behind_it_is_never_read_as_the_shorter_one(condition: bytes, more: bytes) -> None:
    try:
        assert read(condition + more) != read(condition)
    except BadRequest:
        assert condition[0] != Test.VALUE, "a value may be any bytes"


@given(HELD)
def test_absent_and_present_are_each_others_opposites(held: tuple[bytes, bytes] | None) -> None:
    version, value = held or (None, None)
    assert read(ABSENT).holds(version, value) is not read(PRESENT).holds(version, value)


@given(HELD, VERSIONS, st.binary(max_size=6))
def test_equality_holds_of_nothing_but_what_is_there(held: tuple[bytes, bytes] | None, version: bytes, value: bytes) -> None:
    there = held or (None, None)
    assert read(version_is(version)).holds(*there) is (held is not None and held[0] == version)
    assert read(value_is(value)).holds(*there) is (held is not None and held[1] == value)
    if held is not None:
        assert read(version_is(held[0])).holds(*held) and read(value_is(held[1])).holds(*held)


@given(INT64, INT64, INT64)
def test_bounds_are_inclusive(low: int, high: int, result: int) -> None:
    assert read(between(low, high)).allows(result) is (low <= result <= high)
    assert read(between(result, result)).allows(result)


@pytest.mark.parametrize("condition", [b"\x00", b"\x01x", b"\x02short", b"\x04x", b"\x05" + bytes(15), b"\x06", b"\xff"])
def test_what_a_newer_peer_may_mean_is_refused(condition: bytes) -> None:
    with pytest.raises(BadRequest):
        read_condition(condition)
