"""What each conflict policy promises, one situation at a time. The laws over random schedules are in tests/laws."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.errors import BadRequest, TooLarge
from kvstore.core.policies import counters
from kvstore.core.policies.items import (
    FIELD_BYTES_MAX,
    ITEMS_MAX,
    TOTAL_MAX,
    decode_item,
    decode_removed,
    encode_item,
    encode_removed,
)
from kvstore.core.policies.merging import SAMPLES_MAX, LawBroken, Merged, broken_law
from kvstore.core.policies.operations import (
    Add,
    Assign,
    Delete,
    Discard,
    Event,
    Increment,
    Kind,
    Operation,
    Policy,
    Put,
    Remove,
)
from kvstore.core.policies.plain import LWW, SIBLINGS
from kvstore.core.policies.retrying import Verdict, decide_increment
from kvstore.core.policies.typed import COUNTER, MAP, SET
from kvstore.core.record import (
    decode,
    encode,
    read_single,
)
from kvstore.core.versions import EMPTY, HORIZON, NO_REQUEST, OVERWRITE, Context, Record, Sibling, expire, make_dot, touch

A, B, C = (bytes((0, 0, 0, at)) + bytes(7) + b"\x01" for at in range(3))


def did(
    policy: Policy,
    base: Record,
    operation: Operation,
    actor: bytes,
    counter: int,
    *,
    context: Context = OVERWRITE,
    hlc: int = 0,
    expires_ms: int = 0,
) -> Record:
    event = Event(make_dot(actor, counter), NO_REQUEST, hlc or counter << 16, expires_ms)
    record = policy.apply(base, operation, event, context)
    record.check()
    assert decode(encode(record)) == record, "it is a record of the format as it stands"
    return record


def values(policy: Policy, record: Record, now_ms: int = 0) -> list[bytes]:
    return [cell.value for cell in policy.read(record, now_ms).cells]


# --- lww


def test_lww_keeps_the_later_of_two_concurrent_values_on_every_replica() -> None:
    one = did(LWW, EMPTY, Put(b"early"), A, 1, hlc=10)
    two = did(LWW, EMPTY, Put(b"late"), B, 1, hlc=20)
    assert values(LWW, LWW.join(one, two)) == values(LWW, LWW.join(two, one)) == [b"late"]


def test_lww_breaks_ties_by_the_dot() -> None:
    one = did(LWW, EMPTY, Put(b"of a"), A, 1, hlc=10)
    two = did(LWW, EMPTY, Put(b"of b"), B, 1, hlc=10)
    assert values(LWW, LWW.join(one, two)) == values(LWW, LWW.join(two, one)) == [b"of b"]


def test_lww_a_write_after_a_fast_clocks_write_is_not_buried_under_it() -> None:
    fast = did(LWW, EMPTY, Put(b"fast"), A, 1, hlc=1_000_000)
    after = did(LWW, fast, Put(b"after"), B, 1, hlc=10)
    assert values(LWW, after) == values(LWW, LWW.join(fast, after)) == [b"after"]


def test_lww_two_states_of_one_write_meet_in_the_later_one() -> None:
    """A touch, and expiry, leave the dot and the stamp as they are: neither order may bring back what was before."""
    put = did(LWW, EMPTY, Put(b"v"), A, 1, hlc=10, expires_ms=1_000)
    touched, ended = touch(put, 500, 5_000), expire(put, 2_000)
    for one, other in ((put, touched), (put, ended), (ended, touched)):
        assert LWW.join(one, other) == LWW.join(other, one) == other
    before = did(LWW, EMPTY, Put(b"w"), B, 1, hlc=5)
    assert (
        LWW.join(LWW.join(before, put), touched).siblings == LWW.join(touched, LWW.join(put, before)).siblings == touched.siblings
    )


def test_lww_two_replicas_that_chose_differently_before_a_third_write_lose_nothing_to_each_other() -> None:
    """w overwrites x alone; y was dropped against x at one replica and meets w at another. Decided by vectors as well as by stamps
    each side would take the other's value for superseded, and nothing would be left."""
    x = did(LWW, EMPTY, Put(b"x"), A, 1, hlc=30)
    y = did(LWW, EMPTY, Put(b"y"), B, 1, hlc=20)
    w = Record({**x.vector, C: 1}, (Sibling(make_dot(C, 1), hlc=10, value=b"w"),))  # by a coordinator that never held x
    left, right = LWW.join(LWW.join(x, y), w), LWW.join(y, w)
    assert values(LWW, LWW.join(left, right)) == values(LWW, LWW.join(right, left)) == [b"x"]


