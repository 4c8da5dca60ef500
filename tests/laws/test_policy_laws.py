"""Laws of the conflict policies, over whatever random schedules with crashes, late copies and wrong clocks leave at four replicas.

That every copy reads as its history of events says is checked at each step of the universe itself.
"""

from __future__ import annotations

from functools import reduce
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.core.policies.operations import Event, Policy, Put
from kvstore.core.policies.plain import LWW
from kvstore.core.policies.registry import POLICIES as REGISTERED
from kvstore.core.policies.registry import join_records
from kvstore.core.record import decode, encode
from kvstore.core.record_writes import overwrite
from kvstore.core.versions import EMPTY, make_dot
from tests.laws.policy_universe import POLICIES, STEPS, Copy, PolicyUniverse, played, universes

every_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)


def test_these_are_all_the_policies_there_are() -> None:
    assert list(REGISTERED.values()) == POLICIES


@every_policy
@given(data=st.data())
def test_joining_is_a_semilattice_to_the_byte_and_loses_no_event_in_any_order(policy: Policy, data: st.DataObject) -> None:
    universe = data.draw(universes(policy))
    rng = data.draw(st.randoms(use_true_random=False))
    one, two, three = (rng.choice(universe.copies).record for _ in range(3))
    join = policy.join
    both = join(one, two)
    assert encode(both) == encode(join(two, one)), "commutative"
    assert encode(join(both, three)) == encode(join(one, join(two, three))), "associative"
    assert encode(join(one, one)) == encode(one) == encode(join(EMPTY, one)), "idempotent"
    assert encode(join(both, one)) == encode(both), "what was joined adds nothing"
    held, new = encode(one), encode(two)
    joined = join_records(policy, held, new)
    assert joined == encode(both), "bytes join as records do"
    assert joined is held or joined != held, "what adds nothing leaves the very object"
    records = [encode(copy.record) for copy in universe.copies]
    orders = [rng.sample(records, k=len(records)), rng.sample([*records, *records], k=2 * len(records))]
    first, second = (reduce(lambda held, new: join_records(policy, held, new), order) for order in orders)
    assert first == second
    # It reads as the history of all events: nothing that ever happened is missing, and nothing is in it twice.
    universe.check(Copy(decode(first), frozenset(range(len(universe.events)))))


@given(data=st.data())
def test_the_quick_way_to_overwrite_is_the_one_of_lww_too_if_the_stamp_is_later_than_what_is_held(data: st.DataObject) -> None:
    universe = data.draw(universes(LWW))
    base = data.draw(st.sampled_from([copy for copy in universe.copies if copy.history])).record
    actor, later = data.draw(st.sampled_from(sorted(base.vector))), data.draw(st.integers(1, 9))
    hlc = base.siblings[0].hlc + later
    dot, request_id = make_dot(actor, base.vector[actor] + 1), (hlc >> 16).to_bytes(6, "big") + b"\xff" * 10
    event = Event(dot, request_id, hlc, cutoff_ms=universe.now_ms - 40, retries_max=6)
    general = encode(LWW.apply(base, Put(b"new"), event))
    quick = overwrite(encode(base), dot, request_id, hlc, 0, b"new", event.cutoff_ms.to_bytes(6, "big"), 6)
    assert quick is None or quick == general
    if len(base.vector) == 1 and not base.retries and not base.floor_ms:
        assert quick is not None


@every_policy
def test_the_schedules_reach_what_they_are_meant_to(policy: Policy) -> None:
    rng = Random(7)
    universes_ = [played(policy, [(rng.choice(STEPS), rng.randrange(4), rng.randrange(64)) for _ in range(30)]) for _ in range(150)]
    finals = [reduce(lambda held, copy: policy.join(held, copy.record), universe.copies, EMPTY) for universe in universes_]
    assert sum(len(record.vector) > 2 for record in finals) > 75, "several actors"
    assert any(record.retries for record in finals) and any(record.floor_ms for record in finals)
    assert sum(max(universe.epochs) > 0 for universe in universes_) > 75, "crashes"
    if policy.name != "lww":
        assert sum(len(copy.record.siblings) > 1 for universe in universes_ for copy in universe.copies) > 300, "concurrency"
    empty = sum(not universe.policy.read(copy.record, 0).cells for universe in universes_ for copy in universe.copies)
    assert empty > 50, "deleted"


class Forgetful(PolicyUniverse):
    """A replica that crashes and goes on under its old actor (safety rule 2 left out)."""

    def play(self, step: tuple[str, int, int]) -> None:
        name, at, _ = step
        epoch = self.epochs[at]
        super().play(step)
        if name == "crash":
            self.epochs[at] = epoch


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.name != "lww"], ids=lambda policy: policy.name)
def test_the_oracle_notices_when_an_actor_is_used_again_after_a_crash(policy: Policy) -> None:
    rng, broken = Random(3), 0
    for _ in range(150):
        universe = Forgetful(policy)
        try:
            for _ in range(30):
                universe.play((rng.choice(STEPS), rng.randrange(4), rng.randrange(64)))
        except AssertionError:
            broken += 1
    assert broken > 15
