"""What failure detection promises a cluster, seen in whole clusters of detectors on virtual time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from kvstore.core.membership.detector import FailureDetector
from kvstore.core.membership.incarnation import LEASE, Incarnation
from kvstore.core.membership.messages import Ack, Gossip, Nack, Ping, PingRequest, Reserve, Send
from kvstore.core.membership.relays import RELAYS_MAX
from kvstore.core.membership.suspicion import (
    LAN,
    LOCAL,
    WAN,
    Flapping,
    LocalHealth,
    Timing,
    confirmations_max,
    retransmits_max,
    suspicion_min_ms,
    suspicion_timeout_ms,
)
from kvstore.core.membership.table import INCARNATION_MAX, Changed, Claim, MembershipTable, State
from tests.core.membership_world import World

PLAIN_SWIM = replace(LAN, nacks=False, health_max=0, suspicion_max_mult=1)


def detector(*others: str, timing: Timing = LAN, now_ms: int = 0) -> FailureDetector:
    return FailureDetector("n1", others, timing=timing, rng=Random(1), now_ms=now_ms, incarnation=0, reserved=LEASE)


# --- clusters


@pytest.mark.parametrize(("size", "loss"), [(2, 0.0), (3, 0.0), (5, 0.2), (16, 0.2)])
def test_a_crash_is_known_to_all_in_time_and_nobody_else_is_called_dead(size: int, loss: float) -> None:
    world = World(size, timing=LAN, loss=loss)
    world.run(10_000)
    assert world.called_dead() == []
    world.stop("n2")
    longest = suspicion_timeout_ms(LAN, size, 0)
    # Probed within two rounds, suspected an interval later, dead after the longest suspicion, told in a few gossips.
    world.wait("n2", State.DEAD, at_most_ms=longest + (2 * size + 6) * LAN.probe_interval_ms)
    assert world.called_dead(but=("n2",)) == []


def test_a_crash_of_one_of_three_is_known_in_ten_probe_intervals() -> None:
    world = World(3, timing=LOCAL)
    world.run(2_000)
    world.stop("n3")
    assert world.wait("n3", State.DEAD, at_most_ms=10 * LOCAL.probe_interval_ms) <= 2_000


def test_a_member_that_comes_back_is_alive_to_all_at_once() -> None:
    world = World(8, timing=LAN)
    world.run(5_000)
    world.stop("n2")
    world.wait("n2", State.DEAD, at_most_ms=60_000)
    world.start("n2")
    world.wait("n2", State.ALIVE, at_most_ms=3 * LAN.probe_interval_ms)


def test_both_sides_of_a_cut_call_each_other_dead_and_find_each_other_after_it() -> None:
    world = World(6, timing=LAN)
    world.run(5_000)
    world.cut({"n1", "n2"})
    world.run(150_000)  # the smaller side doubts itself first, and takes its time
    for name in world.names:
        here = name in {"n1", "n2"}
        for other in world.names:
            if other != name:
                expected = State.ALIVE if (other in {"n1", "n2"}) is here else State.DEAD
                assert world.detectors[name].table.opinion(other) is expected
    world.cuts.clear()
    for name in world.names:
        world.wait(name, State.ALIVE, at_most_ms=(2 * world.timing.probe_interval_ms) * len(world.names))


def test_one_bad_link_makes_nobody_dead() -> None:
    """n1 and n2 do not reach each other: every probe between them goes through relays, and no suspicion lasts."""
    world = World(5, timing=LAN)
    world.cuts = {("n1", "n2"), ("n2", "n1")}
    world.run(120_000)
    assert world.called_dead() == []
    assert world.sent["PingRequest"] > 20


def test_a_link_that_works_in_one_direction_makes_nobody_dead_and_accusations_are_refuted() -> None:
    world = World(5, timing=replace(LAN, indirect_probes=0))
    world.cuts = {("n2", "n1")}  # n1 hears nothing of n2 itself, and asks nobody
    world.run(120_000)
    suspected = [change for _, _, change in world.changes if change.after is State.SUSPECT and change.member == "n2"]
    assert suspected and world.called_dead() == []
    assert world.detectors["n2"].incarnation > 0


def test_lifeguard_calls_far_fewer_healthy_members_dead_than_plain_swim_when_some_are_slow() -> None:
    slow = ("n1", "n2", "n3")
    falsely = {}
    for name, timing in (("plain", PLAIN_SWIM), ("lifeguard", LAN)):
        world = World(12, 5, timing=timing, slow=slow, lag_ms=9_000)
        world.run(60_000)
        falsely[name] = len(world.called_dead(but=slow))
    assert falsely["plain"] > 20
    assert falsely["lifeguard"] * 10 <= falsely["plain"], falsely


def test_a_member_that_stood_still_blames_nobody_and_is_taken_back() -> None:
    world = World(5, timing=LAN)
    world.run(5_000)
    world.run(45_000, standing_still=frozenset({"n3"}))
    assert world.agree("n3", State.DEAD)
    world.run(1_000)
    assert [who for who, _ in world.called_dead() if who == "n3"] == []
    world.wait("n3", State.ALIVE, at_most_ms=5_000)
    assert world.called_dead(but=("n3",)) == []


def test_every_table_is_exchanged_now_and_then_so_that_lost_gossip_does_not_matter() -> None:
    world = World(4, timing=replace(LAN, gossip_nodes=0, sync_interval_ms=3_000, claims_per_message_max=2))
    for receiver in ("n2", "n3", "n4"):
        world.detectors["n1"].table.believe(Claim(receiver, State.ALIVE, 5, receiver), 0)
    world.run(20_000)
    assert {world.detectors[name].table.claim("n4").incarnation for name in ("n2", "n3")} == {6}, "n4 has heard of it too"


def test_whoever_is_ticked_in_time_never_doubts_itself_also_when_news_comes_after_a_long_silence() -> None:
    world = World(5, timing=LAN)
    world.run(20_000)
    world.detectors["n1"].receive(world.now_ms, "n2", Gossip((Claim("n3", State.ALIVE, 7, "n3"),)))
    for _ in range(300):
        world.run(1)
        assert [one.health.score for one in world.detectors.values()] == [0] * 5
    assert world.detectors["n5"].table.claim("n3").incarnation >= 7
    assert sum(world.round_trips.values()) >= 0.9 * 20 * 5


def test_messages_are_few() -> None:
    world = World(5, timing=LAN)
    world.run(60_000)
    seconds, nodes = 60, 5
    assert sum(world.sent.values()) <= 2.5 * seconds * nodes, "a ping and its answer, and the start's gossip"
    assert sum(world.round_trips.values()) >= 0.9 * seconds * nodes


# --- one detector


def sends(instructions: object, kind: type) -> list[Send]:
    assert isinstance(instructions, list)
    return [one for one in instructions if isinstance(one, Send) and isinstance(one.message, kind)]


def test_members_are_probed_within_two_rounds_of_each_other() -> None:
    """SWIM, section 4.3: round-robin in shuffled order bounds the time to the first probe."""
    one = detector("n2", "n3", "n4", "n5")
    probed: list[str] = []
    while len(probed) < 60:
        for ping in sends(one.tick(one.wake_ms), Ping):
            probed.append(ping.to)
            one.receive(one.wake_ms, ping.to, Ack(ping.message.sequence, ()))  # type: ignore[union-attr]
    for member in ("n2", "n3", "n4", "n5"):
        at = [index for index, target in enumerate(probed) if target == member]
        assert max(after - before for before, after in pairwise(at)) <= 2 * 4 - 1
    assert probed[:4] != probed[4:8] or probed[4:8] != probed[8:12], "each round in another order"


def test_a_ping_that_is_meant_for_another_is_not_answered_and_a_strangers_message_not_heard() -> None:
    one = detector("n2", "n3")
    assert sends(one.receive(0, "n2", Ping(1, "n3", ())), Ack) == []
    assert one.receive(0, "n9", Ping(1, "n1", (Claim("n2", State.DEAD, 0, "n9"),))) == []
    assert one.table.opinion("n2") is State.ALIVE


def test_an_answer_counts_only_from_those_who_were_asked() -> None:
    one = detector("n2", "n3", "n4")
    while not (pings := sends(one.tick(one.wake_ms), Ping)):
        pass
    (ping,) = pings
    stranger = next(name for name in ("n2", "n3", "n4") if name != ping.to)
    assert isinstance(ping.message, Ping)
    one.receive(one.wake_ms, stranger, Ack(ping.message.sequence, ()))
    one.receive(one.wake_ms, stranger, Nack(ping.message.sequence, ()))
    relays = sends(one.tick(one.wake_ms), PingRequest)
    assert {relay.to for relay in relays} == {"n2", "n3", "n4"} - {ping.to}


def test_what_looks_wrong_is_probed_at_once() -> None:
    one = detector("n2", "n3", "n4", "n5")
    one.tick(0)
    for member in ("n4", "n2"):
        one.probe_soon(1, member)
        one.probe_soon(1, "n9")
    (ping,) = sends(one.tick(1), Ping)
    assert ping.to == "n2" and isinstance(ping.message, Ping)
    one.probe_soon(2, "n3")
    assert sends(one.tick(2), Ping) == [], "one at a time"
    one.receive(3, "n2", Ack(ping.message.sequence, ()))
    one.probe_soon(4, "n3")
    assert one.wake_ms <= 4
    assert [ping.to for ping in sends(one.tick(4), Ping)] == ["n3"]


def test_relays_are_bounded_and_say_no_beyond_it() -> None:
    one = detector("n2", "n3")
    for sequence in range(RELAYS_MAX):
        assert sends(one.receive(0, "n2", PingRequest(sequence, "n3", ())), Ping)
    assert [nack.message.sequence for nack in sends(one.receive(0, "n2", PingRequest(999, "n3", ())), Nack)] == [999]  # type: ignore[union-attr]


def test_members_can_be_added_and_removed_whatever_is_under_way() -> None:
    one = detector("n2", timing=LOCAL)
    one.add(0, "n3")
    one.add(0, "n3")
    now_ms = 0
    for step in range(40):
        now_ms = max(now_ms, one.wake_ms)
        out = one.tick(now_ms)
        if step == 10:
            one.receive(now_ms, "n2", PingRequest(5, "n3", ()))
            one.receive(now_ms, "n2", Gossip((Claim("n3", State.SUSPECT, 0, "n2"),)))
        if any(ping.to == "n3" for ping in sends(out, Ping)) and step > 12:
            one.remove(now_ms, "n3")
            break
        one.check()
    assert "n3" not in one.table and one.table.size == 2
    one.check()
    for _ in range(40):
        now_ms = max(now_ms, one.wake_ms)
        assert "n3" not in {send.to for send in one.tick(now_ms) if isinstance(send, Send)}
    one.remove(now_ms, "n2")
    now_ms = max(now_ms, one.wake_ms)
    assert one.tick(now_ms) == []  # alone


def test_a_member_that_keeps_coming_back_is_slow_until_its_penalty_has_decayed() -> None:
    one = detector("n2", "n3", timing=LOCAL)
    opinions = []
    for incarnation in range(3):
        now_ms = 100 * incarnation
        one.receive(now_ms, "n3", Gossip((Claim("n2", State.DEAD, incarnation, "n3"),)))
        one.receive(now_ms, "n3", Gossip((Claim("n2", State.ALIVE, incarnation + 1, "n2"),)))
        opinions.append(one.table.opinion("n2"))
    assert opinions == [State.ALIVE, State.ALIVE, State.SLOW]
    assert one.table.claim("n2").state is State.ALIVE, "to others nothing is said of it"
    for now_ms in (300 + LOCAL.flap_half_life_ms, 300 + 2 * LOCAL.flap_half_life_ms):
        one.mark_slow(now_ms, "n3", slow=False)
        opinions.append(one.table.opinion("n2"))
    assert opinions[3:] == [State.SLOW, State.ALIVE]


def test_slow_shows_while_a_member_is_alive() -> None:
    one = detector("n2")
    (change,) = one.mark_slow(0, "n2", slow=True)
    assert isinstance(change, Changed) and change.after is State.SLOW
    one.receive(0, "n2", Gossip((Claim("n2", State.SUSPECT, 0, "n2"),)))
    assert one.table.opinion("n2") is State.SUSPECT
    one.receive(0, "n2", Gossip((Claim("n2", State.ALIVE, 1, "n2"),)))
    assert one.table.opinion("n2") is State.SLOW


def test_a_life_that_began_again_jumps_above_what_was_said_of_an_earlier_one() -> None:
    one = detector("n2")
    (reserve, _) = one.receive(0, "n2", Ping(1, "n1", (Claim("n1", State.ALIVE, 5_000, "n1"),)))
    assert isinstance(reserve, Reserve) and reserve.up_to == 5_001 + LEASE
    assert one.incarnation == 0, "not before it is durably ours"
    one.reserved(0, reserve.up_to)
    assert one.incarnation == 5_001
    one.receive(0, "n2", Gossip((Claim("n1", State.DEAD, INCARNATION_MAX + 1, "n2"),)))
    assert one.incarnation == 5_001, "damaged: believed, nobody could refute it"
    one.check()


def test_being_accused_makes_a_member_doubt_itself_once_for_each_accusation() -> None:
    one = detector("n2", "n3")
    for by in ("n2", "n3"):
        one.receive(0, by, Gossip((Claim("n1", State.SUSPECT, 0, by),)))
    assert one.health.score == 1
    one.receive(0, "n2", Gossip((Claim("n1", State.SUSPECT, 1, "n2"),)))
    assert one.health.score == 2


# --- pieces


def test_suspicions_last_as_the_formula_says() -> None:
    assert [suspicion_timeout_ms(LAN, 4, confirmations) for confirmations in range(3)] == [24_000, 11_382, 4_000]
    assert suspicion_timeout_ms(LAN, 2, 0) == suspicion_min_ms(LAN, 2) == 4_000, "nobody can confirm"
    assert suspicion_min_ms(LAN, 100) == 8_000
    assert suspicion_timeout_ms(LAN, 9, 7) == suspicion_min_ms(LAN, 9), "never below the least"
    assert [confirmations_max(WAN, members) for members in (1, 2, 3, 9)] == [0, 0, 1, 4]
    assert [retransmits_max(LAN, members) for members in (1, 3, 9, 10, 100)] == [4, 4, 4, 8, 12]


def test_health_stays_in_its_bounds_and_scales() -> None:
    health = LocalHealth(7)
    health.note(-1)
    assert health.scaled_ms(500) == 500
    for _ in range(20):
        health.note(3)
    assert (health.score, health.scaled_ms(500)) == (7, 4_000)


def test_damping_ends_within_two_half_lives_however_often_a_member_flapped() -> None:
    flapping = Flapping(1_000)
    for now_ms in range(0, 1_000, 10):
        flapping.returned(now_ms)
    assert flapping.damped
    flapping.settle(990 + 1_000)
    assert flapping.damped
    flapping.settle(990 + 2_001)
    assert not flapping.damped


def test_a_reservation_is_asked_for_half_a_lease_ahead_and_once() -> None:
    own = Incarnation(0, LEASE)
    assert own.due() is None
    own.refute(LEASE // 2)
    assert own.due() == LEASE // 2 + 1 + LEASE
    assert own.due() is None
    own.check()


def test_a_timing_that_leaves_no_time_for_relays_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="indirect"):
        Timing(probe_interval_ms=100, probe_timeout_ms=100)


def test_a_table_knows_nothing_of_itself_or_of_strangers() -> None:
    table = MembershipTable("n1", ("n2",), LAN, 0)
    with pytest.raises(AssertionError):
        table.add("n1", 0)
    assert not table.believe(Claim("n9", State.DEAD, 0, "n2"), 0)
    assert not table.believe(Claim("n2", State.SLOW, 3, "n2"), 0), "nobody is told that a member is slow"
    assert table.deadline_ms("n2") is None and table.expired(10**9) == []
