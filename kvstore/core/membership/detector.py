"""Failure detection as a machine without clock or network: events in, instructions out (SWIM, Das et al., 2002; Lifeguard, 2017).

One probe at a time: a ping to the next member of a shuffled round; without an answer by `probe_timeout_ms`, pings through up to k
relays; without any by the end of the interval, a suspicion, which goes round with everything that is sent. The suspect hears of it
with the next message to it and refutes with a higher incarnation; else it is called dead. Durations grow with our own ill health.
The dead are called too, one an interval and without judgement, so that the sides of a healed cut find each other.

The shell wakes it by `wake_ms`, hands in what arrives *before* it ticks (else answers that lie in its inbox count as missing),
carries out what comes back in order, and keeps the incarnation (`Reserve`). A tick that comes late by `stall_ms` tells that we
stood still: what was unanswered meanwhile is nobody's fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.core.membership.incarnation import Incarnation
from kvstore.core.membership.messages import (
    Ack,
    Claims,
    Gossip,
    Instruction,
    Message,
    Nack,
    Ping,
    PingRequest,
    Reserve,
    RoundTrip,
    Send,
)
from kvstore.core.membership.relays import Relay, Relays
from kvstore.core.membership.rumours import Rumours
from kvstore.core.membership.suspicion import LocalHealth, Timing, retransmits_max
from kvstore.core.membership.table import INCARNATION_MAX, Claim, MembershipTable, State

if TYPE_CHECKING:
    from random import Random


class _Probe:
    """Our one probe: whom, since when, through whom, and who has said no."""

    __slots__ = ("answered", "ends_ms", "nacks", "relays", "relays_at_ms", "sent_ms", "sequence", "target")

    def __init__(self, target: str, sequence: int, now_ms: int, relays_at_ms: int, ends_ms: int) -> None:
        self.target = target
        self.sequence = sequence
        self.sent_ms = now_ms
        self.relays_at_ms: int | None = relays_at_ms
        self.ends_ms = ends_ms
        self.relays: list[str] = []
        self.nacks: set[str] = set()
        self.answered = False


class FailureDetector:
    """The detector of node `me`. It may use incarnations from `incarnation` up to but not including `reserved`, which is durable.

    Belongs to one event loop; every method returns at once with instructions, to be carried out in order. `now_ms` is any clock
    that does not run backwards.
    """

    def __init__(
        self,
        me: str,
        others: tuple[str, ...],
        *,
        timing: Timing,
        rng: Random,
        now_ms: int,
        incarnation: int,
        reserved: int,
    ) -> None:
        self.me = me
        self.timing = timing
        self.table = MembershipTable(me, others, timing, now_ms)
        self.health = LocalHealth(timing.health_max)
        self._own = Incarnation(incarnation, reserved)
        self._rng = rng
        self._rumours = Rumours()
        self._rumours.spread(self._own_claim())
        self._sequence = rng.getrandbits(48)
        self._round: list[str] = []
        self._dead_round: list[str] = []
        self._probe: _Probe | None = None
        self._relays = Relays()
        self._next_gossip_ms = now_ms
        # The first at once: a node that starts knows less than everybody else.
        self._next_sync_ms = now_ms
        self._next_probe_ms = now_ms + rng.randrange(timing.probe_interval_ms)
        self._due_ms = now_ms  # when a tick was wanted, as the shell was last told

    @property
    def incarnation(self) -> int:
        """The one in use."""
        return self._own.current

    # --- events

    @property
    def wake_ms(self) -> int:
        """When it wants to be ticked next; earlier does no harm. To be asked again after each event, for each may change it."""
        times = [self._next_sync_ms]
        if self._rumours:
            times.append(self._next_gossip_ms)
        if self._probe is None:
            times.append(self._next_probe_ms)
        else:
            times.append(self._probe.ends_ms if self._probe.relays_at_ms is None else self._probe.relays_at_ms)
        times += self._relays.wakes_ms()
        times += [deadline for member in self.table.others if (deadline := self.table.deadline_ms(member)) is not None]
        return min(times)

    def tick(self, now_ms: int) -> list[Instruction]:
        """Time has passed."""
        out: list[Instruction] = []
        late_ms = now_ms - self._due_ms
        if late_ms >= self.timing.stall_ms:
            self._excuse(now_ms, late_ms)
        self._due_ms = now_ms
        self._tick_relays(now_ms, out)
        self._tick_probe(now_ms, out)
        for claim in self.table.expired(now_ms):
            self._believe(claim, now_ms)
        self._tick_gossip(now_ms, out)
        return self._settled(now_ms, out)

    def receive(self, now_ms: int, sender: str, message: Message) -> list[Instruction]:
        """A message has come from `sender`, whom the shell knows to be it; one who is no member is not heard."""
        out: list[Instruction] = []
        if sender not in self.table:
            return out
        for claim in message.claims:
            self._hear(claim, now_ms, out)
        match message:
            case Ping(sequence, target):
                if target == self.me:
                    out.append(Send(sender, Ack(sequence, self._claims_for(sender))))
            case PingRequest(sequence, target):
                self._relay(now_ms, sender, sequence, target, out)
            case Ack(sequence):
                self._take_ack(now_ms, sender, sequence, out)
            case Nack(sequence):
                if self._probe is not None and self._probe.sequence == sequence and sender in self._probe.relays:
                    self._probe.nacks.add(sender)
            case Gossip(answer=True):
                out.append(Send(sender, Gossip(self._all_claims(), sync=True)))
            case Gossip():
                pass
        return self._settled(now_ms, out)

    def reserved(self, now_ms: int, up_to: int) -> list[Instruction]:
        """Incarnations below `up_to` are durably ours."""
        if self._own.reserve(up_to):
            self._rumours.spread(self._own_claim())
        return self._settled(now_ms, [])

    def mark_slow(self, now_ms: int, member: str, *, slow: bool) -> list[Instruction]:
        """What slowness.py has decided."""
        self.table.mark_slow(member, slow=slow)
        return self._settled(now_ms, [])

    def probe_soon(self, now_ms: int, member: str) -> None:
        """Something looks wrong with `member` (its link broke): it is probed next, and at once if no probe is under way."""
        if member in self.table:
            self._round = [member, *(other for other in self._round if other != member)]
            self._next_probe_ms = min(self._next_probe_ms, now_ms)
            if self._probe is not None and self._probe.answered:
                self._probe = None
            self._note_due(now_ms)

    def add(self, now_ms: int, member: str) -> None:
        """One more member; it is probed within a round."""
        if member not in self.table:
            self.table.add(member, now_ms)
            self._round.insert(self._rng.randint(0, len(self._round)), member)

    def remove(self, now_ms: int, member: str) -> None:
        """It is no member any more; nothing more is said of it or to it."""
        self.table.remove(member)
        self._rumours.forget(member)
        self._round = [other for other in self._round if other != member]
        self._dead_round = [other for other in self._dead_round if other != member]
        self._relays.forget(member)
        if self._probe is not None and self._probe.target == member:
            self._next_probe_ms = self._probe.ends_ms
            self._probe = None
        self._note_due(now_ms)

    # --- probes

    def _tick_probe(self, now_ms: int, out: list[Instruction]) -> None:
        probe = self._probe
        if probe is not None and now_ms >= probe.ends_ms:
            self._judge(probe, now_ms)
            self._probe = probe = None
            self._next_probe_ms = now_ms
        if probe is None and now_ms >= self._next_probe_ms:
            self._begin_probe(now_ms, out)
        elif probe is not None and probe.relays_at_ms is not None and now_ms >= probe.relays_at_ms:
            probe.relays_at_ms = None
            if not probe.answered:
                self._ask_relays(probe, out)

    def _begin_probe(self, now_ms: int, out: list[Instruction]) -> None:
        """The next of the living, and one of the dead."""
        interval_ms = self.health.scaled_ms(self.timing.probe_interval_ms)
        self._next_probe_ms = now_ms + interval_ms
        dead = self._next_of(self._dead_round, dead=True)
        if dead is not None:
            out.append(Send(dead, Ping(self._number(), dead, self._claims_for(dead))))
        target = self._next_of(self._round, dead=False)
        if target is None:
            return
        timeout_ms = self.health.scaled_ms(self.timing.probe_timeout_ms)
        self._probe = _Probe(target, self._number(), now_ms, now_ms + timeout_ms, now_ms + interval_ms)
        out.append(Send(target, Ping(self._probe.sequence, target, self._claims_for(target))))

    def _next_of(self, waiting: list[str], *, dead: bool) -> str | None:
        """The next member of a round, shuffled anew when it is over: nobody waits for longer than two rounds (SWIM, section
        4.3)."""
        fits = {member for member in self.table.others if (self.table.claim(member).state is State.DEAD) is dead}
        waiting[:] = [member for member in waiting if member in fits]
        if not waiting:
            waiting[:] = sorted(fits)
            self._rng.shuffle(waiting)
        return waiting.pop(0) if waiting else None

    def _ask_relays(self, probe: _Probe, out: list[Instruction]) -> None:
        others = [
            member for member in self.table.others if member != probe.target and self.table.claim(member).state is not State.DEAD
        ]
        probe.relays = self._rng.sample(others, min(self.timing.indirect_probes, len(others)))
        out += [Send(relay, PingRequest(probe.sequence, probe.target, self._claims_for(relay))) for relay in probe.relays]

    def _judge(self, probe: _Probe, now_ms: int) -> None:
        if probe.answered:
            return
        # Relays that say no vouch for us: we are heard. Those that say nothing speak against us (Lifeguard, LHA-Probe).
        vouched = self.timing.nacks and bool(probe.relays)
        self.health.note(len(probe.relays) - len(probe.nacks) if vouched else 1)
        held = self.table.claim(probe.target)
        if held.state is not State.DEAD:
            self._believe(Claim(probe.target, State.SUSPECT, held.incarnation, self.me), now_ms)

    def _take_ack(self, now_ms: int, sender: str, sequence: int, out: list[Instruction]) -> None:
        probe, relay = self._probe, self._relays.answered(sequence, sender)
        if relay is not None:
            out.append(Send(relay.asker, Ack(relay.sequence, self._claims_for(relay.asker))))
        elif probe is not None and probe.sequence == sequence and sender in (probe.target, *probe.relays):
            if sender == probe.target:
                out.append(RoundTrip(sender, now_ms - probe.sent_ms))
            if not probe.answered:
                probe.answered = True
                self.health.note(-1)

    # --- pings for others

    def _relay(self, now_ms: int, asker: str, sequence: int, target: str, out: list[Instruction]) -> None:
        if target not in self.table or self._relays.is_full:
            out.append(Send(asker, Nack(sequence, self._claims_for(asker))))
            return
        mine = self._number()
        # Four fifths of the timeout, as memberlist has it: the nack has to be back in time.
        nack_at_ms = now_ms + self.timing.probe_timeout_ms * 4 // 5
        self._relays.add(mine, Relay(asker, sequence, target, nack_at_ms, now_ms + 2 * self.timing.probe_interval_ms))
        out.append(Send(target, Ping(mine, target, self._claims_for(target))))

    def _tick_relays(self, now_ms: int, out: list[Instruction]) -> None:
        due = self._relays.unanswered(now_ms)
        if self.timing.nacks:
            out += [Send(relay.asker, Nack(relay.sequence, self._claims_for(relay.asker))) for relay in due]

    def _excuse(self, now_ms: int, late_ms: int) -> None:
        """We stood still: our probe is void, suspects get the time back, and we trust ourselves less."""
        self.health.note(1)
        self.table.excuse(late_ms)
        self._relays.clear()
        if self._probe is not None:
            self._probe = None
            self._next_probe_ms = now_ms

    # --- claims

    def _tick_gossip(self, now_ms: int, out: list[Instruction]) -> None:
        alive = [member for member in self.table.others if self.table.claim(member).state is not State.DEAD]
        if now_ms >= self._next_sync_ms:
            self._next_sync_ms = now_ms + self.timing.sync_interval_ms
            if alive:
                out.append(Send(self._rng.choice(alive), Gossip(self._all_claims(), sync=True, answer=True)))
        if now_ms >= self._next_gossip_ms and self._rumours:
            self._next_gossip_ms = now_ms + self.timing.gossip_interval_ms
            chosen = self._rng.sample(alive, min(self.timing.gossip_nodes, len(alive)))
            out += [Send(member, Gossip(self._claims_for(member))) for member in chosen]

    def _hear(self, claim: Claim, now_ms: int, out: list[Instruction]) -> None:
        if claim.member != self.me:
            self._believe(claim, now_ms)
        elif claim.incarnation <= INCARNATION_MAX and claim.strength > (self.incarnation, State.ALIVE):
            if claim.state is not State.ALIVE and not self._own.is_answered(claim.incarnation):
                self.health.note(1)  # accused: perhaps we are the slow one (Lifeguard, section IV.A)
            if self._own.refute(claim.incarnation):
                self._rumours.spread(self._own_claim())
            # Ahead of need, so that the next refutation need not wait for the disk.
            if (up_to := self._own.due()) is not None:
                out.append(Reserve(up_to))

    def _believe(self, claim: Claim, now_ms: int) -> None:
        if self.table.believe(claim, now_ms):
            self._rumours.spread(claim)

    def _own_claim(self) -> Claim:
        return Claim(self.me, State.ALIVE, self.incarnation, self.me)

    def _claims_for(self, receiver: str) -> Claims:
        """Our own claim, what we say of the receiver unless it is alive (Lifeguard, Buddy System), and rumours."""
        first = [self._own_claim()]
        held = self.table.claim(receiver)
        if held.state is not State.ALIVE:
            first.append(held)
        rumours = self._rumours.take(self.timing.claims_per_message_max - len(first), retransmits_max(self.timing, self.table.size))
        return (*first, *(claim for claim in rumours if claim not in first))

    def _all_claims(self) -> Claims:
        return (self._own_claim(), *self.table.claims())

    def _number(self) -> int:
        self._sequence += 1
        return self._sequence

    def _settled(self, now_ms: int, out: list[Instruction]) -> list[Instruction]:
        self._note_due(now_ms)
        return [*out, *self.table.settle(now_ms)]

    def _note_due(self, now_ms: int) -> None:
        """What an event wants may be overdue already by the clock; it is late from now on. A tick that is overdue stays so."""
        if self._due_ms >= now_ms:
            self._due_ms = max(now_ms, self.wake_ms)

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation, after any event."""
        self.table.check()
        self._own.check()
        assert 0 <= self.health.score <= self.health.highest
        assert len(self._rumours) <= self.table.size
        if self._probe is not None:
            assert self._probe.target in self.table and self._probe.nacks <= set(self._probe.relays)
