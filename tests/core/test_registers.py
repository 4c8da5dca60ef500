"""The pieces of a register: ballots, payloads, change functions, what acceptors store and say. Whole schedules are in
tests/laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.conditions import ABSENT, PRESENT, between, read_condition, value_is
from kvstore.core.register import held, payload, remembered
from kvstore.core.register.acceptor import Acceptor, Lost
from kvstore.core.register.ballot import NO_BALLOT, NO_STAMP, make_ballot, may_promise, round_of, tag_of, version_of
from kvstore.core.register.changes import Answer, Kind, Operation, Outcome, expire
from kvstore.core.register.changes import decide as decide_with
from kvstore.core.register.messages import Ask, Reply, Step, Why, decode_ask, decode_reply, encode_ask, encode_reply
from kvstore.core.register.remembered import Budget, Memory
from kvstore.core.register.rounds import Group

KEY = b"\x00\x01\x00\x00\x00\x02key"
GROUP = KEY[:6]
V1, V2 = version_of(make_ballot(1, 2, 3), 4), version_of(make_ballot(1, 2, 3), 5)
rounds, sequences = st.integers(1, 1 << 40), st.integers(1, 1 << 40)
ids = st.integers(0, (1 << 48) - 1).map(lambda ms: ms.to_bytes(6, "big") + bytes(10))
payloads = st.builds(payload.encode, st.binary(min_size=20, max_size=20), st.binary(max_size=40), tombstone=st.booleans())


def stamp(round_: int, sequence: int, tag: int = 1) -> bytes:
    return make_ballot(round_, tag, 7) + sequence.to_bytes(8, "big")


def put(value: bytes, **options: object) -> Operation:
    return Operation(Kind.PUT, KEY, value=value, **options)  # type: ignore[arg-type]


def decide(operation: Operation, base: bytes | None, version: bytes, cutoff_ms: int) -> tuple[bytes | None, Answer]:
    """By a proposer that has just read `base`."""
    return decide_with(operation, base, version, cutoff_ms, memory_of(base, cutoff_ms))


def memory_of(base: bytes | None, cutoff_ms: int = 0, *, now_s: float = 100.0) -> Memory:
    return Memory(Budget(), base, cutoff_ms=cutoff_ms, window_s=10.0, now_s=now_s)


def id_of(ms: int, number: int = 0) -> bytes:
    return ms.to_bytes(6, "big") + number.to_bytes(10, "big")


@given(rounds, sequences, rounds, sequences)
def test_versions_order_as_round_and_sequence(one: int, first: int, other: int, second: int) -> None:
    earlier, later = version_of(make_ballot(one, 5, 9), first), version_of(make_ballot(other, 4, 9), second)
    assert (earlier < later) == ((one, first) < (other, second))


def test_a_round_is_promised_to_one_ballot_only() -> None:
    mine, other, later = make_ballot(3, 1, 1), make_ballot(3, 2, 1), make_ballot(4, 1, 1)
    assert may_promise(mine, mine) and may_promise(later, mine)
    assert not may_promise(other, mine) and not may_promise(mine, later)
    assert (round_of(later), tag_of(other)) == (4, 2)


@given(st.lists(ids, max_size=60), st.integers(0, 1 << 48), st.binary(max_size=30))
def test_ids_are_remembered_or_known_to_be_forgotten(issued: list[bytes], cutoff_ms: int, value: bytes) -> None:
    base = None
    for request_id in issued:
        base = payload.successor(base, V1, value, request_id=request_id, number=7, cutoff_ms=cutoff_ms)
        payload.check(base)
    if base is not None:
        assert payload.value(base) == value
        for request_id in issued[:-1]:
            ms = int.from_bytes(request_id[:6], "big")
            assert payload.request(base, request_id) == (V1, 7) or ms <= payload.forgotten_ms(base)
        assert payload.request(base, issued[-1]) == (V1, 7)


def test_an_id_within_a_value_or_across_rows_is_not_taken_for_one() -> None:
    request_id = bytes(range(16))
    base = payload.successor(None, V1, request_id, request_id=bytes(4) + request_id[:12])
    assert payload.request(base, request_id) is None


def test_a_put_is_executed_once_whatever_comes_between() -> None:
    first = put(b"v1", request_id=bytes(5) + b"\x09" + bytes(10))
    held1, answer = decide(first, None, V1, 0)
    assert held1 is not None and answer.outcome is Outcome.APPLIED
    held2, _ = decide(put(b"v2", request_id=bytes(5) + b"\x0a" + bytes(10)), held1, V2, 0)
    again = put(b"v1", request_id=first.request_id, attempt=1)
    nothing, told = decide(again, held2, V2, 0)
    assert nothing is None and (told.outcome, told.version) == (Outcome.APPLIED, V1)


def test_a_repeated_request_that_may_have_been_forgotten_is_not_executed() -> None:
    base = payload.encode(V1, b"v", forgotten_ms=100)
    old = (99).to_bytes(6, "big") + bytes(10)
    assert decide(put(b"w", request_id=old, attempt=1), base, V2, 0)[1].outcome is Outcome.FORGOTTEN
    assert decide(put(b"w", request_id=old), base, V2, 0)[1].outcome is Outcome.OVERTAKEN, "another attempt may have come before"
    assert decide(put(b"w", request_id=old, is_alone=True), base, V2, 0)[1].outcome is Outcome.APPLIED
    young = (101).to_bytes(6, "big") + bytes(10)
    assert decide(put(b"w", request_id=young, attempt=1), base, V2, 0)[1].outcome is Outcome.APPLIED
    late = put(b"w", request_id=young, attempt=1, is_late=True)
    assert decide(late, base, V2, 0)[1].outcome is Outcome.FORGOTTEN


def test_what_falls_out_of_a_payload_its_proposer_remembers_with_its_answer() -> None:
    memory, held = memory_of(None), None
    for at in range(100):
        one = Operation(Kind.INCREMENT, KEY, amount=1, request_id=id_of(1000 + at, at))
        new, _ = decide_with(one, held, V1, 0, memory)
        assert new is not None
        memory.take(held, new, 100.0, added=1)
        held = new
    again = Operation(Kind.INCREMENT, KEY, amount=1, request_id=id_of(1000), attempt=1)
    assert decide_with(again, held, V2, 0, memory) == (None, Answer(Outcome.APPLIED, None, V1, 1))


def test_what_a_proposer_forgets_is_known_to_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "REMEMBERED_MAX", 3)
    memory, held = memory_of(None), None
    for at in range(40):
        new = payload.successor(held, V1, b"v", request_id=id_of(1000 + at, at))
        memory.take(held, new, 100.0, added=1)
        held = new
    assert memory.request(id_of(1004, 4)) is None and memory.request(id_of(1005, 5)) == (V1, 0)
    assert memory.forgotten_ms == 1004
    assert memory.may_have_forgotten(id_of(1004), remembered.EPOCH) and not memory.may_have_forgotten(id_of(1005), remembered.EPOCH)


def test_an_id_of_a_clock_far_behind_is_taken_once_it_was_issued_after_the_read() -> None:
    memory = memory_of(payload.encode(V1, b"v", forgotten_ms=50_000))
    assert memory.may_have_forgotten(id_of(10), 100.5), "in the turn of the read nobody knows how late it is"
    memory.settle(100.0)
    assert memory.may_have_forgotten(id_of(10), 100.5)
    memory.settle(100.2)
    assert not memory.may_have_forgotten(id_of(10), 100.5) and memory.may_have_forgotten(id_of(10), 100.1)


def test_the_memories_of_all_registers_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "ALL_MAX", 10)
    budget = Budget()
    memories = [Memory(budget, None, cutoff_ms=0, window_s=10.0, now_s=1.0) for _ in range(4)]
    for memory in memories:
        held = None
        for at in range(40):
            new = payload.successor(held, V1, b"v", request_id=id_of(1000 + at, at))
            memory.take(held, new, 1.0, added=1)
            held = new
    assert budget.count == 10
    for memory in memories:
        memory.clear()
    assert budget.count == 0


@pytest.mark.parametrize(
    ("condition", "base", "holds"),
    [
        (ABSENT, None, True),
        (ABSENT, payload.encode(V1, b"", tombstone=True), True),
        (ABSENT, payload.encode(V1, b""), False),
        (PRESENT, payload.encode(V1, b""), True),
        (value_is(b""), None, False),
        (value_is(b"x"), payload.encode(V1, b"x"), True),
    ],
)
def test_conditions_are_judged_by_what_is_there(condition: bytes, base: bytes | None, holds: bool) -> None:
    new, answer = decide(put(b"new", condition=read_condition(condition)), base, V2, 0)
    assert (new is not None) == holds == (answer.outcome is Outcome.APPLIED)
    if not holds:
        assert (answer.outcome, answer.payload) == (Outcome.FAILED, base)


@pytest.mark.parametrize("value", [b"", b"-", b"1.5", b" 1", b"+1", b"0x1", b"9" * 30, b"9223372036854775807"])
def test_an_increment_of_what_is_no_number_or_beyond_64_bits_changes_nothing(value: bytes) -> None:
    base = payload.encode(V1, value)
    assert decide(Operation(Kind.INCREMENT, KEY, amount=1), base, V2, 0) == (None, (Outcome.NO_NUMBER, base, b"", 0))


def test_an_increment_keeps_the_expiry_and_stays_within_bounds() -> None:
    base = payload.encode(V1, b"-3", expires_ms=500)
    new, answer = decide(Operation(Kind.INCREMENT, KEY, amount=1), base, V2, 0)
    assert new is not None and (payload.value(new), payload.expires_ms(new), answer.number) == (b"-2", 500, -2)
    bounded = Operation(Kind.INCREMENT, KEY, amount=9, condition=read_condition(between(high=5)))
    assert decide(bounded, base, V2, 0)[1].outcome is Outcome.FAILED


def test_the_tombstone_of_an_expired_value_keeps_its_requests() -> None:
    base = payload.successor(None, V1, b"v", ends_ms=100, request_id=b"i" * 16)
    assert payload.has_expired(base, 100) and not payload.has_expired(base, 99)
    gone = expire(base, V2, 0)
    assert payload.is_tombstone(gone) and not payload.has_expired(gone, 1000)
    assert payload.request(gone, b"i" * 16) == (V1, 0)


@given(payloads, payloads, rounds, sequences)
def test_what_is_held_is_read_back_and_the_committed_kept_beside(one: bytes, two: bytes, round_: int, sequence: int) -> None:
    first, second = stamp(round_, sequence), stamp(round_, sequence + 1)
    alone = held.encode(first, one)
    assert held.verify(alone) and held.accepted(alone) == one and held.stamp(alone) == first
    assert not held.is_committed(alone, NO_STAMP) and held.beside(alone) is None
    assert held.is_committed(alone, second), "below the watermark of its ballot"
    both = held.over(alone, second, two)
    assert held.verify(both) and held.accepted(both) == two
    assert held.beside(both) == one and not held.is_committed(both, first)
    assert held.beside(held.over(both, stamp(round_, sequence + 2), one)) == two, "only what is directly below"


@given(payloads, st.integers(0, 200), st.integers(1, 255))
def test_a_flipped_bit_is_noticed(one: bytes, at: int, flip: int) -> None:
    record = bytearray(held.encode(stamp(1, 1), one))
    at %= len(record)
    record[at] ^= flip
    assert not held.verify(bytes(record))


@given(st.lists(st.tuples(st.binary(min_size=7, max_size=12), rounds, sequences, payloads), min_size=1, max_size=6))
def test_asks_and_replies_survive_their_bytes(rows: list[tuple[bytes, int, int, bytes]]) -> None:
    keys, stamps = [row[0] for row in rows], [stamp(row[1], row[2]) for row in rows]
    accept = Ask(Step.ACCEPT, keys, stamps, [row[2] for row in rows], [row[3] for row in rows])
    told = decode_ask(encode_ask(accept))
    assert (told.step, told.keys, told.ballots, list(told.marks), told.payloads) == (
        Step.ACCEPT,
        keys,
        stamps,
        accept.marks,
        accept.payloads,
    )
    read = Ask(Step.READ, keys, [one[:24] for one in stamps])
    reply = Reply(
        Step.READ, len(keys), {0: (Why.PROMISED, stamps[0][:24])}, [s + row[3] for s, row in zip(stamps, rows, strict=True)]
    )
    assert decode_reply(encode_reply(reply), read) == reply


@given(st.binary(max_size=60))
def test_bytes_that_are_no_ask_are_refused(data: bytes) -> None:
    try:
        decode_ask(data)
    except ValueError:
        return
    assert data, "nothing is no ask"


def acceptor() -> tuple[Acceptor, dict[bytes, bytes]]:
    disk: dict[bytes, bytes] = {}
    return Acceptor(disk.get), disk


def accept(
    on: tuple[Acceptor, dict[bytes, bytes]], at: bytes, value: bytes, *, tombstone: bool = False
) -> dict[int, tuple[Why, bytes]]:
    made = payload.encode(V1, value, tombstone=tombstone)
    verdict = on[0].answer(Ask(Step.ACCEPT, [KEY], [at], [0], [made]))
    on[1].update(verdict.writes)
    return verdict.reply.refused


@pytest.mark.parametrize(("watched", "below"), [(None, b"one"), ({GROUP}, b"one"), (set(), None)])
def test_what_an_accept_came_over_is_kept_where_reads_may_be_answered_alone(
    watched: set[bytes] | None, below: bytes | None
) -> None:
    disk: dict[bytes, bytes] = {}
    one = Acceptor(disk.get, watched=watched)
    for sequence, value in ((1, b"one"), (2, b"two")):
        made = payload.encode(V1, value)
        verdict = one.answer(Ask(Step.ACCEPT, [KEY], [stamp(5, sequence)], [sequence - 1], [made]))
        disk.update(verdict.writes)
    beside = held.beside(disk[KEY])
    assert payload.value(held.accepted(disk[KEY])) == b"two"
    assert (None if beside is None else payload.value(beside)) == below


def test_a_promise_refuses_every_earlier_ballot_and_says_which() -> None:
    on = acceptor()
    assert not on[0].answer(Ask(Step.READ, [KEY], [stamp(5, 0)[:24]])).reply.refused
    assert accept(on, stamp(4, 1), b"v") == {0: (Why.PROMISED, stamp(5, 0)[:24])}
    assert on[0].answer(Ask(Step.CONFIRM, [GROUP], [stamp(4, 1)[:24]])).reply.refused[0][0] is Why.PROMISED
    assert not on[0].answer(Ask(Step.CONFIRM, [GROUP], [stamp(5, 1)[:24]])).reply.refused


def test_an_older_accept_of_the_same_ballot_does_not_undo_a_newer_one() -> None:
    on = acceptor()
    accept(on, stamp(1, 2), b"second")
    assert not accept(on, stamp(1, 1), b"first")
    assert payload.value(held.accepted(on[1][KEY])) == b"second"


def test_a_late_message_does_not_bring_back_what_was_reaped() -> None:
    on = acceptor()
    accept(on, stamp(1, 2), b"", tombstone=True)
    verdict = on[0].answer(Ask(Step.REAP, [KEY], [stamp(1, 2)]))
    assert verdict.deletes == [KEY]
    del on[1][KEY]
    assert accept(on, stamp(1, 1), b"late") == {0: (Why.FLOOR, NO_BALLOT)}
    assert not accept(on, stamp(1, 3), b"new")


def test_a_value_or_another_tombstone_is_not_reaped() -> None:
    on = acceptor()
    accept(on, stamp(1, 2), b"v")
    assert not on[0].answer(Ask(Step.REAP, [KEY], [stamp(1, 2)])).deletes
    accept(on, stamp(1, 3), b"", tombstone=True)
    assert not on[0].answer(Ask(Step.REAP, [KEY], [stamp(1, 2)])).deletes


def test_what_was_lost_is_no_vote_until_a_later_ballot_has_written_it() -> None:
    lost = True

    def lookup(store_key: bytes) -> bytes | None:
        if lost:
            raise Lost(store_key.hex())
        return None

    one = Acceptor(lookup)
    one.answer(Ask(Step.READ, [GROUP + b"other"], [stamp(3, 0)[:24]]))
    made = payload.encode(V1, b"v")
    assert one.answer(Ask(Step.READ, [KEY], [stamp(3, 0)[:24]])).reply.refused[0][0] is Why.LOST
    assert one.answer(Ask(Step.ACCEPT, [KEY], [stamp(3, 9)], [0], [made])).reply.refused[0][0] is Why.LOST
    assert not one.answer(Ask(Step.ACCEPT, [KEY], [stamp(4, 1)], [0], [made])).reply.refused


def test_the_watermark_is_below_the_first_sequence_that_is_outstanding() -> None:
    group = Group(GROUP, ("n1",))
    group.sequence = 9
    assert group.mark() == 9
    group.outstanding = {4: None, 7: None}
    assert group.mark() == 3
