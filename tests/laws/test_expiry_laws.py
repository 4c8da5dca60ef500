"""Laws of expiry and touch over reachable records: expiry is a delete that everybody makes alike, a touch brings nothing back."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import event, given
from hypothesis import strategies as st

from kvstore.core.record import (
    decode,
    deleted_ms,
    encode,
    expire_record,
    may_expire,
    read_siblings,
    touch_record,
)
from kvstore.core.record_writes import first_record, merge_records
from kvstore.core.versions import (
    EMPTY,
    OVERWRITE,
    TOUCHES_MAX,
    Record,
    Sibling,
    covers,
    expire,
    latest_of,
    live,
    make_dot,
    merge,
    put,
    touch,
)
from tests.laws.strategies import Universe, related_records, universes

A, B = (bytes((0, 0, 0, at)) + bytes(7) + b"\x01" for at in range(2))
Related = tuple[Universe, list[bytes]]


def written(base: Record, actor: bytes, counter: int, *, expires_ms: int = 0, tombstone: bool = False) -> Record:
    write = Sibling(make_dot(actor, counter), hlc=counter << 16, expires_ms=expires_ms, tombstone=tombstone, value=b"")
    return put(base, replace(write, value=b"" if tombstone else b"v%d" % counter), OVERWRITE)


@given(universes, st.integers(0, 6))
def test_expiry_keeps_the_vector_the_dots_and_the_ids_and_reads_as_before(universe: Universe, later_ms: int) -> None:
    now_ms = universe.now_ms + later_ms
    for record in universe.records:
        before, after = decode(record), decode(expire_record(record, now_ms))
        after.check()
        assert (after.vector, after.retries, after.floor_ms) == (before.vector, before.retries, before.floor_ms)
        assert [(one.dot, one.request_id) for one in after.siblings] == [(one.dot, one.request_id) for one in before.siblings]
        assert read_siblings(expire_record(record, now_ms), now_ms) == read_siblings(record, now_ms)
        assert not any(one.tombstone and one.value for one in after.siblings)


@given(universes, st.integers(0, 6))
def test_expiry_is_done_once(universe: Universe, later_ms: int) -> None:
    now_ms = universe.now_ms + later_ms
    for record in universe.records:
        expired = expire_record(record, now_ms)
        event("expired" if expired is not record else "as before")
        assert may_expire(record, now_ms) == (expired != record)
        assert not may_expire(expired, now_ms) and expire_record(expired, now_ms) is expired


@given(related_records(2), st.integers(0, 6))
def test_it_makes_no_difference_whether_expiry_comes_before_or_after_a_merge(related: Related, later_ms: int) -> None:
    universe, (one, other) = related
    now_ms = universe.now_ms + later_ms
    merged = expire_record(merge_records(one, other), now_ms)
    assert expire_record(merge_records(expire_record(one, now_ms), other), now_ms) == merged
    assert expire_record(merge_records(one, expire_record(other, now_ms)), now_ms) == merged


@given(universes, st.integers(0, 6), st.integers(0, 9))
def test_a_touch_changes_nothing_but_when_what_is_live_expires(universe: Universe, later_ms: int, ttl_ms: int) -> None:
    now_ms = universe.now_ms + later_ms
    expires_ms = now_ms + ttl_ms if ttl_ms else 0
    for record in universe.records:
        before, touched = decode(record), touch_record(record, now_ms, expires_ms)
        alive = live(before, now_ms)
        assert (touched is None) == (not alive)
        if touched is None:
            continue
        after = decode(touched[0])
        assert (touched[1], touched[2]) == (alive[0].dot, len(alive))
        assert [(one.dot, one.value, one.tombstone) for one in after.siblings] == [
            (one.dot, one.value, one.tombstone) for one in before.siblings
        ]
        assert (after.vector, after.retries) == (before.vector, before.retries)
        assert {one.expires_ms for one in live(after, now_ms)} <= {expires_ms}
        assert merge_records(record, touched[0]) == touched[0], "later than what was touched"


@given(related_records(2), st.integers(0, 9))
def test_a_touch_brings_nothing_back(related: Related, ttl_ms: int) -> None:
    """Whatever the other side has superseded, by a delete or a write, stays superseded though it is touched here."""
    universe, (one, other) = related
    touched = touch_record(one, universe.now_ms, universe.now_ms + ttl_ms)
    if touched is None:
        return
    held = decode(other)
    gone = {sibling.dot for sibling in decode(one).siblings if covers(held.vector, sibling.dot)} - {
        sibling.dot for sibling in held.siblings
    }
    event("something was superseded" if gone else "nothing was")
    merged = decode(merge_records(touched[0], other))
    assert gone.isdisjoint(sibling.dot for sibling in merged.siblings)
    assert {sibling.dot for sibling in merged.siblings} == {sibling.dot for sibling in decode(merge_records(one, other)).siblings}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=3, max_size=3))
def test_the_later_of_two_states_is_a_total_order(drawn: list[tuple[int, int, bool]]) -> None:
    dot = make_dot(A, 1)
    a, b, c = (Sibling(dot, expires_ms=ends, tombstone=gone and ends > 0, touches=touches) for touches, ends, gone in drawn)
    assert latest_of(a, b) == latest_of(b, a)
    assert latest_of(latest_of(a, b), c) == latest_of(a, latest_of(b, c))
    assert latest_of(a, a) == a


def test_a_replica_that_has_missed_a_touch_does_not_end_what_was_touched() -> None:
    at_a = written(EMPTY, A, 1, expires_ms=10)
    at_b = touch(at_a, 5, 100)
    merged = merge(expire(at_a, 20), at_b)
    assert [sibling.value for sibling in live(merged, 20)] == [b"v1"]
    assert merged == merge(at_b, expire(at_a, 20)) == at_b


def test_a_touch_may_shorten_a_life_and_the_last_one_counts() -> None:
    longer = written(EMPTY, A, 1, expires_ms=1000)
    shorter = touch(longer, 5, 10)
    assert live(merge(longer, shorter), 20) == []
    assert [one.expires_ms for one in merge(touch(shorter, 6, 0), shorter).siblings] == [0]


def test_of_two_touches_side_by_side_the_longer_life_wins() -> None:
    base = written(EMPTY, A, 1, expires_ms=10)
    one, other = touch(base, 5, 50), touch(base, 5, 90)
    assert merge(one, other) == merge(other, one) == other
    assert merge(expire(one, 60), other) == other


def test_a_touch_that_a_delete_has_not_seen_does_not_save_the_value() -> None:
    base = written(EMPTY, A, 1, expires_ms=10)
    deleted, touched = written(base, B, 1, tombstone=True), touch(base, 5, 100)
    assert live(merge(deleted, touched), 6) == [] == live(merge(touched, deleted), 6)


def test_after_the_most_touches_that_are_counted_the_longer_life_wins() -> None:
    record = written(EMPTY, A, 1, expires_ms=10)
    record = replace(record, siblings=(replace(record.siblings[0], touches=TOUCHES_MAX),))
    again = touch(record, 5, 50)
    assert again.siblings[0].touches == TOUCHES_MAX
    assert decode(encode(again)) == again
    assert merge(record, again) == again


def test_a_record_was_deleted_when_its_last_value_went() -> None:
    assert deleted_ms(encode(EMPTY)) == 0
    assert deleted_ms(first_record(make_dot(A, 1), bytes(16), 7 << 16, 0, None)) == 7
    value = first_record(make_dot(A, 1), bytes(16), 7 << 16, 20, b"v")
    assert deleted_ms(value) is None
    assert deleted_ms(expire_record(value, 20)) == 20
    both = merge_records(expire_record(value, 20), first_record(make_dot(B, 1), bytes(16), 30 << 16, 0, None))
    assert deleted_ms(both) == 30
    assert deleted_ms(merge_records(both, first_record(make_dot(B, 2), bytes(16), 30 << 16, 0, b"w"))) is None
