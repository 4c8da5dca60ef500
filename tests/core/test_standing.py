"""Which trees and leaves are worth a listing while writes go on."""

from __future__ import annotations

from kvstore.core.merkle.exchange import UNKNOWN, summarise
from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.standing import Differing, Row, at_both, begin_look, is_known, pair_roots, sort_roots

PREFIX = b"\x00\x07\x00\x00\x00\x01"
OTHER = b"\x00\x08\x00\x00\x00\x01"


def row(mine: bytes, theirs: bytes) -> Row:
    return b"\x04" + mine * 8, b"\x04" + theirs * 8


def test_only_trees_that_both_sides_change_are_moving() -> None:
    first = {name: row(b"a", b"b") for name in (b"equal", b"mine stands", b"theirs stand", b"both move", b"unknown")}
    again = {
        b"equal": row(b"c", b"c"),
        b"mine stands": row(b"a", b"c"),
        b"theirs stand": row(b"c", b"b"),
        b"both move": row(b"c", b"d"),
        b"unknown": (bytes((UNKNOWN,)) + bytes(8), b"\x04" + b"b" * 8),
    }
    assert sort_roots(first, again) == ({b"equal"}, {b"both move"})


def test_a_tree_that_is_unknown_on_one_side_is_not_compared() -> None:
    mine, theirs = Forest(), Forest()
    theirs.mark_unknown([PREFIX])
    rows = pair_roots(mine, [PREFIX, OTHER], summarise(theirs, [PREFIX, OTHER]))
    assert [is_known(rows[prefix]) for prefix in (PREFIX, OTHER)] == [False, True]
    assert begin_look(theirs, PREFIX, 4) is None


def test_leaves_of_two_looks_meet_at_the_lesser_depth() -> None:
    deep, folded = Differing(4, (3, 9, 15)), Differing(2, (1, 2))
    assert at_both(deep, folded) == at_both(folded, deep) == Differing(2, [1])


def test_a_second_look_asks_for_the_parents_of_the_leaves_in_question_only() -> None:
    forest = Forest()
    keys = [PREFIX + b"%d" % number for number in range(5000)]
    forest.apply(keys, [None] * len(keys), keys)
    forest.begin_rebuild(PREFIX)
    forest.add_scanned(PREFIX, keys, keys)
    forest.end_rebuild(PREFIX)
    exchange = begin_look(forest, PREFIX, Differing(9, (0, 32, 257)))
    ask = exchange.ask() if exchange is not None else None
    assert ask is not None
    assert (ask.depth, ask.nodes, ask.levels) == (5, (0, 1), 4)
