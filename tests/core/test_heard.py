"""Whom a node that may have lost records has to hear, where others may have lost theirs as well (safety rule 5)."""

from __future__ import annotations

import itertools
import random

from kvstore.core.heard import Heard

P, Q = b"p", b"q"


def test_enough_that_have_lost_nothing_are_enough() -> None:
    heard = Heard()
    assert not heard.is_enough(P, ["a", "b", "c", "d"], 2)
    heard.take("a", [P])
    heard.take("a", [P])
    assert not heard.is_enough(P, ["a", "b", "c", "d"], 2), "one, twice"
    heard.take("x", [P])
    assert not heard.is_enough(P, ["a", "b", "c", "d"], 2), "no owner"
    heard.take("b", [P])
    assert heard.is_enough(P, ["a", "b", "c", "d"], 2)
    assert not heard.is_enough(Q, ["a", "b", "c", "d"], 2), "of another prefix they have told nothing"
    heard.clear()
    assert not heard.is_enough(P, ["a", "b", "c", "d"], 2)


def test_whoever_has_nobody_to_ask_waits_for_nobody() -> None:
    assert Heard().is_enough(P, [], 0)
    assert Heard().is_enough(P, [], 1)


def test_who_may_have_lost_records_does_not_count_while_others_are_left_to_be_heard() -> None:
    heard = Heard()
    heard.take("a", [P])
    heard.take("b", [P, Q], [P])
    assert not heard.is_enough(P, ["a", "b", "c"], 2), "c may hold what a has missed and b has lost"
    heard.take("c", [P])
    assert heard.is_enough(P, ["a", "b", "c"], 2)
    assert heard.is_enough(Q, ["b"], 1), "of what is under q it has lost nothing"


def test_when_all_were_heard_there_is_nobody_left_to_wait_for() -> None:
    heard = Heard()
    heard.take("a", [P], [P])
    assert heard.is_enough(P, ["a"], 1)
    heard.take("b", [P])
    assert heard.is_enough(P, ["a", "b"], 2)


def test_of_two_that_rebuild_both_must_still_do_so_after_both_were_heard() -> None:
    """Else one may be whole meanwhile, by what the other had before it lost its disk."""
    heard = Heard()
    heard.take("a", [P], [P])
    heard.take("b", [P], [P])
    assert not heard.is_enough(P, ["a", "b"], 2), "a may be whole by now, by what b had before"
    heard.take("b", [P], [P])
    assert not heard.is_enough(P, ["a", "b"], 2)
    heard.take("a", [P], [P])
    assert heard.is_enough(P, ["a", "b"], 2)


def test_who_is_whole_again_and_was_heard_since_counts_as_whole() -> None:
    heard = Heard()
    heard.take("a", [P], [P])
    heard.take("b", [P], [P])
    heard.take("a", [P])
    assert heard.is_enough(P, ["a", "b"], 2)
    heard.take("a", [P], [P])  # what it told before it lost its disk is here
    assert heard.is_enough(P, ["a", "b"], 2)


def test_who_is_whole_again_has_what_it_had_acknowledged_while_fewer_disks_than_copies_are_lost_at_once() -> None:
    """A value is acknowledged by w of n. Nodes lose their disks, never w at once, some of them again and again; they hear each
    other in any order, both ways or, where what is sent is lost, one way."""
    rng = random.Random(1)
    rebuilt = 0
    for _, (n, w) in itertools.product(range(2000), [(3, 2), (3, 3), (4, 2), (5, 3), (5, 4), (5, 5)]):
        names = [f"n{number}" for number in range(n)]
        acknowledged = rng.sample(names, w)
        has, lost = set(acknowledged), dict[str, Heard]()
        for _ in range(60):
            node, other = rng.sample(names, 2)
            if rng.random() < 0.15 and len(lost.keys() | {node}) < w:
                has.discard(node)
                lost[node] = Heard()
            elif node in lost:
                if has & {node, other}:
                    has |= {node, other} if rng.random() < 0.3 else {node} if other in has else set()
                lost[node].take(other, [P], [P] if other in lost else [])
                if lost[node].is_enough(P, [one for one in names if one != node], min(n - 1, max(1, n - w + 1))):
                    del lost[node]
                    rebuilt += 1
                    assert node in has or node not in acknowledged, (n, w)
    assert rebuilt > 10_000
