"""What an acceptor that has lost its disk takes over from the others, and what they promise it (core/register/readmission.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kvstore.core.register import held as registers
from kvstore.core.register.acceptor import Acceptor
from kvstore.core.register.ballot import NO_STAMP, make_ballot, round_of
from kvstore.core.register.copying import Page, decode_page, encode_page, read_page
from kvstore.core.register.messages import Ask, Reply, Step, Why, part_of, widen
from kvstore.core.register.payload import encode
from kvstore.core.register.readmission import Copied, Readmission

GROUP = b"\x00\x01\x00\x00\x00\x02"
A, B, C = GROUP + b"a", GROUP + b"b", GROUP + b"c"
OWNERS = ("n1", "n2", "n3")
V, W = encode(b"v" * 20, b"v"), encode(b"w" * 20, b"w")
EMPTY = Page(NO_STAMP, False, [], [])


def stamp(round_: int, sequence: int = 1, tag: int = 9) -> bytes:
    return make_ballot(round_, tag, 9) + sequence.to_bytes(8, "big")


def page(states: dict[bytes, bytes], more: bool = False, floor: bytes = NO_STAMP) -> Page:
    return Page(floor, more, list(states), list(states.values()))


def readmission(owners: tuple[str, ...] = OWNERS, above: int = 10) -> Readmission:
    return Readmission(GROUP, owners, "n2", tag=2, incarnation=22, round_above=above)


def taken(again: Readmission, *pages: Page, own: Page = EMPTY) -> Copied:
    copied = again.take(dict(zip(again.others, pages, strict=True)), own)
    assert copied is not None
    return copied


@given(some.dictionaries(some.binary(max_size=9), some.binary(min_size=33, max_size=50), max_size=9), some.binary(max_size=4))
def test_a_page_is_what_was_encoded(states: dict[bytes, bytes], cursor: bytes) -> None:
    behind = {GROUP + b"k" + cursor + b"\x00" + key: state for key, state in sorted(states.items())}
    told = page(behind, more=bool(states))
    assert decode_page(encode_page(told), GROUP + b"k" + cursor) == told


@pytest.mark.parametrize(
    "wrong",
    [Page(NO_STAMP, True, [], []), page({A: b""}), Page(NO_STAMP, False, [B, A], [stamp(1) + V] * 2), page({GROUP: stamp(1) + V})],
)
def test_a_page_that_does_not_add_up_is_refused(wrong: Page) -> None:
    with pytest.raises(ValueError):
        decode_page(encode_page(wrong), GROUP)
    with pytest.raises(ValueError):
        decode_page(encode_page(page({A: stamp(1) + V}))[:-1], GROUP)


def test_a_page_ends_where_its_bytes_do_and_says_what_is_damaged() -> None:
    held = registers.encode(stamp(1), V)
    pairs = [(A, held), (B, held[:-1] + b"?"), (C, held)]
    first = read_page(pairs, GROUP, NO_STAMP, 1)
    assert (first.keys, first.more, first.lost) == ([A], True, None)
    rest = read_page(pairs, A, NO_STAMP, 1 << 20)
    assert (rest.keys, rest.more, rest.lost) == ([B, C], False, B)


def test_what_a_majority_of_others_holds_is_taken_over_as_it_is() -> None:
    copied = taken(readmission(), page({A: stamp(3) + V}), page({A: stamp(3) + V}))
    assert copied.writes == [(A, registers.encode(stamp(3), V, stamp(3)))]
    assert copied.is_last and not copied.proposed


@pytest.mark.parametrize("other", [{}, {A: stamp(2) + W}, {A: stamp(3, 0) + V}])
def test_what_may_have_been_chosen_with_our_vote_is_accepted_under_our_own_ballot(other: dict[bytes, bytes]) -> None:
    again = readmission()
    copied = taken(again, page({A: stamp(3) + V}), page(other))
    ((key, new, payload),) = copied.proposed
    assert (key, new[:24], payload) == (A, again.ballot, V)
    assert copied.writes == [(A, registers.encode(new, V))]
    assert copied.promised == again.ballot


def test_two_of_five_are_no_majority_without_us() -> None:
    again = readmission(("n1", "n2", "n3", "n4", "n5"))
    copied = taken(again, page({A: stamp(3) + V}), page({A: stamp(3) + V}), EMPTY, EMPTY)
    assert [key for key, _, _ in copied.proposed] == [A]


def test_nothing_is_taken_over_from_fewer_than_all_others() -> None:
    assert readmission().take({"n1": page({A: stamp(3) + V})}, EMPTY) is None
    alone = Readmission(GROUP, ("n2",), "n2", tag=2, incarnation=22)
    assert alone.take({}, EMPTY) is None, "nobody knows what it held"


def test_what_lay_here_is_replaced_also_by_nothing_as_far_as_all_pages_go() -> None:
    again = readmission()
    own = page({A: stamp(8) + W, C: stamp(8) + W})
    copied = taken(again, page({B: stamp(3) + V}, more=True), page({}), own=own)
    assert copied.deletes == [A] and not copied.is_last
    assert again.cursor == B
    assert taken(again, EMPTY, EMPTY, own=page({C: stamp(8) + W})).deletes == [C]


def test_the_floor_is_the_highest() -> None:
    again = readmission()
    assert taken(again, page({}, floor=stamp(4)), page({}, floor=stamp(6))).floor == stamp(6)


def test_what_was_accepted_above_the_ballot_makes_the_page_be_asked_for_again() -> None:
    again = readmission(above=10)
    assert again.take({"n1": page({A: stamp(12) + V}), "n3": EMPTY}, EMPTY) is None
    assert round_of(again.ballot) == 13


def test_nothing_below_the_ballot_is_accepted_after_it_was_copied_under() -> None:
    """1. The lost node had accepted a value and said so. 2. We are copied. 3. The same accept comes here only now: it must fail."""
    acceptor = Acceptor(lambda key: None)
    assert not acceptor.answer(Ask(Step.COPY, [GROUP], [make_ballot(5, 2, 2)])).reply.refused
    late = acceptor.answer(Ask(Step.ACCEPT, [A], [stamp(4)], [0], [V]))
    assert late.reply.refused[0][0] is Why.PROMISED and not late.writes


def test_a_ballot_that_only_the_lost_node_may_have_promised_is_named_by_whose_it_is() -> None:
    """1. Our proposer took a ballot, and only the lost node promised it. 2. A copy under a lower one would leave it undecided."""
    took = make_ballot(9, 1, 1)
    acceptor = Acceptor(lambda key: None, taken=lambda group: took)
    verdict = acceptor.answer(Ask(Step.COPY, [GROUP], [make_ballot(9, 2, 2)]))
    assert verdict.reply.refused == {0: (Why.PROMISED, took)} and not verdict.groups
    assert not acceptor.answer(Ask(Step.COPY, [GROUP], [make_ballot(10, 2, 2)])).reply.refused


@given(some.lists(some.booleans(), min_size=1, max_size=9).filter(any))
def test_what_is_asked_in_part_is_answered_in_its_places(asked: list[bool]) -> None:
    at = [position for position, one in enumerate(asked) if one]
    ask = Ask(Step.READ, [GROUP + b"%d" % position for position in range(len(asked))], [make_ballot(1, 1, 1)] * len(asked))
    part = part_of(ask, at)
    reply = widen(Reply(Step.READ, len(at), {0: (Why.LOST, b"")}, list(part.keys)), ask, at)
    assert [position for position, (why, _) in reply.refused.items() if why is Why.ABSTAINS] == [
        position for position, one in enumerate(asked) if not one
    ]
    assert reply.refused[at[0]] == (Why.LOST, b"")
    assert [reply.states[position] for position in at] == part.keys


# --- when others have lost theirs as well


def alone(without: set[str], owners: tuple[str, ...] = OWNERS) -> Readmission:
    again = readmission(owners)
    again.without = frozenset(without)
    return again


def test_who_has_lost_everything_as_well_is_waited_for_until_that_is_given_up() -> None:
    told = {"n1": page({A: stamp(3) + V})}
    assert readmission().take(told, EMPTY) is None
    copied = alone({"n3"}).take(told, EMPTY)
    assert copied is not None and copied.is_last
    ((key, _, payload),) = copied.proposed
    assert (key, payload) == (A, V), "what one owner is left with may not have been chosen: it is proposed again"
    assert alone({"n1"}).take(told, EMPTY) is None, "n3 has lost nothing"


def test_what_somebody_tells_counts_though_his_loss_was_given_up() -> None:
    copied = alone({"n3"}).take({"n1": page({}), "n3": page({A: stamp(4) + W})}, EMPTY)
    assert copied is not None and [key for key, _, _ in copied.proposed] == [A]


def test_a_damaged_register_of_somebody_whose_loss_was_given_up_holds_nothing_up() -> None:
    damaged = Page(NO_STAMP, False, [A], [b""])
    told = {"n1": page({A: stamp(3) + V}), "n3": damaged}
    assert readmission().take(told, EMPTY) is None
    assert alone({"n3"}).take(told, EMPTY) is not None
    assert alone({"n3"}).take({"n1": damaged, "n3": page({})}, EMPTY) is None, "that of another one does"


@pytest.mark.parametrize(
    ("owners", "without", "is_enough"),
    [
        (OWNERS, {"n1", "n3"}, False),
        (OWNERS, {"n1", "n2", "n3"}, True),
        (("n2",), set(), False),
        (("n2",), {"n2"}, True),
        (("n1", "n2"), {"n1"}, False),
    ],
)
def test_where_nothing_is_left_all_owners_have_to_be_given_up(owners: tuple[str, ...], without: set[str], is_enough: bool) -> None:
    """We too: whoever names the others may not know that this one is lost as well."""
    copied = alone(without, owners).take({}, page({A: stamp(3) + V}))
    assert (copied is not None) is is_enough
    if copied is not None:
        assert (copied.writes, copied.deletes, copied.is_last) == ([], [A], True)
        assert round_of(copied.promised) > 10