def test_lww_an_expired_winner_does_not_bring_the_loser_back() -> None:
    old = did(LWW, EMPTY, Put(b"old"), A, 1, hlc=10)
    new = did(LWW, EMPTY, Put(b"new"), B, 1, hlc=20, expires_ms=500)
    assert values(LWW, LWW.join(old, new), 499) == [b"new"]
    assert values(LWW, LWW.join(old, new), 500) == []


def test_lww_a_late_delete_wins_and_an_early_one_loses() -> None:
    put = did(LWW, EMPTY, Put(b"x"), A, 1, hlc=10)
    assert values(LWW, LWW.join(put, did(LWW, EMPTY, Delete(), B, 1, hlc=20))) == []
    assert values(LWW, LWW.join(put, did(LWW, EMPTY, Delete(), B, 1, hlc=5))) == [b"x"]


# --- counter


def test_concurrent_increments_add_up() -> None:
    one = did(COUNTER, did(COUNTER, EMPTY, Increment(5), A, 1), Increment(-2), A, 2)
    two = did(COUNTER, EMPTY, Increment(10), B, 1)
    assert values(COUNTER, COUNTER.join(one, two)) == [b"13"]
    assert len(COUNTER.join(one, two).siblings) == 2, "one an actor, however many increments"


def test_a_counter_that_was_incremented_while_it_was_deleted_holds_that_increment_alone() -> None:
    ten = did(COUNTER, EMPTY, Increment(10), A, 1)
    deleted = did(COUNTER, ten, Delete(), B, 1)
    assert values(COUNTER, deleted) == []
    more = did(COUNTER, ten, Increment(2), A, 2)
    both = COUNTER.join(deleted, more)
    assert values(COUNTER, both) == [b"2"]
    assert values(COUNTER, did(COUNTER, both, Increment(1), A, 3)) == [b"3"]


def test_a_deleted_counter_begins_at_nothing_and_its_actor_goes_on_from_its_total() -> None:
    record = did(COUNTER, did(COUNTER, EMPTY, Increment(10), A, 1), Delete(), A, 2)
    assert values(COUNTER, did(COUNTER, record, Increment(4), A, 3)) == [b"4"]
    assert values(COUNTER, did(COUNTER, record, Increment(4), B, 1)) == [b"4"]


def test_a_deleted_counter_is_a_tombstone_to_all_who_know_no_policy() -> None:
    record = encode(did(COUNTER, did(COUNTER, EMPTY, Increment(10), A, 1), Delete(), A, 2))
    single = read_single(record, 0)
    assert single is not None and single[0] is None


def test_deletes_fold_into_one_tombstone() -> None:
    record = EMPTY
    for counter in range(1, 9, 2):
        record = did(COUNTER, did(COUNTER, record, Increment(1), A, counter), Delete(), A, counter + 1)
    assert len(record.siblings) == 1
    counters.check(record)


def test_a_counter_at_zero_is_there() -> None:
    record = did(COUNTER, did(COUNTER, EMPTY, Increment(3), A, 1), Increment(-3), B, 1)
    assert values(COUNTER, record) == [b"0"]


def test_an_increment_beyond_64_bits_is_refused_and_so_is_one_that_expires() -> None:
    full = did(COUNTER, EMPTY, Increment(TOTAL_MAX), A, 1)
    with pytest.raises(BadRequest, match="63 bits"):
        COUNTER.apply(full, Increment(1), Event(make_dot(A, 2)))
    assert values(COUNTER, did(COUNTER, full, Increment(1), B, 1)) == [b"%d" % (TOTAL_MAX + 1)], "each actor has its own"
    with pytest.raises(BadRequest, match="expire"):
        COUNTER.apply(EMPTY, Increment(1), Event(make_dot(A, 1), expires_ms=5))


def test_a_delete_with_a_context_leaves_a_counter_alone_that_moved_on_since() -> None:
    ten = did(COUNTER, EMPTY, Increment(10), A, 1)
    twelve = did(COUNTER, ten, Increment(2), A, 2)
    assert values(COUNTER, did(COUNTER, twelve, Delete(), B, 1, context=Context(ten.vector))) == [b"12"]
    assert values(COUNTER, did(COUNTER, twelve, Delete(), B, 1, context=Context(twelve.vector))) == []


# --- retried increments


def issued(at_ms: int) -> bytes:
    return at_ms.to_bytes(6, "big") + bytes(9) + b"\x01"


