"""A node that is far slower than the others, as a client judges it: by answers and by what is out without one."""

from __future__ import annotations

from collections.abc import Callable

from kvclient.slow_nodes import LOOK_S, SlowNodes


class Link:
    """A link whose node answers within `latency_s`."""

    def __init__(self, node_id: str, latency_s: float) -> None:
        self.node_id = node_id
        self.latency_s = latency_s
        self.slow = False
        self.near = True
        self.owing = 0.0
        self.asked = 0

    def owing_s(self, now_s: float) -> float:
        return self.owing

    def measure(self, took: Callable[[float], None]) -> None:
        self.asked += 1
        took(self.latency_s)


def serve(nodes: SlowNodes, links: list[Link], seconds: float, began_s: float = 0.0) -> float:
    """Batches to every link that is not slow, every 20 ms; returns when it ends."""
    now_s = began_s
    while now_s < began_s + seconds:
        now_s += 0.02
        for link in links:
            if not link.slow and not link.owing:
                nodes.answered(link.node_id, link.latency_s, now_s)
        nodes.look(links, now_s)
    return now_s


def test_a_node_far_behind_the_others_is_slow_and_quick_again_when_it_is() -> None:
    nodes, links = SlowNodes(), [Link("n1", 0.002), Link("n2", 0.002), Link("n3", 0.2)]
    now_s = serve(nodes, links, 2.0)
    assert [link.slow for link in links] == [False, False, True]
    assert 3 <= links[2].asked <= 2.0 / LOOK_S, "it is asked now and then, or nobody would see that it is well"
    links[2].latency_s = 0.002
    serve(nodes, links, 4.0, now_s)
    assert [link.slow for link in links] == [False, False, False]


def test_a_node_much_further_away_than_another_is_not_near_until_it_is() -> None:
    nodes, links = SlowNodes(), [Link("n1", 0.001), Link("n2", 0.0015), Link("n3", 0.02)]
    now_s = serve(nodes, links, 1.0)
    assert [link.near for link in links] == [True, True, False]
    links[1].latency_s = 0.5  # one answer that took long is no way that is long
    now_s = serve(nodes, links, 0.02, now_s)
    assert links[1].near
    links[1].latency_s, links[2].latency_s = 0.0015, 0.001
    serve(nodes, links, 4.0, now_s)
    assert [link.near for link in links] == [True, True, True]


def test_a_node_that_answers_nothing_is_slow_as_well() -> None:
    nodes, links = SlowNodes(), [Link("n1", 0.002), Link("n2", 0.002), Link("n3", 0.002)]
    now_s = serve(nodes, links, 1.0)
    links[2].owing = 0.4
    serve(nodes, links, 1.5, now_s)
    assert [link.slow for link in links] == [False, False, True]


def test_when_all_are_slow_nobody_is() -> None:
    nodes, links = SlowNodes(), [Link("n1", 0.3), Link("n2", 0.2), Link("n3", 0.2)]
    serve(nodes, links, 3.0)
    assert not any(link.slow for link in links)


def test_of_two_nodes_nobody_is_slow_and_one_that_left_the_ring_is_forgotten() -> None:
    nodes, links = SlowNodes(), [Link("n1", 0.002), Link("n2", 0.4)]
    now_s = serve(nodes, links, 2.0)
    assert not any(link.slow for link in links)
    serve(nodes, links[:1], 1.0, now_s)
    assert nodes._judge.peers == ["n1"]
