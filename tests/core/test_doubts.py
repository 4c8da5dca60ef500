"""What is not known of nodes that were away (safety rule 12)."""

from __future__ import annotations

from kvstore.core.doubts import Doubts

REACHED = {"n2", "n3"}


def doubts() -> Doubts:
    return Doubts(["n2", "n3", "n4"], REACHED.__contains__)


def is_any(one: Doubts) -> bool:
    return one.any


def test_a_node_that_has_told_nothing_is_doubted_once_it_can_be_reached() -> None:
    one = doubts()
    one.told("n2", ())
    assert one.about([7]) == {"n3"}
    one.told("n3", ())
    assert not one.about([7]), "n4 is away: nothing is known of it"
    assert one.any
    one.told("n4", ())
    assert not is_any(one)


def test_what_a_node_owes_is_doubted_and_nothing_else() -> None:
    one = doubts()
    for node in ("n2", "n3", "n4"):
        one.told(node, ())
    one.told("n2", [3, 5])
    assert is_any(one) and one.everywhere() == {"n2"}
    assert one.about([1, 5]) == {"n2"}
    assert not one.about([1, 2])
    one.told("n2", [3])
    assert not one.about([5])
    one.told("n2", ())
    assert not is_any(one)
    assert not one.everywhere()


def test_what_a_node_told_before_its_link_broke_counts_no_more() -> None:
    one = doubts()
    for node in ("n2", "n3", "n4"):
        one.told(node, ())
    one.lost("n3")
    assert one.about([0]) and not one.knows("n3")
    one.told("n3", ())
    assert not one.any
