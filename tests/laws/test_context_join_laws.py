"""Laws of joined contexts: the layout is that of the nodes, and a join is what both have seen, no more and no less."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kvproto.contexts import DOT_BYTES, join_contexts
from kvstore.core.record import decode_context, encode_context
from kvstore.core.versions import Context

ACTORS = st.sampled_from([bytes([letter]) * 12 for letter in b"abc"])
COUNTERS = st.integers(1, 6)
DOTS = st.tuples(ACTORS, COUNTERS).map(lambda pair: pair[0] + pair[1].to_bytes(8, "big"))
CONTEXTS = st.builds(
    lambda vector, dots: Context(vector, frozenset(dots)), st.dictionaries(ACTORS, COUNTERS), st.sets(DOTS, max_size=4)
)
EVERY_DOT = [bytes([letter]) * 12 + number.to_bytes(8, "big") for letter in b"abc" for number in range(1, 8)]


def joined(one: Context, other: Context) -> Context:
    return decode_context(join_contexts(encode_context(one), encode_context(other)))


@given(CONTEXTS, CONTEXTS)
def test_a_join_has_seen_what_either_has_and_nothing_else(one: Context, other: Context) -> None:
    both = joined(one, other)
    for dot in EVERY_DOT:
        assert both.sees(dot) is (one.sees(dot) or other.sees(dot))


@given(CONTEXTS, CONTEXTS, CONTEXTS)
def test_the_order_of_joins_makes_no_difference(one: Context, other: Context, third: Context) -> None:
    assert joined(one, other) == joined(other, one)
    assert joined(joined(one, other), third) == joined(one, joined(other, third))
    assert joined(joined(one, other), other) == joined(one, other)


@given(CONTEXTS)
def test_nothing_joins_as_nothing(context: Context) -> None:
    token = encode_context(context)
    assert join_contexts(token, b"") == join_contexts(b"", token) == join_contexts(token, token) == token
    assert join_contexts(b"", b"") == b""


@given(CONTEXTS, CONTEXTS)
def test_dots_that_the_vector_covers_go(one: Context, other: Context) -> None:
    assume(one != other)
    both = joined(one, other)
    assert not [dot for dot in both.dots if int.from_bytes(dot[12:], "big") <= both.vector.get(dot[:12], 0)]


@pytest.mark.parametrize(
    "token", [b"\x01", b"\x01\x00\x01", b"\x01\x00\x00" + bytes(DOT_BYTES - 1), b"\x01\x00\x02" + bytes(DOT_BYTES)]
)
def test_what_is_no_context_is_refused(token: bytes) -> None:
    with pytest.raises(ValueError, match="not a context"):
        join_contexts(token, b"\x01\x00\x01" + bytes(DOT_BYTES))