@pytest.mark.parametrize("base", [EMPTY, Record(floor_ms=60), Record({HORIZON: 60})])
def test_an_increment_is_executed_by_its_first_attempt_alone_whatever_was_forgotten(base: Record) -> None:
    """A counter that is incremented a thousand times a millisecond forgets ids within it: a first attempt is none that was before,
    because no later one is ever executed."""
    assert decide_increment(base, issued(50), attempt=0) is Verdict.EXECUTE
    assert decide_increment(base, issued(50), attempt=1) is Verdict.UNKNOWN


def test_an_increment_that_is_remembered_is_answered_live_or_superseded() -> None:
    event = Event(make_dot(A, 1), issued(50))
    record = COUNTER.apply(EMPTY, Increment(1), event)
    assert decide_increment(record, issued(50), attempt=1) is Verdict.ANSWER
    later = did(COUNTER, record, Increment(1), A, 2)
    assert decide_increment(later, issued(50), attempt=0) is Verdict.ANSWER


def test_an_increment_without_an_id_is_never_tried_again() -> None:
    assert decide_increment(EMPTY, NO_REQUEST, attempt=0) is Verdict.EXECUTE
    assert decide_increment(EMPTY, NO_REQUEST, attempt=1) is Verdict.UNKNOWN


# --- set


def test_an_add_wins_over_a_concurrent_remove() -> None:
    base = did(SET, EMPTY, Add(b"x"), A, 1)
    removed, added = did(SET, base, Remove(b"x"), A, 2), did(SET, base, Add(b"x"), B, 1)
    assert values(SET, removed) == []
    assert values(SET, SET.join(removed, added)) == [b"x"]


def test_a_remove_takes_every_add_that_it_has_seen_and_a_late_copy_does_not_bring_it_back() -> None:
    one, two = did(SET, EMPTY, Add(b"x"), A, 1), did(SET, EMPTY, Add(b"x"), B, 1)
    both = SET.join(one, two)
    assert values(SET, both) == [b"x"], "twice added, once there"
    removed = did(SET, both, Remove(b"x"), C, 1)
    assert values(SET, SET.join(SET.join(removed, one), two)) == []


def test_a_remove_in_a_context_takes_only_what_was_read() -> None:
    read = did(SET, EMPTY, Add(b"x"), A, 1)
    held = SET.join(read, did(SET, EMPTY, Add(b"x"), B, 1))
    assert values(SET, did(SET, held, Remove(b"x"), C, 1, context=Context(read.vector))) == [b"x"]


def test_an_element_of_a_set_expires_alone_and_its_longest_add_counts() -> None:
    record = did(SET, did(SET, EMPTY, Add(b"x"), A, 1, expires_ms=100), Add(b"y"), A, 2)
    assert values(SET, record, 99) == [b"x", b"y"]
    assert values(SET, record, 100) == [b"y"]
    short, long = (did(SET, EMPTY, Add(b"z"), actor, 1, expires_ms=at) for actor, at in ((A, 100), (B, 200)))
    forever = did(SET, EMPTY, Add(b"z"), C, 1)
    assert [cell.expires_ms for cell in SET.read(SET.join(short, long), 0).cells] == [200]
    assert [cell.expires_ms for cell in SET.read(SET.join(SET.join(long, forever), short), 0).cells] == [0]


def test_removes_do_not_pile_up() -> None:
    record = EMPTY
    for counter in range(1, 20, 2):
        record = did(SET, did(SET, record, Add(b"x"), A, counter), Remove(b"x"), A, counter + 1)
    assert [sibling.tombstone for sibling in record.siblings] == [True]


def test_a_set_that_is_full_refuses_and_says_how_many_it_holds() -> None:
    value = encode_item(Kind.ELEMENT, b"", b"x")
    full = Record({A: ITEMS_MAX}, tuple(Sibling(make_dot(A, at + 1), value=value + b"%d" % at) for at in range(ITEMS_MAX)))
    with pytest.raises(TooLarge) as refused:
        SET.apply(full, Add(b"new"), Event(make_dot(B, 1)))
    assert (refused.value.limit, refused.value.actual) == (ITEMS_MAX, ITEMS_MAX + 1)


# --- map


def test_fields_of_a_map_do_not_disturb_each_other() -> None:
    one = did(MAP, did(MAP, EMPTY, Assign(b"name", b"ada"), A, 1), Add(b"red", b"colours"), A, 2)
    two = did(MAP, did(MAP, EMPTY, Increment(3, b"visits"), B, 1), Assign(b"town", b"rome"), B, 2)
    both = MAP.read(MAP.join(one, two), 0).cells
    assert [(cell.field, cell.kind, cell.value) for cell in both] == [
        (b"colours", Kind.ELEMENT, b"red"),
        (b"name", Kind.REGISTER, b"ada"),
        (b"town", Kind.REGISTER, b"rome"),
        (b"visits", Kind.COUNTER, b"3"),
    ]


