"""Laws of versions.py over reachable records, and one test for each bug that the laws or the model found in it.

The laws hold without conditions: forgetting request ids, by age or by number, changes no law of the merge.
"""

from __future__ import annotations

from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.record import decode, encode
from kvstore.core.record_writes import is_blind, merge_records
from kvstore.core.versions import (
    EMPTY,
    HORIZON,
    NO_REQUEST,
    NOTHING,
    OVERWRITE,
    Context,
    Record,
    Sibling,
    context_of,
    covers,
    descends,
    distinct,
    issued_ms,
    join,
    make_dot,
    merge,
    put,
    unseen_dots,
)
from tests.laws.strategies import Universe, related_records, universes

A, B, C = (bytes((0, 0, 0, at)) + bytes(7) + b"\x01" for at in range(3))
Related = tuple[Universe, list[bytes]]


def request(issued: int, tag: int = 0) -> bytes:
    return issued.to_bytes(6, "big") + tag.to_bytes(10, "big")


def written(
    base: Record, actor: bytes, counter: int, request_id: bytes = NO_REQUEST, context: Context = OVERWRITE, *, retries_max: int = 64
) -> Record:
    write = Sibling(make_dot(actor, counter), request_id, hlc=counter, value=request_id[-1:])
    record = put(base, write, context, retries_max=retries_max)
    record.check()
    return record


def dots(record: Record) -> list[tuple[bytes, int]]:
    return [(sibling.dot[:12], int.from_bytes(sibling.dot[12:], "big")) for sibling in record.siblings]


# --- laws -------------------------------------------------------------------------------------------------------------------------


@given(related_records(2))
def test_merging_is_commutative_to_the_byte(related: Related) -> None:
    one, two = map(decode, related[1])
    assert encode(merge(one, two)) == encode(merge(two, one))


@given(related_records(3))
def test_merging_is_associative_to_the_byte(related: Related) -> None:
    one, two, three = map(decode, related[1])
    assert encode(merge(merge(one, two), three)) == encode(merge(one, merge(two, three)))


@given(related_records(2))
def test_merging_is_idempotent_and_what_was_merged_adds_nothing(related: Related) -> None:
    one, two = map(decode, related[1])
    both = merge(one, two)
    assert encode(merge(one, one)) == encode(one)
    assert encode(merge(both, one)) == encode(merge(two, both)) == encode(both)


@given(related_records(2))
def test_nothing_is_not_a_record_but_merges_like_one(related: Related) -> None:
    assert encode(merge(EMPTY, decode(related[1][0]))) == related[1][0]


@given(related_records(2))
def test_a_merge_loses_nothing_concurrent_and_keeps_nothing_dominated(related: Related) -> None:
    one, two = map(decode, related[1])
    both = merge(one, two)
    both.check()
    held = {sibling.dot for sibling in both.siblings}
    for side, other in ((one, two), (two, one)):
        others = {sibling.dot for sibling in other.siblings}
        for sibling in side.siblings:
            assert (sibling.dot in held) == (sibling.dot in others or not covers(other.vector, sibling.dot))
    assert held <= {sibling.dot for sibling in (*one.siblings, *two.siblings)}
    assert held, "a key that was written is never empty: a tombstone is a sibling too"
    assert both.vector == join(one.vector, two.vector)
    assert descends(both.vector, one.vector) and descends(both.vector, two.vector)


@given(related_records(2))
def test_a_merge_remembers_every_id_that_either_side_knew_unless_it_is_at_the_floor(related: Related) -> None:
    one, two = map(decode, related[1])
    both = merge(one, two)
    known = {*one.retries, *two.retries, *(sibling.request_id for sibling in (*one.siblings, *two.siblings))} - {NO_REQUEST}
    for request_id in known:
        dot = both.known(request_id)
        assert (dot is not None and covers(both.vector, dot)) or issued_ms(request_id) <= both.floor_ms


@given(universes, st.randoms(use_true_random=False))
def test_replicas_that_exchange_everything_in_any_order_hold_equal_bytes(universe: Universe, rng: Random) -> None:
    held = [record for record in universe.held if record is not None]
    first = reduce(merge_records, held)
    assert reduce(merge_records, rng.sample([*held, *held, *universe.records], k=2 * len(held) + len(universe.records))) == reduce(
        merge_records, [*universe.records, first]
    )
    rng.shuffle(held)
    assert reduce(merge_records, held) == first


