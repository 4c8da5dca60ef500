"""Laws of record.py: the bytes and their fast paths say what versions.py means, and damage never passes for a record."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvstore.core.hlc import physical_ms
from kvstore.core.record import (
    NO_DIGEST,
    DamagedRecord,
    decode,
    decode_context,
    digest,
    encode,
    encode_context,
    floor_ms,
    read_siblings,
    read_single,
    seal,
    sole_context,
    verify,
    written_ms,
)
from kvstore.core.record_writes import (
    covers_token,
    first_record,
    is_blind,
    known_request,
    merge_records,
    merge_successors,
    mint,
    overwrite,
    replaces,
    supersedes,
    unseen,
)
from kvstore.core.versions import HORIZON, NO_REQUEST, NOTHING, OVERWRITE, Context, Sibling, distinct, make_dot, merge
from tests.laws.strategies import Limits, Universe, random_universe, related_records, universes

A, B, C = (bytes((0, 0, 0, at)) + bytes(7) + b"\x01" for at in range(3))
NO_CUTOFF = bytes(6)
Related = tuple[Universe, list[bytes]]


def request(issued: int, tag: int = 1) -> bytes:
    return issued.to_bytes(6, "big") + tag.to_bytes(10, "big")


def chain(*ids: bytes, first_counter: int = 1, retries_max: int = 64) -> bytes:
    """Overwrites at one replica, one after the other, by the bytes or in general as they come."""
    record: bytes | None = None
    for counter, request_id in enumerate(ids, start=first_counter):
        write = Sibling(make_dot(A, counter), request_id, value=b"v")
        record = mint(record, write, OVERWRITE, cutoff_ms=0, retries_max=retries_max).record
    assert record is not None
    return record


def overwritten(
    base: bytes, request_id: bytes, *, cutoff_ms: int = 0, retries_max: int = 64, value: bytes | None = b"new"
) -> bytes | None:
    """What the fast path makes of it, which is nothing or what the general path makes of it."""
    dot = make_dot(A, 2**63)
    quick = overwrite(base, dot, request_id, 1, 2, value, cutoff_ms.to_bytes(6, "big"), retries_max)
    write = Sibling(dot, request_id, 1, 2, value is None, value or b"")
    if quick is not None:
        assert quick == mint(base, write, OVERWRITE, cutoff_ms=cutoff_ms, retries_max=retries_max).record
        decode(quick).check()
    return quick


# --- the encoding -----------------------------------------------------------------------------------------------------------------


@given(universes)
def test_every_record_survives_encoding_and_has_one_encoding(universe: Universe) -> None:
    event(f"{min(len(universe.records) // 5 * 5, 25)} records or more")
    for record in universe.records:
        assert verify(record)
        assert encode(decode(record)) == record
        assert digest(record) == digest(encode(decode(record))) != NO_DIGEST


@given(related_records(2))
def test_merging_bytes_is_merging_records(related: Related) -> None:
    held, new = related[1]
    merged = merge_records(held, new)
    assert merged == encode(merge(decode(held), decode(new)))
    assert merged is held if merged == held else merged != held
    if replaces(new, held):
        event("new replaces held")
        assert merged == new != held
    elif replaces(held, new):
        event("held replaces new")
        assert merged is held
    elif supersedes(new, held):
        event("new supersedes held")
        assert merged == new != held
    elif supersedes(held, new):
        event("held supersedes new")
        assert merged is held
    else:
        event("equal" if held == new else "in general")


@given(related_records(2))
def test_what_the_quick_merge_of_a_batch_answers_is_the_merge(related: Related) -> None:
    held, new = related[1]
    merged = merge_successors([held, None], [new, new])
    event("left to the general merge" if merged is None else "merged")
    if merged is not None:
        assert merged == [encode(merge(decode(held), decode(new))), new]


def test_the_quick_merge_is_taken_for_what_was_minted_on_the_record_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other pair goes to the general merge of two records, which is out of reach here."""
    monkeypatch.delattr("kvstore.core.record_writes.merge_records")
    ids = [request(issued) for issued in range(5, 12)]
    for length in range(1, len(ids)):
        held, new = chain(*ids[:length]), chain(*ids[: length + 1])
        assert merge_successors([held], [new]) == [new]
    for held, new in ((chain(*ids[:2]), chain(*ids[:4])), (chain(*ids[:3]), chain(*ids[:2])), (chain(*ids), chain(*ids))):
        with pytest.raises(NameError):
            merge_successors([held], [new])


