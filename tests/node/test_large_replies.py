"""Answers that are too large for one message: on a stream in several, unary as much as fits, and each key answered once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.columns import GroupReply, Level, Receipt
from kvproto.errors import BadRequest, ConditionFailed, TooLarge
from kvstore.api import large_replies
from kvstore.api.large_replies import VERSION_BYTES, in_messages, in_one_message

RECEIPT = Receipt(level=Level.QUORUM, needed=2, n=3, n_asked=3)
Told = dict[tuple[int, int], tuple[object, ...]]


@st.composite
def replies(draw: st.DrawFn) -> list[GroupReply]:
    """Answers to some operations of a few groups: one value each, none, or siblings; or an error."""
    out = []
    for group in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=1, max_size=6))
        if draw(st.booleans()):
            sizes = [[sum(some)] for some in sizes]
        usual = all(len(some) == 1 for some in sizes)
        values = [bytes([65 + at]) * size for at, size in enumerate(size for some in sizes for size in some)]
        all_of_it = draw(st.booleans())
        out.append(
            GroupReply(
                group,
                positions=None if all_of_it else [3 * at for at in range(len(sizes))],
                counts=() if usual else [len(some) for some in sizes],
                values=values,
                versions=b"".join(bytes([at]) * VERSION_BYTES for at in range(len(values))),
                contexts=[b"context %d" % at for at in range(len(sizes))],
                expires_ms=list(range(len(values))) if draw(st.booleans()) else (),
                receipt=RECEIPT,
            )
        )
        if draw(st.booleans()):
            out.append(GroupReply(group, positions=[100], error=BadRequest("no")))
    return out


def told(some: list[GroupReply]) -> Told:
    """What each operation was answered."""
    answers: Told = {}
    for reply in some:
        count = len(reply.contexts) if reply.error is None else len(reply.positions or ())
        value = 0
        for at in range(count):
            position = at if reply.positions is None else reply.positions[at]
            assert (reply.group, position) not in answers, "an operation is answered once"
            if reply.error is not None:
                answers[reply.group, position] = (type(reply.error),)
                continue
            end = value + (reply.counts[at] if reply.counts else 1)
            assert reply.receipt is RECEIPT
            answers[reply.group, position] = (
                list(reply.values[value:end]),
                reply.versions[VERSION_BYTES * value : VERSION_BYTES * end],
                reply.contexts[at],
                list(reply.expires_ms[value:end]),
            )
            value = end
        assert value == len(reply.values) and VERSION_BYTES * value == len(reply.versions)
    return answers


def size_bytes(some: list[GroupReply]) -> int:
    return sum(len(value) for reply in some for value in reply.values)


@given(replies(), st.integers(1, 20))
def test_several_messages_tell_what_one_would_and_each_is_within_bounds(some: list[GroupReply], bytes_max: int) -> None:
    messages = in_messages(some, bytes_max=bytes_max)
    assert told([reply for message in messages for reply in message]) == told(some)
    assert all(messages), "none is empty"
    for message in messages:
        assert size_bytes(message) <= bytes_max or len(told(message)) == 1


@given(replies())
def test_what_fits_is_passed_on_as_it_is(some: list[GroupReply]) -> None:
    (message,) = in_messages(some, bytes_max=size_bytes(some))
    assert message is some
    assert in_one_message(some, bytes_max=size_bytes(some)) is some


@given(replies(), st.integers(0, 20))
def test_one_message_holds_what_fits_and_refuses_the_rest_key_by_key(some: list[GroupReply], bytes_max: int) -> None:
    fitting = in_one_message(some, bytes_max=bytes_max)
    assert size_bytes(fitting) <= bytes_max
    whole, partly = told(some), told(fitting)
    assert partly.keys() == whole.keys()
    differing = [key for key in whole if partly[key] != whole[key]]
    assert all(partly[key] == (TooLarge,) for key in differing)
    assert bool(differing) == (size_bytes(some) > bytes_max)


def test_a_key_whose_siblings_fit_into_no_message_is_refused_and_the_others_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large_replies, "ANSWER_BYTES_MAX", 10)
    reply = GroupReply(0, counts=[1, 2, 1], values=[b"a", b"b" * 6, b"c" * 6, b"d"], versions=bytes(80), contexts=[b""] * 3)
    messages = in_messages([reply], bytes_max=5)
    assert [(list(piece.positions or ()), list(piece.values), type(piece.error)) for some in messages for piece in some] == [
        ([0], [b"a"], type(None)),
        ([1], [], TooLarge),
        ([2], [b"d"], type(None)),
    ]


def test_a_failed_condition_keeps_its_error_however_the_reply_is_cut() -> None:
    """It comes with what is there, and without contexts: pieces of it must say so too, and answer every operation."""
    reply = GroupReply(0, values=[b"aaaa", b"bbbb"], versions=bytes(2 * VERSION_BYTES), error=ConditionFailed("another version"))
    pieces = [piece for message in in_messages([reply], bytes_max=4) for piece in message]
    assert [list(piece.positions or ()) for piece in pieces] == [[0], [1]]
    assert all(isinstance(piece.error, ConditionFailed) for piece in pieces)
    first, refused = in_one_message([reply], bytes_max=4)
    assert isinstance(first.error, ConditionFailed) and list(first.values) == [b"aaaa"]
    assert isinstance(refused.error, TooLarge) and list(refused.positions or ()) == [1]