@given(related_records(2), st.booleans(), st.booleans())
def test_a_put_supersedes_what_its_context_has_seen_and_nothing_else(related: Related, overwrite: bool, empty: bool) -> None:
    base, read = map(decode, related[1])
    context = Context({} if empty else read.vector, frozenset(), overwrite)
    dot = make_dot(b"\x09" * 12, 1)
    new = put(base, Sibling(dot, request(2**41)), context)
    new.check()
    seen = {sibling.request_id for sibling in base.siblings if context.sees(sibling.dot)} - {NO_REQUEST}
    left = {
        sibling.dot
        for sibling in base.siblings
        if not overwrite and not context.sees(sibling.dot) and sibling.request_id not in seen
    }
    assert {sibling.dot for sibling in new.siblings} == left | {dot}
    assert descends(new.vector, base.vector) and descends(new.vector, context.vector)
    assert encode(merge(new, base)) == encode(new), "it replaces what it was made from"
    assert (new.vector.get(HORIZON, 0) >= 2**41) == (not descends(base.vector, context.vector))


@given(related_records(2))
def test_a_context_from_a_put_never_claims_a_sibling_that_its_writer_was_not_told_of(related: Related) -> None:
    base, read = map(decode, related[1])
    given_context = Context(read.vector)
    dot = make_dot(b"\x09" * 12, 1)
    new = put(base, Sibling(dot, request(2**41)), given_context)
    told = context_of(new, dot, given_context)
    assert told.sees(dot)
    others = [sibling for sibling in new.siblings if sibling.dot != dot]
    assert not any(told.sees(sibling.dot) for sibling in others)
    assert len(told.dots) <= 1, "tokens do not grow with the writes of a chain"
    following = put(new, Sibling(make_dot(b"\x09" * 12, 2), request(2**41, 1)), told)
    assert {sibling.dot for sibling in following.siblings} == {make_dot(b"\x09" * 12, 2), *(sibling.dot for sibling in others)}


# --- bugs found -------------------------------------------------------------------------------------------------------------------


def test_two_overwrites_that_are_retried_in_the_other_order_do_not_erase_each_other() -> None:
    """w then x at A, nobody answered; x then w at C. Judged by id, A has superseded w and C has superseded x: nothing was left."""
    w, x = request(9, 1), request(9, 2)
    at_a = written(written(EMPTY, A, 1, w), A, 2, x)
    at_c = written(written(EMPTY, C, 1, x), C, 2, w)
    assert dots(merge(at_a, at_c)) == [(A, 2), (C, 2)]


def test_three_writes_retried_in_a_circle_leave_one() -> None:
    one, two, three = request(9, 1), request(9, 2), request(9, 3)
    merged = EMPTY
    for actor, first, second in ((A, one, two), (B, two, three), (C, three, one)):
        merged = merge(merged, written(written(EMPTY, actor, 1, first), actor, 2, second))
    assert dots(merged) == [(A, 2), (B, 2), (C, 2)]


def test_executions_of_one_id_keep_their_own_stamps_whatever_the_order_of_merging() -> None:
    """Under the smallest dot with the stamp of whichever side came first, two replicas would have differed for ever."""
    one = put(EMPTY, Sibling(make_dot(A, 1), request(9), hlc=1, expires_ms=7), NOTHING)
    two = put(EMPTY, Sibling(make_dot(B, 1), request(9), hlc=2, expires_ms=8), NOTHING)
    assert encode(merge(one, two)) == encode(merge(two, one))
    assert distinct(merge(one, two).siblings) == list(one.siblings), "read once, under the smallest dot"


def test_a_context_that_covers_unseen_writes_raises_the_horizon_to_its_own_time() -> None:
    """w at A; a reader of w writes n at B, which never held w and cannot know its id; there w, sent again, must not overwrite n."""
    at_a = written(EMPTY, A, 1, request(50))
    at_b = written(EMPTY, B, 1, request(60), Context(at_a.vector))
    assert at_b.known(request(50)) is None and at_b.vector[HORIZON] == 60
    assert is_blind(None, Context(at_a.vector)) and not is_blind(None, NOTHING)
    assert not is_blind(encode(at_b), Context(at_b.vector)), "the horizon is no event"
    by_clock = put(EMPTY, Sibling(make_dot(B, 1), request(60), hlc=70 << 16), Context(at_a.vector))
    assert by_clock.vector[HORIZON] == 70, "whichever clock is ahead"
    assert merge(at_a, at_b).vector[HORIZON] == 60, "and it travels"