def test_what_several_coordinators_wrote_in_turn_never_leaves_the_bytes() -> None:
    """After each of a key's owners has coordinated it, all of it goes as fast as with one: minting, its context, and merging."""
    records = [first_record(make_dot(A, 1), request(5), 1, 0, b"first")]
    for counter, actor in enumerate((B, C, A, A, C, B, B, A), start=2):
        base, dot, request_id = records[-1], make_dot(actor, counter), request(5 + counter)
        new = overwrite(base, dot, request_id, 1, 0, b"v%d" % counter, NO_CUTOFF, 64)
        assert new is not None, (counter, base.hex())
        minted = mint(base, Sibling(dot, request_id, 1, value=b"v%d" % counter), OVERWRITE, cutoff_ms=0, retries_max=64)
        assert (new, sole_context(new)) == (minted.record, minted.context)
        assert covers_token(base, sole_context(base)) and not covers_token(base, sole_context(new))
        assert covers_token(new, b"\x02" + sole_context(base)[1:])
        assert supersedes(new, base) or replaces(new, base)
        assert not supersedes(base, new) and not supersedes(new, new)
        assert merge_successors([base], [new]) == [new]
        records.append(new)
    assert decode(records[-1]).vector.keys() == {A, B, C}


def test_bug_the_bytes_counted_a_request_that_two_coordinators_executed_as_two() -> None:
    """Of a key that has had several coordinators the bytes forgot an id that the general path remembers."""
    twice = request(5)
    one, other = (first_record(make_dot(actor, 1), twice, 1, 0, b"v") for actor in (A, B))
    base = mint(merge_records(one, other), Sibling(make_dot(A, 2), request(6)), OVERWRITE, cutoff_ms=0, retries_max=2).record
    assert len(decode(base).retries[twice]) == 2
    dot, latest = make_dot(A, 3), request(7)
    general = mint(base, Sibling(dot, latest), OVERWRITE, cutoff_ms=0, retries_max=2)
    assert decode(general.record).retries.keys() == {twice, request(6)}
    assert overwrite(base, dot, latest, 0, 0, b"", NO_CUTOFF, 2) in (None, general.record)
    assert overwrite(base, dot, latest, 0, 0, b"", NO_CUTOFF, 3) == general.record


@pytest.mark.parametrize("seed", [1959, 7, 8, 9])
def test_bug_of_two_records_that_know_the_same_events_one_may_know_more_ids(seed: int) -> None:
    """Where somebody wrote with a context of events that the coordinator had not seen, a vector says nothing about ids."""
    rng = Random(seed)
    limits = Limits(rng.choice([64, 2, 3, 1]), rng.choice([1_000_000, 3, 10]), rng.choice([0, 0, 250]), rng.choice([0, 2]))
    records = random_universe(rng, limits).records
    for held in records:
        for new in records:
            quick, general = merge_successors([held], [new]), encode(merge(decode(held), decode(new)))
            assert quick in (None, [general])
            assert merge_records(held, new) == general


def test_the_quick_merge_takes_no_record_of_another_format() -> None:
    held, new = chain(request(5)), chain(request(5), request(6))
    for mine in (None, held):
        assert merge_successors([mine], [new]) == [new]
        for other in (b"\x02" + new[1:], b""):
            assert merge_successors([mine], [other]) is None


@given(universes)
def test_a_token_that_a_record_covers_at_a_glance_overwrites_it(universe: Universe) -> None:
    """What the glance sends to the bytes' own path comes out as the general path would have it with that token."""
    # As handed out, and as clients send what they were acknowledged: overwrite, and these writes too.
    tokens = {kind + token[1:] for token in universe.tokens if token for kind in (b"\x01", b"\x02")}
    for record in universe.records:
        dot = record[17:29] + (2**62).to_bytes(8, "big")
        write = Sibling(dot, request(2**47), 1, 2, value=b"new")
        for token in sorted(tokens):
            if not covers_token(record, token):
                continue
            context = decode_context(token)
            assert not unseen(record, context) and not is_blind(record, context)
            quick = overwrite(record, dot, write.request_id, 1, 2, b"new", NO_CUTOFF, 64)
            event("by the bytes" if quick is not None else "in general")
            if quick is not None:
                minted = mint(record, write, context, cutoff_ms=0, retries_max=64)
                assert (minted.record, minted.context, minted.siblings) == (quick, sole_context(quick), 1)


