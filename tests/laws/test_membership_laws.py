"""Laws of membership: what is believed does not depend on the order in which claims come, and no machine breaks, whatever comes."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.membership.detector import FailureDetector
from kvstore.core.membership.incarnation import LEASE
from kvstore.core.membership.messages import Ack, Gossip, Message, Nack, Ping, PingRequest, Reserve, Send
from kvstore.core.membership.rumours import Rumours
from kvstore.core.membership.suspicion import LAN, LOCAL, WAN, suspicion_min_ms, suspicion_timeout_ms
from kvstore.core.membership.table import Claim, MembershipTable, State

OTHERS = ("n2", "n3", "n4")
EVERYBODY = ("n1", *OTHERS)

claims = st.builds(
    Claim,
    member=st.sampled_from(EVERYBODY),
    state=st.sampled_from(State),
    incarnation=st.one_of(st.integers(0, 5), st.just(LEASE - 1), st.just(2**63)),
    by=st.sampled_from(EVERYBODY),
)
timings = st.sampled_from([LAN, LOCAL, WAN])


@given(said=st.lists(claims, max_size=12), rng=st.randoms(use_true_random=False))
def test_tables_that_heard_the_same_claims_in_any_order_believe_the_same(said: list[Claim], rng: Random) -> None:
    one, two = (MembershipTable("n1", OTHERS, LAN, 0) for _ in range(2))
    for claim in said:
        one.believe(claim, 0)
    for claim in rng.sample([*said, *said], k=2 * len(said)):
        two.believe(claim, 0)
    for member in OTHERS:
        assert one.claim(member).strength == two.claim(member).strength
    one.settle(0)
    one.check()


@given(said=st.lists(claims, max_size=12))
def test_the_strongest_claim_is_believed_and_news_is_what_changes_something(said: list[Claim]) -> None:
    table = MembershipTable("n1", OTHERS, LAN, 0)
    for claim in said:
        before = [(table.claim(member), table.deadline_ms(member)) for member in OTHERS]
        news = table.believe(claim, 0)
        after = [(table.claim(member), table.deadline_ms(member)) for member in OTHERS]
        assert news is (before != after)
        for member in OTHERS:
            heard = [one.strength for one in said[: said.index(claim) + 1] if one.member == member and one.state is not State.SLOW]
            heard = [strength for strength in heard if strength[0] <= 2**62]
            assert table.claim(member).strength >= max(heard, default=(0, State.ALIVE))


@given(timing=timings, members=st.integers(1, 200), confirmations=st.integers(0, 10))
def test_suspicions_shorten_with_each_confirmation_and_never_below_the_least(
    timing: object, members: int, confirmations: int
) -> None:
    from kvstore.core.membership.suspicion import Timing

    assert isinstance(timing, Timing)
    now, more = (suspicion_timeout_ms(timing, members, count) for count in (confirmations, confirmations + 1))
    least = suspicion_min_ms(timing, members)
    assert least <= more <= now <= timing.suspicion_max_mult * least + 1


@given(said=st.lists(claims, max_size=30), count=st.integers(1, 4), retransmits=st.integers(1, 5))
def test_each_rumour_is_told_as_often_as_allowed_and_the_last_of_each_member_is_the_one(
    said: list[Claim], count: int, retransmits: int
) -> None:
    rumours, told = Rumours(), list[Claim]()
    for claim in said:
        rumours.spread(claim)
        assert len(rumours) <= len(EVERYBODY)
    last = {claim.member: claim for claim in said}
    while len(rumours):
        taken = rumours.take(count, retransmits)
        assert 0 < len(taken) <= count and len({claim.member for claim in taken}) == len(taken)
        told += taken
    assert sorted(told, key=str) == sorted([claim for claim in last.values() for _ in range(retransmits)], key=str)
    rumours.forget("n2")


events = st.one_of(
    st.tuples(st.just("tick"), st.sampled_from([0, 0, 0, 1, 150, 5_000])),
    st.tuples(st.just("hear"), st.sampled_from(OTHERS), st.integers(0, 4), st.lists(claims, max_size=3)),
    st.tuples(st.just("slow"), st.sampled_from(OTHERS), st.booleans()),
    st.tuples(st.just("soon"), st.sampled_from(OTHERS)),
    st.tuples(st.just("durable")),
    st.tuples(st.just("churn"), st.sampled_from(OTHERS)),
)


@given(steps=st.lists(events, max_size=40), seed=st.integers(0, 2**32))
def test_no_event_in_any_order_breaks_a_detector_or_lets_it_use_what_is_not_its_own(
    steps: list[tuple[object, ...]], seed: int
) -> None:
    one = FailureDetector("n1", OTHERS, timing=LOCAL, rng=Random(seed), now_ms=0, incarnation=0, reserved=LEASE)
    now_ms, durable, wanted = 0, LEASE, LEASE
    sequences: list[int] = [0]
    for step in steps:
        out: list[object] = []
        match step:
            case ("tick", int(later_ms)):
                now_ms = max(now_ms, one.wake_ms) + later_ms
                out = list(one.tick(now_ms))
            case ("hear", str(sender), int(kind), list(said)):
                sequence = sequences[-1 - kind % min(3, len(sequences))]
                told = tuple(said)
                messages: list[Message] = [
                    Ping(1, "n1", told),
                    PingRequest(1, "n3", told),
                    Ack(sequence, told),
                    Nack(sequence, told),
                    Gossip(told, sync=True, answer=True),
                ]
                out = list(one.receive(now_ms, sender, messages[kind]))
            case ("slow", str(member), bool(slow)) if member in one.table:
                out = list(one.mark_slow(now_ms, member, slow=slow))
            case ("soon", str(member)):
                one.probe_soon(now_ms, member)
            case ("churn", str(member)):
                if member in one.table:
                    one.remove(now_ms, member)
                else:
                    one.add(now_ms, member)
            case ("durable",):
                durable = max(durable, wanted)
                out = list(one.reserved(now_ms, durable))
        for instruction in out:
            if isinstance(instruction, Reserve):
                wanted = instruction.up_to
            if isinstance(instruction, Send):
                assert instruction.to in one.table
                if isinstance(instruction.message, Ping | PingRequest):
                    sequences.append(instruction.message.sequence)
                own = instruction.message.claims[0]
                assert (own.member, own.state) == ("n1", State.ALIVE) and own.incarnation < durable
                assert len(instruction.message.claims) <= max(LOCAL.claims_per_message_max, len(EVERYBODY))
        if not any(isinstance(instruction, Reserve) for instruction in out):
            one.check()
    assert one.tick(max(now_ms, one.wake_ms)) is not None
    assert one.wake_ms > 0 or not steps
