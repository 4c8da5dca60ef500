"""What a node believes of the others: claims in, opinions out (SWIM; Das et al., 2002, section 4).

A claim says that a member, in one of its incarnations, is alive, suspect or dead, and by whom. Claims of one member are ordered by
incarnation and then alive < suspect < dead, and the greatest is believed: so tables agree once the same claims have arrived, in any
order. Only the member itself begins an incarnation, which is how it refutes; a dead one that refutes is alive again.

An opinion steers routing, sloppy quorums and hints. It is local, it never changes who owns what (docs/ring.md), and nobody is ever
removed by it. `SLOW` exists only as an opinion: alive, but to be avoided while enough others answer, because slowness.py says so or
because it keeps going and coming back. Used by detector.py; probing is not its business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from kvstore.core.membership.suspicion import Flapping, Timing, confirmations_max, suspicion_timeout_ms

INCARNATION_MAX = 1 << 62
"""A claim beyond it is damaged or forged: believed, it could not be refuted."""


class State(IntEnum):
    """From better to worse; claims know no `SLOW`."""

    ALIVE = 0
    SLOW = 1
    SUSPECT = 2
    DEAD = 3


@dataclass(slots=True, frozen=True)
class Claim:
    """`by` says that `member` is in `state` in its `incarnation`."""

    member: str
    state: State
    incarnation: int
    by: str

    @property
    def strength(self) -> tuple[int, State]:
        """The greater one is believed."""
        return self.incarnation, self.state


@dataclass(slots=True, frozen=True)
class Changed:
    """Our opinion of `member` is another one."""

    member: str
    before: State
    after: State
    incarnation: int
    by: str


class _Member:
    """What is believed of one member, since when, and who confirmed a suspicion."""

    __slots__ = ("accusers", "claim", "flapping", "opinion", "opinion_ms", "since_ms", "slow")

    def __init__(self, claim: Claim, now_ms: int, half_life_ms: int) -> None:
        self.claim = claim
        self.since_ms = now_ms
        self.accusers: set[str] = set()
        self.slow = False
        self.flapping = Flapping(half_life_ms)
        self.opinion = State.ALIVE
        self.opinion_ms = now_ms


class MembershipTable:
    """The opinions of `me` about the other members, who begin as alive: a node that starts has no reason to avoid anybody."""

    __slots__ = ("_members", "me", "timing")

    def __init__(self, me: str, others: Iterable[str], timing: Timing, now_ms: int) -> None:
        self.me = me
        self.timing = timing
        self._members: dict[str, _Member] = {}
        for member in others:
            self.add(member, now_ms)

    def __contains__(self, member: str) -> bool:
        return member in self._members

    @property
    def size(self) -> int:
        """Members, us among them."""
        return len(self._members) + 1

    @property
    def others(self) -> list[str]:
        """Everybody but us, sorted."""
        return sorted(self._members)

    def add(self, member: str, now_ms: int) -> None:
        """One more member, who is not us; nothing happens if it is known."""
        assert member != self.me
        if member not in self._members:
            self._members[member] = _Member(Claim(member, State.ALIVE, 0, member), now_ms, self.timing.flap_half_life_ms)

    def remove(self, member: str) -> None:
        """It is no member any more."""
        self._members.pop(member, None)

    def opinion(self, member: str) -> State:
        """What we think of `member`."""
        return self._members[member].opinion

    def opinion_since_ms(self, member: str) -> int:
        """Since when we have thought so."""
        return self._members[member].opinion_ms

    def returns(self, member: str) -> int:
        """How often `member` has come back from the dead."""
        return self._members[member].flapping.returns

    def claim(self, member: str) -> Claim:
        """The claim that we believe."""
        return self._members[member].claim

    def claims(self) -> list[Claim]:
        """All that we believe of others, by member."""
        return [self._members[member].claim for member in self.others]

    def mark_slow(self, member: str, *, slow: bool) -> None:
        """What slowness.py says; it shows while the member is alive."""
        self._members[member].slow = slow

    def believe(self, claim: Claim, now_ms: int) -> bool:
        """Takes a claim about another member; whether it is news, to be passed on.

        Of a suspicion that we share already, one more accuser is news as long as it shortens the timeout (Lifeguard).
        """
        member = self._members.get(claim.member)
        if member is None or claim.incarnation > INCARNATION_MAX or claim.state is State.SLOW:
            return False
        held = member.claim
        if claim.strength == held.strength and claim.state is State.SUSPECT:
            if claim.by in member.accusers or len(member.accusers) > confirmations_max(self.timing, self.size):
                return False
            member.accusers.add(claim.by)
            return True
        if claim.strength <= held.strength:
            return False
        if held.state is State.DEAD:
            member.flapping.returned(now_ms)
        member.claim = claim
        member.since_ms = now_ms
        member.accusers = {claim.by} if claim.state is State.SUSPECT else set()
        return True

    def deadline_ms(self, member: str) -> int | None:
        """When a suspect is called dead unless it refutes; None if it is no suspect."""
        row = self._members[member]
        if row.claim.state is not State.SUSPECT:
            return None
        return row.since_ms + suspicion_timeout_ms(self.timing, self.size, len(row.accusers) - 1)

    def expired(self, now_ms: int) -> list[Claim]:
        """What we say of the suspects whose time is up, to be believed and passed on."""
        deadlines = [(member, self.deadline_ms(member)) for member in self.others]
        return [
            Claim(member, State.DEAD, self.claim(member).incarnation, self.me)
            for member, deadline in deadlines
            if deadline is not None and deadline <= now_ms
        ]

    def excuse(self, stalled_ms: int) -> None:
        """We stood still for so long: nobody could refute to us meanwhile, and suspects get the time back."""
        for row in self._members.values():
            if row.claim.state is State.SUSPECT:
                row.since_ms += stalled_ms

    def settle(self, now_ms: int) -> list[Changed]:
        """The opinions that changed since it was last called, by member."""
        changes = []
        for member in self.others:
            row = self._members[member]
            row.flapping.settle(now_ms)
            state = row.claim.state
            if state is State.ALIVE and (row.slow or row.flapping.damped):
                state = State.SLOW
            if state is not row.opinion:
                changes.append(Changed(member, row.opinion, state, row.claim.incarnation, row.claim.by))
                row.opinion = state
                row.opinion_ms = now_ms
        return changes

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation, after `settle`."""
        assert self.me not in self._members
        for member, row in self._members.items():
            assert row.claim.member == member
            assert row.claim.state is not State.SLOW and 0 <= row.claim.incarnation <= INCARNATION_MAX
            assert bool(row.accusers) is (row.claim.state is State.SUSPECT), "suspects, and only they, have accusers"
            assert len(row.accusers) <= confirmations_max(self.timing, self.size) + 1
            assert row.opinion is row.claim.state or (row.opinion is State.SLOW and row.claim.state is State.ALIVE)