def test_the_fast_paths_are_the_usual_ones_and_the_general_path_is_taken_too() -> None:
    """Each universe holds its fast paths against the general one; here that the schedules reach both, again and again."""
    counts: Counter[str] = Counter()
    for seed in range(120):
        rng = Random(seed)
        counts += random_universe(rng, Limits(rng.choice([64, 2]), rng.choice([1_000_000, 3]))).counts
    assert counts["minted by bytes"] > 500 and counts["minted in general"] > 500, counts
    assert counts["merged by bytes"] > 100 and counts["merged in general"] > 100, counts
    assert counts["known"] > 20 and counts["refused"] > 20, counts


@given(universes)
def test_when_a_record_was_written_is_read_off_its_bytes(universe: Universe) -> None:
    for record in universe.records:
        assert written_ms(record) == max([physical_ms(one.hlc) for one in decode(record).siblings], default=0)


@given(universes, st.data())
def test_a_flipped_bit_is_never_a_record(universe: Universe, data: st.DataObject) -> None:
    record = bytearray(universe.records[-1])
    bit = data.draw(st.integers(0, 8 * len(record) - 1))
    record[bit // 8] ^= 1 << bit % 8
    assert not verify(bytes(record))
    with pytest.raises(DamagedRecord):
        decode(bytes(record))
    with pytest.raises(DamagedRecord):
        read_siblings(bytes(record), 0)


def test_every_single_bit_of_a_record_counts() -> None:
    record = merge_records(chain(request(5), request(6)), first_record(make_dot(B, 1), request(7), 0, 0, None))
    for bit in range(8 * len(record)):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not verify(bytes(damaged)), bit


@given(universes, st.data())
def test_a_record_cut_short_or_drawn_out_is_damaged(universe: Universe, data: st.DataObject) -> None:
    record = universe.records[-1]
    cut = data.draw(st.integers(0, len(record) - 1))
    for damaged in (record[:cut], record + b"\0", seal(record[5:] + b"\0"), seal(record[5 : max(5, cut)])):
        with pytest.raises(DamagedRecord):
            decode(damaged)


@given(st.binary(max_size=300))
def test_garbage_is_damaged_also_under_a_right_checksum(garbage: bytes) -> None:
    with pytest.raises(DamagedRecord):
        decode(garbage)
    try:
        decode(seal(garbage))
    except DamagedRecord:
        event("refused")
    else:
        event("adds up")


# --- contexts ---------------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=80) | st.builds(bytes.__add__, st.sampled_from([b"\x01\x00", b"\x02\x00"]), st.binary(max_size=90)))
def test_garbage_is_a_context_or_a_value_error(token: bytes) -> None:
    try:
        context = decode_context(token)
    except ValueError:
        event("refused")
    else:
        event("a context")
        assert decode_context(encode_context(context)) == context


@given(universes)
def test_every_token_handed_out_means_the_same_after_the_round_trip(universe: Universe) -> None:
    for token in universe.tokens:
        assert encode_context(decode_context(token)) == token
        assert len(decode_context(token).dots) <= 1


def test_an_empty_token_overwrites() -> None:
    assert decode_context(b"") == OVERWRITE == decode_context(encode_context(OVERWRITE))
    assert decode_context(encode_context(NOTHING)) == NOTHING


def test_a_context_that_claims_the_new_write_is_refused_rather_than_losing_it() -> None:
    write = Sibling(make_dot(A, 7), request(9))
    for forged in (Context({A: 7}), Context({A: 2**64 - 1}), Context(dots=frozenset({make_dot(A, 7)}))):
        with pytest.raises(ValueError, match="never made"):
            mint(None, write, forged, cutoff_ms=0, retries_max=64)


def test_unseen_dots_and_blind_vectors_are_told_of_with_and_without_a_base() -> None:
    dot, base = make_dot(B, 3), chain(request(5))
    assert unseen(None, Context(dots=frozenset({dot}))) == unseen(base, Context(dots=frozenset({dot}))) == [dot]
    assert unseen(base, Context({B: 3})) == [] == unseen(base, Context(dots=frozenset({make_dot(A, 1)})))
    assert is_blind(base, Context({B: 3})) and not is_blind(base, Context({A: 1}))


# --- reading ----------------------------------------------------------------------------------------------------------------------


@given(universes, st.integers(0, 6))
def test_reading_one_sibling_agrees_with_reading_all(universe: Universe, later_ms: int) -> None:
    now_ms = universe.now_ms + later_ms
    for record in universe.records:
        single, (live, token) = read_single(record, now_ms), read_siblings(record, now_ms)
        siblings = decode(record).siblings
        assert live == [sibling for sibling in distinct(siblings) if not sibling.tombstone and not 0 < sibling.expires_ms <= now_ms]
        assert decode_context(token) == Context(decode(record).vector)
        if len(siblings) != 1:
            event("several")
            assert single is None
            continue
        assert single is not None and token == sole_context(record)
        event("one live" if live else "one gone")
        if live:
            assert single == (live[0].value, live[0].dot, token, live[0].expires_ms)
        else:
            assert single == (None, siblings[0].dot, token, 0)


def test_a_value_is_there_until_its_millisecond() -> None:
    record = first_record(make_dot(A, 1), request(5), 0, 100, b"v")
    alive, gone = read_single(record, 99), read_single(record, 100)
    assert alive is not None and alive[0] == b"v" and alive[3] == 100
    assert gone is not None and gone[0] is None
    assert read_siblings(record, 99)[0] and not read_siblings(record, 100)[0]


# --- minting by the bytes ---------------------------------------------------------------------------------------------------------


def test_a_value_that_contains_the_request_id_is_no_retry() -> None:
    first, second = request(5), request(6)
    base = first_record(make_dot(A, 1), first, 0, 0, second)
    assert known_request(base, second) is None
    new = overwritten(base, second, value=second + first)
    assert new is not None and known_request(new, first) is not None


def test_ids_out_of_order_are_kept_in_order_by_the_general_path() -> None:
    base = chain(request(7), request(5))
    assert list(decode(chain(request(7), request(5), request(9))).retries) == [request(5), request(7)]
    assert overwritten(base, request(9)) is None
    assert replaces(chain(request(7), request(5), request(9)), base) is False
    assert merge_records(base, chain(request(7), request(5), request(9))) == chain(request(7), request(5), request(9))


def test_a_write_without_an_id_leaves_nothing_to_remember() -> None:
    assert overwritten(chain(NO_REQUEST), request(5)) is None
    assert decode(chain(NO_REQUEST, request(5))).retries == {}
    assert replaces(chain(NO_REQUEST, request(5)), chain(NO_REQUEST))
    assert known_request(chain(NO_REQUEST), NO_REQUEST) is None
    assert overwritten(chain(request(5)), NO_REQUEST) is None, "it cannot be told from a forgotten one"


def test_ids_of_the_floors_millisecond_go_together() -> None:
    base = chain(request(5, 1), request(5, 2), request(5, 3), request(6))
    new = overwritten(base, request(7), retries_max=3)
    assert new is not None and floor_ms(new) == 5 and list(decode(new).retries) == [request(6)]
    assert replaces(new, base), "the floor covers what went"
    none_left = overwritten(base, request(7), retries_max=0)
    assert none_left is not None and floor_ms(none_left) == 6 and not decode(none_left).retries


@pytest.mark.parametrize("cutoff_ms", [0, 4, 5, 6, 7, 8, 100])
@pytest.mark.parametrize("retries_max", [0, 1, 2, 3, 64])
def test_the_window_and_the_cap_forget_alike_on_both_paths(cutoff_ms: int, retries_max: int) -> None:
    base = chain(request(5), request(6), request(6, 2), request(7))
    new = overwritten(base, request(9), cutoff_ms=cutoff_ms, retries_max=retries_max)
    assert new is not None and merge_records(base, new) == new


def test_an_id_at_or_below_the_floor_is_never_executed_by_the_bytes() -> None:
    """The fast path comes before the coordinator's look at the floor: a retry of a forgotten write went straight through it."""
    base = chain(request(5), request(6), request(7), retries_max=1)
    assert floor_ms(base) == 5
    assert overwritten(base, request(5)) is None and overwritten(base, request(4)) is None
    assert overwritten(base, request(8)) is not None


def test_a_superseded_id_at_the_floor_is_left_to_the_general_path() -> None:
    base = chain(request(5), request(6), request(7), request(4), retries_max=1)
    assert floor_ms(base) == 6 and overwritten(base, request(8)) is None


def test_a_dot_that_is_not_new_is_left_to_the_general_path_which_refuses_it() -> None:
    base = chain(request(5), first_counter=9)
    assert overwrite(base, make_dot(A, 9), request(6), 0, 0, b"", NO_CUTOFF, 64) is None
    assert overwrite(base, make_dot(A, 8), request(6), 0, 0, b"", NO_CUTOFF, 64) is None
    both = overwrite(base, make_dot(B, 10), request(6), 0, 0, b"", NO_CUTOFF, 64)
    assert both is not None
    assert overwrite(both, make_dot(A, 9), request(7), 0, 0, b"", NO_CUTOFF, 64) is None
    assert overwrite(both, make_dot(B, 10), request(7), 0, 0, b"", NO_CUTOFF, 64) is None
    with pytest.raises(AssertionError):
        mint(base, Sibling(make_dot(A, 8), request(6)), OVERWRITE, cutoff_ms=0, retries_max=64)


def test_a_key_that_was_reaped_and_written_anew_takes_nothing_from_those_who_still_remember() -> None:
    """Its record starts without ids and floor: newer by its dot, but not what a merge with an older copy has to give."""
    anew = first_record(make_dot(A, 99), request(9), 0, 0, b"v")
    for held in (chain(request(5)), chain(request(5), request(6)), chain(request(5), NO_REQUEST, NO_REQUEST, retries_max=0)):
        assert not replaces(anew, held)
        assert merge_records(held, anew) == merge_records(anew, held) == encode(merge(decode(held), decode(anew)))
    assert replaces(anew, chain(NO_REQUEST)), "there was nothing to remember"


@pytest.mark.parametrize("counter", [1, 255, 2**32 - 1, 2**32, 2**63 - 1])
def test_counters_compare_as_numbers_at_any_size(counter: int) -> None:
    base = chain(request(5), first_counter=counter)
    new = overwritten(base, request(6))
    assert new is not None and decode(new).vector == {A: 2**63}
    assert replaces(new, base) and not replaces(base, new)


def test_tombstones_and_expiring_values_are_overwritten_like_any_other() -> None:
    for base in (first_record(make_dot(A, 1), request(5), 0, 0, None), first_record(make_dot(A, 1), request(5), 0, 1, b"old")):
        for value in (None, b"", b"new"):
            new = overwritten(base, request(6), value=value)
            assert new is not None and merge_records(base, new) is new and merge_records(new, base) is new


def test_a_known_id_is_answered_from_where_it_is_remembered() -> None:
    record = chain(request(5), request(6))
    live, superseded = known_request(record, request(6)), known_request(record, request(5))
    assert live is not None and superseded is not None
    assert (live.record, live.dot, live.siblings, live.fresh) == (record, make_dot(A, 2), 1, False)
    assert decode_context(live.context) == Context({A: 2})
    assert superseded.dot == make_dot(A, 1)
    assert decode_context(superseded.context) == Context(dots=frozenset({make_dot(A, 1)}))
    assert overwritten(record, request(5)) is None and overwritten(record, request(6)) is None
    assert known_request(None, request(5)) is None and known_request(record, request(4)) is None


def test_the_horizon_counts_as_floor() -> None:
    blind = mint(None, Sibling(make_dot(B, 1), request(60)), Context({A: 1}), cutoff_ms=0, retries_max=64).record
    assert decode(blind).vector[HORIZON] == 60 and decode(blind).floor_ms == 0
    assert floor_ms(blind) == 60
    assert floor_ms(encode(merge(decode(chain(request(70), request(80), retries_max=0)), decode(blind)))) == 70


def test_a_write_executed_twice_is_one_sibling_to_every_reader() -> None:
    one, two = (first_record(make_dot(actor, 1), request(5), 0, 0, b"v") for actor in (A, B))
    both = merge_records(one, two)
    live, token = read_siblings(both, 0)
    assert [sibling.dot for sibling in live] == [make_dot(A, 1)]
    again = known_request(both, request(5))
    assert again is not None and again.siblings == 1 and again.context == token