def test_a_field_that_was_written_while_it_was_discarded_holds_what_is_new() -> None:
    base = did(MAP, did(MAP, EMPTY, Assign(b"f", b"old"), A, 1), Increment(10, b"f"), A, 2)
    base = did(MAP, base, Add(b"x", b"f"), A, 3)
    gone = did(MAP, base, Discard(b"f"), B, 1)
    assert values(MAP, gone) == []
    new = did(MAP, did(MAP, base, Assign(b"f", b"new"), A, 4), Increment(1, b"f"), A, 5)
    assert values(MAP, MAP.join(gone, new)) == [b"new", b"1"]


def test_concurrent_assignments_read_as_the_latest_and_are_all_superseded_by_the_next() -> None:
    one, two = did(MAP, EMPTY, Assign(b"f", b"1"), A, 1, hlc=10), did(MAP, EMPTY, Assign(b"f", b"2"), B, 1, hlc=20)
    both = MAP.join(one, two)
    assert values(MAP, both) == [b"2"] and len(both.siblings) == 2
    after = did(MAP, both, Assign(b"f", b"3"), A, 2, hlc=5)
    assert values(MAP, after) == [b"3"] and len(after.siblings) == 1
    assert after.siblings[0].hlc > 20


def test_a_register_whose_latest_value_expired_does_not_show_an_older_one() -> None:
    one = did(MAP, EMPTY, Assign(b"f", b"1"), A, 1, hlc=10)
    two = did(MAP, EMPTY, Assign(b"f", b"2"), B, 1, hlc=20, expires_ms=100)
    assert values(MAP, MAP.join(one, two), 100) == []


def test_discarding_a_field_leaves_the_others_and_the_next_event_takes_the_tombstone() -> None:
    record = did(MAP, did(MAP, EMPTY, Assign(b"f", b"1"), A, 1), Assign(b"g", b"2"), A, 2)
    record = did(MAP, record, Discard(b"f"), A, 3)
    assert values(MAP, record) == [b"2"]
    assert [sibling.tombstone for sibling in did(MAP, record, Assign(b"h", b"3"), A, 4).siblings] == [False, False]


# --- what a policy has not


@pytest.mark.parametrize(
    ("policy", "operation"),
    [
        (COUNTER, Put(b"5")),
        (COUNTER, Increment(1, b"field")),
        (SET, Increment(1)),
        (SET, Add(b"x", b"field")),
        (MAP, Put(b"")),
        (LWW, Increment(1)),
        (SIBLINGS, Add(b"x")),
    ],
)
def test_an_operation_that_a_policy_has_not_is_refused_with_those_it_has(policy: Policy, operation: Operation) -> None:
    with pytest.raises(BadRequest, match=r"it has: .*delete") as refused:
        policy.apply(EMPTY, operation, Event(make_dot(A, 1)))
    assert refused.value.subject == "policy"


def test_a_dot_is_minted_once() -> None:
    for policy, operation in ((LWW, Put(b"")), (SET, Add(b"")), (SIBLINGS, Put(b""))):
        record = did(policy, EMPTY, operation, A, 1)
        with pytest.raises(AssertionError):
            policy.apply(record, operation, Event(make_dot(A, 1)))


# --- bytes


@given(kind=st.sampled_from(Kind), field=st.binary(max_size=20), payload=st.binary(max_size=20))
def test_items_come_back_as_they_went(kind: Kind, field: bytes, payload: bytes) -> None:
    item = decode_item(encode_item(kind, field, payload))
    assert (item.kind, item.field, item.payload) == (kind, field, payload)


_rows = st.dictionaries(
    st.tuples(st.binary(max_size=9), st.binary(min_size=12, max_size=12)),
    st.tuples(st.integers(0, 2**64 - 1), st.integers(-TOTAL_MAX, TOTAL_MAX)),
    max_size=5,
)


@given(rows=_rows)
def test_removals_come_back_as_they_went(rows: dict[tuple[bytes, bytes], tuple[int, int]]) -> None:
    assert decode_removed(encode_removed(rows)) == rows


