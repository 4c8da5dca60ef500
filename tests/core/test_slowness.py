"""Who is called slow, how soon, and how soon no more: schedules of batches with latencies, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.slowness import SlowPeers, Tolerance, prefer

PEERS = ("n2", "n3", "n4")
Latency = Callable[[Random, float], float]


class Schedule:
    """Batches to all peers, `per_s` a second; slow ones get only the probes. Decisions every 100 ms."""

    def __init__(
        self, latencies: dict[str, Latency], *, per_s: int = 100, slow_max: int = 1, tolerance: Tolerance | None = None
    ) -> None:
        self.latencies, self.step_ms, self.slow_max = latencies, 1_000 / per_s, slow_max
        self.peers = SlowPeers(latencies, tolerance)
        self.rng = Random(3)
        self.now_ms = 1_000.0
        self.changes: list[tuple[float, str, bool]] = []
        self.asked = dict.fromkeys(latencies, 0)
        self._decided_ms = self.now_ms
        self._answers: list[tuple[float, str, float]] = []

    def run(self, duration_ms: float) -> None:
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms += self.step_ms
            for peer in [peer for peer in self.latencies if peer not in self.peers.slow] + self.peers.due_probes(self.now_ms):
                latency_ms = self.latencies[peer](self.rng, self.now_ms)
                self.asked[peer] += 1
                self._answers.append((self.now_ms + latency_ms, peer, latency_ms))
            self._answers.sort()
            while self._answers and self._answers[0][0] <= self.now_ms:
                at_ms, peer, latency_ms = self._answers.pop(0)
                self.peers.record(peer, latency_ms, at_ms)
            if self.now_ms - self._decided_ms >= 100:
                self._decided_ms = self.now_ms
                self.changes += [(self.now_ms, peer, slow) for peer, slow in self.peers.decide(self.now_ms, self.slow_max)]
                self.peers.check()

    def until(self, peer: str, *, slow: bool, at_most_ms: float) -> float:
        """How long it takes until `peer` is marked so."""
        began_ms = self.now_ms
        while (peer in self.peers.slow) is not slow:
            assert self.now_ms - began_ms < at_most_ms, f"{peer}: {self.peers.latency_ms(peer)} ms"
            self.run(self.step_ms)
        return self.now_ms - began_ms


def steady(around_ms: float) -> Latency:
    return lambda rng, now_ms: around_ms * rng.uniform(0.8, 1.25)


def cluster(*around_ms: float) -> dict[str, Latency]:
    return {peer: steady(one) for peer, one in zip(PEERS, around_ms, strict=False)}


@pytest.mark.parametrize("per_s", [20, 100, 2_000])
def test_a_delay_of_200_ms_is_found_within_two_seconds_whatever_the_load_and_forgotten_within_seconds(per_s: int) -> None:
    schedule = Schedule(cluster(1, 1, 1), per_s=per_s)
    schedule.run(5_000)
    assert schedule.changes == []
    schedule.latencies["n3"] = steady(200)
    assert schedule.until("n3", slow=True, at_most_ms=2_000) > 500
    asked = schedule.asked["n3"]
    schedule.run(10_000)
    assert schedule.peers.slow == {"n3"} and schedule.asked["n3"] - asked <= 50, "five a second, and no more"
    schedule.latencies["n3"] = steady(1)
    schedule.until("n3", slow=False, at_most_ms=6_000)
    schedule.run(10_000)
    assert [(peer, slow) for _, peer, slow in schedule.changes] == [("n3", True), ("n3", False)]


def test_with_two_peers_the_slower_one_is_compared_with_the_other() -> None:
    schedule = Schedule(cluster(1, 30))
    schedule.until("n3", slow=True, at_most_ms=2_000)


def test_noise_of_three_times_the_usual_latency_changes_nothing() -> None:
    noisy: Latency = lambda rng, now_ms: 8 * rng.choice((1.0, 1.0, 3.0))  # noqa: E731
    bursts: Latency = lambda rng, now_ms: 8 * (3.0 if int(now_ms / 1_500) % 2 else 1.0)  # noqa: E731
    schedule = Schedule({"n2": steady(8), "n3": noisy, "n4": bursts})
    schedule.run(60_000)
    assert schedule.changes == []


def test_rare_outliers_change_nothing() -> None:
    pauses: Latency = lambda rng, now_ms: 2_000 if rng.random() < 0.005 else 2  # noqa: E731
    schedule = Schedule({**cluster(2, 2), "n4": pauses})
    schedule.run(60_000)
    assert schedule.changes == []


def test_below_the_floor_nobody_is_slow_however_much_quicker_the_others_are() -> None:
    schedule = Schedule(cluster(0.1, 0.1, 4))
    schedule.run(20_000)
    assert schedule.changes == []


def test_where_all_are_slow_nobody_is() -> None:
    schedule = Schedule(cluster(300, 300, 300))
    schedule.run(10_000)
    schedule.latencies.update(cluster(900, 900, 900))
    schedule.run(10_000)
    assert schedule.changes == []


def test_a_peer_alone_has_nobody_to_be_slower_than() -> None:
    schedule = Schedule(cluster(500))
    schedule.run(10_000)
    assert schedule.changes == []


def test_no_more_are_slow_than_quorums_can_do_without_and_the_one_that_is_stays() -> None:
    five = {f"n{at}": steady(1) for at in range(2, 7)}
    schedule = Schedule(five, slow_max=1)
    schedule.latencies["n3"] = steady(100)
    schedule.until("n3", slow=True, at_most_ms=2_000)
    schedule.latencies["n4"] = steady(200)
    schedule.run(10_000)
    assert schedule.peers.slow == {"n3"}
    schedule.slow_max = 2
    schedule.run(1_000)
    assert schedule.peers.slow == {"n3", "n4"}
    schedule.slow_max = 0
    schedule.run(200)
    assert schedule.peers.slow == frozenset()


def test_one_that_keeps_getting_slow_is_doubted_for_longer_each_time() -> None:
    moody: Latency = lambda rng, now_ms: 200 if int(now_ms / 3_000) % 2 else 1  # noqa: E731
    schedule = Schedule({**cluster(1, 1), "n4": moody})
    schedule.run(120_000)
    turns = [at_ms for at_ms, _, slow in schedule.changes if slow]
    assert 2 <= len(turns) <= 6, "twenty times slow, not twenty times marked"
    pauses = [after - before for before, after in pairwise(turns)]
    assert pauses == sorted(pauses)


def test_one_that_answers_nothing_at_all_is_slow_by_what_it_does_not_answer() -> None:
    peers, now_ms = SlowPeers(PEERS), 0.0
    for _ in range(200):
        now_ms += 10
        for peer in PEERS:
            peers.record(peer, 1, now_ms)
    began_ms = now_ms
    while "n4" not in peers.slow:
        now_ms += 10
        assert now_ms - began_ms < 2_000
        for peer in ("n2", "n3"):
            peers.record(peer, 1, now_ms)
        peers.record_waiting("n4", now_ms - began_ms, now_ms)
        peers.record_waiting("n3", 0.5, now_ms)
        peers.decide(now_ms, 1)
    assert peers.slow == {"n4"}


def test_a_slow_one_of_whom_nothing_is_heard_any_more_is_tried_again() -> None:
    schedule = Schedule(cluster(1, 1, 200))
    schedule.until("n4", slow=True, at_most_ms=2_000)
    schedule.latencies["n4"] = lambda rng, now_ms: 10**9
    schedule.until("n4", slow=False, at_most_ms=20_000)


def test_peers_come_and_go() -> None:
    peers = SlowPeers(("n2",))
    peers.add("n3")
    peers.record("n3", 7, 1)
    peers.add("n3")
    assert peers.latency_ms("n3") == pytest.approx(7) and peers.latency_ms("n2") is None
    peers.remove("n3")
    peers.record("n3", 7, 2)
    peers.record_waiting("n3", 7, 2)
    assert peers.decide(3, 1) == []


def test_slow_ones_are_asked_last_and_the_order_is_kept_otherwise() -> None:
    assert prefer(("n4", "n3", "n2"), {"n3"}) == ["n4", "n2", "n3"]
    assert prefer(("n4", "n3"), {"n3", "n4"}) == ["n4", "n3"]


@given(
    samples=st.lists(st.tuples(st.sampled_from(PEERS), st.floats(0, 1e6), st.floats(0, 5_000), st.booleans()), max_size=60),
    slow_max=st.integers(-1, 3),
)
def test_whatever_comes_the_bound_holds_and_averages_lie_between_the_samples(
    samples: list[tuple[str, float, float, bool]], slow_max: int
) -> None:
    peers, now_ms, seen = SlowPeers(PEERS), 0.0, dict[str, list[float]]()
    told: set[str] = set()
    for peer, latency_ms, later_ms, waits in samples:
        now_ms += later_ms
        if waits:
            peers.record_waiting(peer, latency_ms, now_ms)
        else:
            peers.record(peer, latency_ms, now_ms)
        seen.setdefault(peer, []).append(max(latency_ms, 0.001))
        for changed, slow in peers.decide(now_ms, slow_max):
            assert (changed in told) is not slow
            (told.add if slow else told.discard)(changed)
        assert peers.slow == told and len(told) <= max(0, slow_max)
        assert {*peers.due_probes(now_ms)} <= told
        peers.check()
        if (average := peers.latency_ms(peer)) is not None:
            assert min(seen[peer]) * 0.999 <= average <= max(seen[peer]) * 1.001
