"""How far owners of a group are, by their digests: what is proven, and what is not (docs/adr/0021)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.register import held, payload
from kvstore.core.register.ballot import make_ballot
from kvstore.core.register.held import digest_of
from kvstore.core.register.listing import Listing, decode_listing, differing, encode_listing
from kvstore.core.register.progress import HISTORY_MAX, LOST, NEVER, Progress
from kvstore.core.register.tracker import (
    NOTHING,
    Horizon,
    Tracker,
    decode_horizon,
    decode_since,
    encode_horizon,
    encode_since,
)

GROUP = b"\x00\x01\x00\x00\x00\x02"
A, B, C = GROUP + b"a", GROUP + b"b", GROUP + b"c"
OWNERS = ("n1", "n2", "n3")


def register(sequence: int, value: bytes = b"v") -> bytes:
    return held.encode(make_ballot(1, 1, 7) + sequence.to_bytes(8, "big"), payload.encode(bytes(20), value))


class Owner:
    """A tracker of one group and what it holds; time is what a test says."""

    def __init__(self, name: str, owners: tuple[str, ...] = OWNERS) -> None:
        self.name = name
        self.tracker = Tracker(name, int.from_bytes(name.encode(), "big"))
        self.tracker.track({GROUP: owners})
        self.held: dict[bytes, bytes] = {}
        marks = self.tracker.scanned(GROUP, self.progress.scans, [], None)
        assert marks
        self.tracker.became_durable(marks)

    @property
    def progress(self) -> Progress:
        return self.tracker.groups[GROUP]

    def accept(self, key: bytes, sequence: int, now_s: float = 0.0, *, durable: bool = True) -> None:
        new = register(sequence)
        marks = self.tracker.decide([(key, new)], [], {key: self.held.get(key)}, now_s)
        self.held[key] = new
        if durable:
            self.tracker.became_durable(marks)

    def accept_all(self, keys: list[bytes], sequence: int) -> None:
        """One message."""
        new = [(key, register(sequence)) for key in keys]
        self.tracker.became_durable(self.tracker.decide(new, [], {key: self.held.get(key) for key in keys}, 0.0))
        self.held.update(new)

    def ask(self, other: Owner, asked_s: float) -> None:
        since = self.tracker.since(other.name)
        told = decode_horizon(encode_horizon(other.tracker.tell(decode_since(encode_since(since)))))
        self.tracker.hear(other.name, asked_s, since, told)

    def fresh_s(self) -> float | None:
        proof = self.tracker.proof(GROUP)
        return None if proof is None else proof[0]


def three() -> tuple[Owner, Owner, Owner]:
    return Owner("n1"), Owner("n2"), Owner("n3")


def test_equal_contents_prove_freshness_as_of_the_question_and_what_is_chosen() -> None:
    one, two, _ = three()
    one.accept(A, 1)
    two.accept(A, 1)
    assert one.fresh_s() is None and not one.progress.is_chosen(A)
    one.ask(two, 5.0)
    assert one.fresh_s() == 5.0 and one.progress.is_chosen(A)
    one.ask(two, 6.0)
    assert one.fresh_s() == 6.0, "nothing has changed, and that was told"


def test_who_is_ahead_proves_nothing_until_we_are_where_it_was() -> None:
    one, two, _ = three()
    two.accept(A, 1)
    one.ask(two, 5.0)
    assert one.fresh_s() is None
    one.accept(A, 1, durable=False)
    assert one.fresh_s() is None, "what is not durable may be gone again"
    one.progress.became_durable(one.progress.decided, one.progress.digest)
    assert one.fresh_s() == 5.0


def test_who_is_behind_proves_that_we_are_fresh_and_nothing_of_what_it_lacks() -> None:
    one, two, _ = three()
    for owner in (one, two):
        owner.accept(A, 1)
    one.accept(B, 2)
    one.ask(two, 5.0)
    assert one.fresh_s() == 5.0
    assert one.progress.is_chosen(A) and not one.progress.is_chosen(B)


def test_an_earlier_proof_holds_until_a_later_one_takes_its_place() -> None:
    one, two, _ = three()
    one.ask(two, 5.0)
    two.accept(A, 1)
    one.ask(two, 6.0)
    assert one.fresh_s() == 5.0
    one.accept(A, 1)
    assert one.fresh_s() == 6.0


def test_only_what_is_durable_is_told() -> None:
    one, two, _ = three()
    one.accept(A, 1)
    two.accept(A, 1, durable=False)
    one.ask(two, 5.0)
    assert not one.progress.is_chosen(A)


def test_five_owners_take_two_others_and_what_both_hold() -> None:
    owners = ("n1", "n2", "n3", "n4", "n5")
    one, two, three_ = (Owner(name, owners) for name in owners[:3])
    for owner in (one, two):
        owner.accept(A, 1)
    one.ask(two, 5.0)
    assert one.fresh_s() is None and not one.progress.is_chosen(A)
    one.ask(three_, 4.0)
    assert one.fresh_s() == 4.0 and not one.progress.is_chosen(A)
    three_.accept(A, 1)
    one.ask(three_, 6.0)
    assert one.fresh_s() == 5.0 and one.progress.is_chosen(A)


def test_an_answer_that_comes_late_or_twice_says_nothing() -> None:
    one, two, _ = three()
    one.ask(two, 5.0)
    late = one.tracker.tell(NOTHING)
    one.tracker.hear("n2", 4.0, one.tracker.since("n2"), late)
    assert one.fresh_s() == 5.0
    one.tracker.hear("n2", 7.0, (77, 1), Horizon((77, 2), is_full=False, digests={}))
    assert one.fresh_s() == 5.0


def test_a_node_that_begins_again_is_heard_from_the_start() -> None:
    one, two, _ = three()
    for owner in (one, two):
        owner.accept(A, 1)
    one.ask(two, 5.0)
    again = Owner("n2")
    again.tracker = Tracker("n2", 555)
    again.tracker.track({GROUP: OWNERS})
    one.ask(again, 6.0)
    assert one.progress.told["n2"].digest is None, "it does not know yet what it holds"
    assert one.fresh_s() == 5.0
    marks = again.tracker.scanned(GROUP, again.progress.scans, [(A, digest_of(A, register(1)))], None)
    assert marks
    again.tracker.became_durable(marks)
    one.ask(again, 7.0)
    assert one.fresh_s() == 7.0


def test_what_was_replaced_before_the_question_is_not_shown_again() -> None:
    one, two, _ = three()
    for owner in (one, two):
        owner.accept(A, 1)
    one.accept(A, 2, now_s=4.0)
    one.ask(two, 5.0)
    proof = one.tracker.proof(GROUP)
    assert proof is not None and not one.progress.changed_after(A, proof), "we had accepted it when the other was asked"
    two.accept(A, 2)
    one.ask(two, 6.0)
    one.accept(A, 3, now_s=6.5)
    proof = one.tracker.proof(GROUP)
    assert proof is not None and one.progress.changed_after(A, proof)


def test_a_register_that_was_lost_makes_the_group_unknown_until_it_was_looked_through() -> None:
    one, two, _ = three()
    one.ask(two, 5.0)
    one.tracker.decide([(A, register(2))], [], {A: LOST}, 0.0)
    assert one.fresh_s() is None and one.progress.may_tell is None
    assert one.tracker.unknown(lambda group: True) == [GROUP]
    assert one.tracker.scanned(GROUP, one.progress.scans - 1, [], None) == {}, "a page of an earlier look"


def test_what_is_further_back_than_the_history_is_not_known_to_be_chosen() -> None:
    one, two, _ = three()
    for owner in (one, two):
        owner.accept(A, 1)
    for sequence in range(2, HISTORY_MAX + 10):
        one.accept(B, sequence)
    one.ask(two, 5.0)
    assert one.fresh_s() is None and not one.progress.is_chosen(A)
    one.tracker.check()


def test_messages_of_several_keys_and_of_one_come_to_the_same() -> None:
    one, two, three_ = three()
    for owner in (one, two):
        owner.accept_all([A, B, C], 1)
    three_.accept_all([A, B], 1)
    one.ask(two, 5.0)
    assert one.fresh_s() == 5.0 and all(map(one.progress.is_chosen, (A, B, C)))
    two.ask(three_, 6.0)
    assert two.fresh_s() == 6.0 and not two.progress.is_chosen(C), "it was where the other one is"
    three_.accept_all([C], 1)
    two.ask(three_, 7.0)
    assert two.fresh_s() == 7.0 and two.progress.is_chosen(C)


def test_differences_are_told_after_some_looks_and_not_when_somebody_is_only_a_moment_behind() -> None:
    one, two, three_ = three()
    one.accept(A, 1)
    found: list[str] = []
    for asked_s in (1.0, 2.0, 3.0):
        one.ask(two, asked_s)
        one.ask(three_, asked_s)
        found = one.progress.look(3)
        one.accept(B, int(asked_s) + 1)
        three_.accept(A, 1)
        for sequence in range(2, int(asked_s) + 2):
            three_.accept(B, sequence)
    assert found == ["n2"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40), st.integers(1, 3))
def test_a_scan_in_pages_counts_what_is_decided_meanwhile(steps: list[tuple[int, int]], page: int) -> None:
    keys = [GROUP + bytes((at,)) for at in range(6)]
    now: dict[bytes, bytes] = {key: register(1) for key in keys[::2]}
    progress = Progress(OWNERS[1:])
    sequence = 1
    for at, action in [*steps, *((0, 3),) * 8]:
        key = keys[at]
        if action < 2:
            sequence += 1
            digest = digest_of(key, register(sequence))
            progress.change(key, (digest_of(key, now[key]) if key in now else 0) ^ digest, digest, 0.0)
            now[key] = register(sequence)
        elif action == 2 and key in now:
            progress.change(key, digest_of(key, now.pop(key)), 0, 0.0)
        elif action == 3 and not progress.is_known:
            durable = dict(now)
            rest = [one for one in sorted(durable) if one > progress.scanned_to]
            some = rest[:page]
            progress.scanned([(one, digest_of(one, durable[one])) for one in some], some[-1] if len(rest) > page else None)
    assert progress.is_known
    expected = 0
    for key, value in now.items():
        expected ^= digest_of(key, value)
    assert progress.digest == expected
    progress.check()


@given(st.dictionaries(st.binary(min_size=6, max_size=6), st.none() | st.integers(0, (1 << 128) - 1), max_size=5), st.booleans())
def test_a_horizon_survives_its_bytes(digests: dict[bytes, int | None], is_full: bool) -> None:
    horizon = Horizon((7, 9), is_full, digests)
    assert decode_horizon(encode_horizon(horizon)) == horizon


@given(st.binary(max_size=80))
def test_bytes_that_are_no_horizon_or_listing_are_refused(data: bytes) -> None:
    for decode in (decode_horizon, decode_since, lambda data: decode_listing(data, GROUP)):
        try:
            decode(data)
        except ValueError:
            continue


def test_listings_of_two_owners_are_compared_as_far_as_both_go() -> None:
    one = Listing(True, [A, B], [1, 2])
    other = Listing(False, [A, C], [1, 3])
    assert differing(one, other) == ({B: (2, 0)}, B)
    assert differing(Listing(False, [], []), other) == ({A: (0, 1), C: (0, 3)}, None)
    assert decode_listing(encode_listing(one), GROUP) == one
    with pytest.raises(ValueError, match="order"):
        decode_listing(encode_listing(Listing(False, [B, A], [1, 2])), GROUP)


def test_one_owner_alone_is_always_fresh() -> None:
    only = Owner("n1", ("n1",))
    only.accept(A, 1)
    assert only.fresh_s() == float("inf") and only.progress.is_chosen(A)
    only.accept(A, 2, durable=False)
    assert not only.progress.is_chosen(A) and only.progress.durable > NEVER


# Groups that nobody watches.


def test_a_group_that_is_not_watched_proves_nothing_and_is_told_all_the_same() -> None:
    one, two, _ = three()
    for owner in (one, two):
        owner.tracker.watch(frozenset())
        owner.accept(A, 1)
    one.ask(two, 5.0)
    assert one.fresh_s() is None and not one.tracker.is_chosen(A) and not one.progress.is_durable(A)
    assert one.progress.told["n2"].digest == one.progress.digest and one.progress.look(1) == []
    one.tracker.check()


def test_from_when_it_is_watched_what_others_hold_is_found_among_what_we_held_since() -> None:
    one, two, _ = three()
    one.tracker.watch(frozenset())
    for owner in (one, two):
        owner.accept(A, 1)
    one.ask(two, 5.0)
    marks = one.tracker.watch(frozenset([GROUP]))
    assert one.fresh_s() is None, "what is held may not be durable yet"
    one.tracker.became_durable(marks)
    assert one.fresh_s() == 5.0 and one.tracker.is_chosen(A)
    one.accept(A, 2)
    two.accept(A, 2)
    one.ask(two, 6.0)
    assert one.fresh_s() == 6.0


def test_what_was_not_durable_when_the_group_was_first_watched_is_not_shown() -> None:
    one, two, _ = three()
    one.tracker.watch(frozenset())
    one.accept(A, 1, durable=False)
    two.accept(A, 1)
    one.tracker.watch(frozenset([GROUP]))
    one.ask(two, 5.0)
    assert one.fresh_s() is None and not one.tracker.is_chosen(A) and not one.progress.is_durable(A)


def test_what_was_proven_before_it_rested_is_not_proven_any_more() -> None:
    one, two, three_ = three()
    for owner in (one, two, three_):
        owner.accept(A, 1)
    one.ask(two, 5.0)
    one.ask(three_, 5.0)
    assert one.fresh_s() == 5.0 and one.tracker.is_chosen(A)
    one.tracker.watch(frozenset())
    assert one.fresh_s() is None and not one.tracker.is_chosen(A)
    one.accept(A, 2)  # which the others have not got
    one.tracker.became_durable(one.tracker.watch(frozenset([GROUP])))
    assert one.fresh_s() is None and not one.tracker.is_chosen(A)
    assert set(one.progress.look(1)) == {"n2", "n3"}


def test_a_group_that_is_looked_through_while_it_rests_is_watched_later() -> None:
    one, two, _ = three()
    one.tracker.forget_all()
    one.tracker.watch(frozenset())
    one.tracker.became_durable(one.tracker.scanned(GROUP, one.progress.scans, [], None))
    one.ask(two, 5.0)
    assert one.fresh_s() is None and one.progress.may_tell == two.progress.may_tell
    one.tracker.became_durable(one.tracker.watch(frozenset([GROUP])))
    assert one.fresh_s() == 5.0


def test_what_was_on_its_way_to_the_disk_for_other_owners_says_nothing_of_what_is_durable_for_these() -> None:
    """1. An accept is under way when a group gets other owners. 2. It becomes durable, and the group is looked through anew. What
    became durable is looked at later, so its number must be none of the new ones."""
    one, _, _ = three()
    one.accept(A, 5)
    late = one.tracker.decide([(B, register(6))], [], {B: None}, 0.0)
    one.tracker.track({GROUP: ("n1", "n2", "n4")})
    one.tracker.became_durable(late)
    held_now = [(A, digest_of(A, register(5))), (B, digest_of(B, register(6)))]
    marks = one.tracker.scanned(GROUP, one.progress.scans, held_now, None)
    one.tracker.decide([(A, register(7))], [], {A: register(5)}, 0.0)
    assert one.tracker.tell((0, 0)).digests[GROUP] is None, "nobody has said yet that what was looked through is durable"
    one.tracker.became_durable(marks)
    assert one.tracker.tell((0, 0)).digests[GROUP] == held_now[0][1] ^ held_now[1][1]
    one.tracker.check()


def test_where_there_is_one_owner_nothing_is_proven_while_the_group_rests() -> None:
    one = Owner("n1", ("n1",))
    one.accept(A, 1)
    assert one.fresh_s() == float("inf") and one.tracker.is_chosen(A)
    one.tracker.watch(frozenset())
    assert one.fresh_s() is None and not one.tracker.is_chosen(A)