def test_the_bytes_of_an_item_are_these_for_ever() -> None:
    assert encode_item(Kind.REGISTER, b"name", b"ada").hex() == "01010004" + b"nameada".hex()
    record = did(COUNTER, EMPTY, Increment(-2), A, 1)
    assert record.siblings[0].value.hex() == "01020000" + "fffffffffffffffe"
    removed = did(COUNTER, record, Delete(), B, 7).siblings[0].value.hex()
    assert removed == "01040000" + "0000" + A.hex() + "0000000000000001" + "fffffffffffffffe"


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x02\x01\x00\x00", b"\x01\x09\x00\x00", b"\x01\x01\x00\x05abc"])
def test_a_value_that_is_no_item_is_told(value: bytes) -> None:
    with pytest.raises(BadRequest, match="no item"):
        decode_item(value)


def test_a_fields_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(TooLarge):
        encode_item(Kind.REGISTER, bytes(FIELD_BYTES_MAX + 1), b"")


# --- registered merge functions


def longest(one: bytes, two: bytes) -> bytes:
    return max(one, two, key=lambda value: (len(value), value))


def union(one: bytes, two: bytes) -> bytes:
    return json.dumps(sorted({*json.loads(one), *json.loads(two)})).encode()


SAMPLES = [b"[]", b'["a"]', b'["a", "b"]', b'["c"]']


def test_siblings_are_shown_as_what_the_function_makes_of_them_and_stay_stored() -> None:
    policy = Merged("union", union, SAMPLES)
    one = did(policy, EMPTY, Put(b'["a"]'), A, 1, expires_ms=900)
    two = did(policy, EMPTY, Put(b'["b"]'), B, 1, expires_ms=500)
    both = policy.join(one, two)
    (cell,) = policy.read(both, 0).cells
    assert (cell.value, cell.dot, cell.expires_ms) == (b'["a", "b"]', make_dot(A, 1), 500)
    assert len(both.siblings) == 2
    assert values(policy, one) == [b'["a"]']
    assert policy.read(did(policy, both, Delete(), A, 2), 0).cells == ()


@given(values=st.tuples(*[st.sets(st.sampled_from("abcd")).map(lambda names: json.dumps(sorted(names)).encode())] * 3))
def test_the_laws_can_be_held_under_hypothesis(values: tuple[bytes, bytes, bytes]) -> None:
    assert broken_law(union, *values) is None


@pytest.mark.parametrize(
    ("function", "law"),
    [
        (lambda one, two: one, "commutative"),
        (lambda one, two: bytes(sorted(one + two)), "idempotent"),
        (lambda one, two: one if one == two else bytes([(one[0] + two[0]) // 2 if one and two else 0]), "associative"),
        (lambda one, two: "text", "must be bytes"),
    ],
)
def test_a_function_that_is_no_merge_is_not_registered_and_the_law_is_named(function: object, law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        Merged("bad", function, [b"a", b"b", b"z"])  # type: ignore[arg-type]


def test_a_function_that_answers_differently_each_time_is_not_registered() -> None:
    answers = iter(range(256))
    with pytest.raises(LawBroken, match="same twice"):
        Merged("moody", lambda one, two: bytes((next(answers),)), [b"a", b"b"])


def test_a_function_that_fails_on_a_sample_is_not_registered() -> None:
    with pytest.raises(LawBroken, match="JSONDecodeError"):
        Merged("union", union, [*SAMPLES, b"not json"])


@pytest.mark.parametrize("count", [0, 1, SAMPLES_MAX + 1])
def test_too_few_or_too_many_samples_are_refused(count: int) -> None:
    with pytest.raises(LawBroken, match="samples"):
        Merged("longest", longest, [bytes(at) for at in range(count)])


def test_values_that_the_function_does_not_take_are_shown_as_siblings_and_the_reason_told() -> None:
    policy = Merged("union", union, SAMPLES)
    both = policy.join(did(policy, EMPTY, Put(b"not json"), A, 1), did(policy, EMPTY, Put(b"[]"), B, 1))
    reading = policy.read(both, 0)
    assert [cell.value for cell in reading.cells] == [b"not json", b"[]"]
    assert reading.failure.startswith("union: JSONDecodeError")


def test_a_result_that_is_not_bytes_is_shown_as_siblings_as_well() -> None:
    answers: list[object] = []
    policy = Merged("longest", lambda one, two: longest(one, two) if not answers else answers[0], [b"a", b"b"])  # type: ignore[arg-type,return-value]
    answers.append("text")
    both = policy.join(did(policy, EMPTY, Put(b"x"), A, 1), did(policy, EMPTY, Put(b"y"), B, 1))
    reading = policy.read(both, 0)
    assert [cell.value for cell in reading.cells] == [b"x", b"y"] and "not bytes" in reading.failure