def test_a_retry_of_a_superseded_write_is_not_told_that_it_has_seen_its_successor() -> None:
    w, n = request(9, 1), request(9, 2)
    record = written(written(EMPTY, A, 1, w), A, 2, n)
    assert record.known(w) == make_dot(A, 1)
    assert context_of(record, make_dot(A, 1), NOTHING) == Context(dots=frozenset({make_dot(A, 1)}))


def test_who_has_seen_one_execution_of_a_write_supersedes_all_that_are_held() -> None:
    w = request(9, 1)
    both = merge(written(EMPTY, A, 1, w), written(EMPTY, B, 1, w))
    assert dots(both) == [(A, 1), (B, 1)]
    assert dots(written(both, C, 1, request(9, 2), Context(dots=frozenset({make_dot(A, 1)})))) == [(C, 1)]
    anonymous = merge(written(EMPTY, A, 1), written(EMPTY, B, 1))
    assert dots(written(anonymous, C, 1, request(9, 2), Context(dots=frozenset({make_dot(A, 1)})))) == [(B, 1), (C, 1)]


# --- ids --------------------------------------------------------------------------------------------------------------------------


def test_the_oldest_ids_beyond_the_cap_are_forgotten_and_all_of_their_millisecond() -> None:
    record = EMPTY
    for counter, (issued, tag) in enumerate([(5, 1), (7, 1), (7, 2), (9, 1), (9, 2)], start=1):
        record = written(record, A, counter, request(issued, tag), retries_max=2)
    assert record.floor_ms == 7
    assert list(record.retries) == [request(9, 1)], "(7, 2) cannot be told from (7, 1)"


def test_ids_before_the_cutoff_are_forgotten_and_one_at_it_is_kept() -> None:
    record = put(
        written(written(EMPTY, A, 1, request(5)), A, 2, request(6)), Sibling(make_dot(A, 3), request(8)), OVERWRITE, cutoff_ms=6
    )
    assert (record.floor_ms, list(record.retries)) == (5, [request(6)])


def test_an_id_out_of_order_below_the_floor_is_not_taken_up_again() -> None:
    """A client whose clock is behind: its superseded write could not be told from a forgotten one."""
    record = EMPTY
    for counter, issued in enumerate([50, 60, 70, 40, 80], start=1):
        record = written(record, A, counter, request(issued), retries_max=1)
    assert record.floor_ms == 60 and list(record.retries) == [request(70)]
    assert record.known(request(40)) is None


def test_writes_without_an_id_are_never_the_same_write() -> None:
    both = merge(written(EMPTY, A, 1), written(EMPTY, B, 1))
    assert len(distinct(both.siblings)) == 2 and both.known(NO_REQUEST) is None and not both.retries


def test_a_dot_of_an_actor_not_seen_so_far_is_unseen() -> None:
    record = written(EMPTY, A, 5)
    named = frozenset({make_dot(A, 5), make_dot(A, 6), make_dot(B, 1)})
    assert list(unseen_dots(record, Context(dots=named))) == [make_dot(A, 6), make_dot(B, 1)]


@pytest.mark.parametrize(
    "damaged",
    [
        Record({A: 1}, (Sibling(make_dot(A, 2)),)),
        Record({A: 2}, (Sibling(make_dot(A, 2)), Sibling(make_dot(A, 1)))),
        Record({A: 2}, (Sibling(make_dot(A, 2)), Sibling(make_dot(A, 2)))),
        Record({A: 2}, (), {request(9): frozenset()}),
        Record({A: 2}, (), {NO_REQUEST: frozenset({make_dot(A, 1)})}),
        Record({A: 2}, (), {request(9): frozenset({make_dot(A, 3)})}),
        Record({A: 2}, (Sibling(make_dot(A, 2)),), {request(9): frozenset({make_dot(A, 2)})}),
        Record({A: 2}, (), {request(9): frozenset({make_dot(A, 1)})}, floor_ms=9),
    ],
)
def test_check_refuses_what_no_schedule_can_make(damaged: Record) -> None:
    with pytest.raises(AssertionError):
        damaged.check()


def test_a_dot_is_minted_once() -> None:
    record = written(EMPTY, A, 5)
    with pytest.raises(AssertionError, match="minted once"):
        put(record, Sibling(make_dot(A, 4)), NOTHING)
