"""How long to wait before a member is called dead, and how far to trust our own judgement: pure functions of the configuration.

Lifeguard's three ideas (Dadgar et al., 2017, section IV): a node whose own probes go unanswered suspects itself first and slows
down (`LocalHealth`); a suspicion starts with a long timeout that each independent confirmation shortens (`suspicion_timeout_ms`);
and a suspect is told so at once (detector.py). `Flapping` is ours: a member that keeps coming back is avoided for a while, by a
penalty that decays, as routers damp routes (RFC 2439). Called by table.py and detector.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp2, log, log10


@dataclass(slots=True, frozen=True, kw_only=True)
class Timing:
    """The configuration of failure detection. The defaults suit a data centre; formulas stand at the functions below.

    health_max: the local health score's highest value; 0 never doubts itself. suspicion_max_mult 1: no confirmation shortens
    anything. Both together with `nacks` off are plain SWIM (Das et al., 2002), which tests compare with.
    """

    probe_interval_ms: int = 1_000
    probe_timeout_ms: int = 500
    indirect_probes: int = 3
    nacks: bool = True
    suspicion_mult: int = 4
    suspicion_max_mult: int = 6
    health_max: int = 7
    retransmit_mult: int = 4
    gossip_interval_ms: int = 200
    gossip_nodes: int = 3
    claims_per_message_max: int = 32
    sync_interval_ms: int = 30_000
    stall_ms: int = 500
    flap_half_life_ms: int = 60_000

    def __post_init__(self) -> None:
        assert 0 < self.probe_timeout_ms < self.probe_interval_ms, "the indirect probes need the rest of the interval"
        assert self.suspicion_mult >= 1 and self.suspicion_max_mult >= 1 and self.retransmit_mult >= 1
        assert self.gossip_interval_ms > 0 and self.sync_interval_ms > 0 and self.stall_ms > 0 and self.flap_half_life_ms > 0
        assert self.claims_per_message_max >= 2, "one's own claim, and another"


LAN = Timing()
LOCAL = Timing(
    probe_interval_ms=200,
    probe_timeout_ms=80,
    gossip_interval_ms=50,
    sync_interval_ms=5_000,
    stall_ms=200,
    flap_half_life_ms=10_000,
)
WAN = Timing(probe_interval_ms=5_000, probe_timeout_ms=3_000, suspicion_mult=6, gossip_interval_ms=500, sync_interval_ms=60_000)

TIMINGS = {"lan": LAN, "local": LOCAL, "wan": WAN}
"""By the names that node.toml knows them by."""


def confirmations_max(timing: Timing, members: int) -> int:
    """How many other accusers shorten a suspicion: suspicion_mult - 2, as memberlist has it, if there are so many others."""
    return max(0, min(timing.suspicion_mult - 2, members - 2))


def suspicion_min_ms(timing: Timing, members: int) -> float:
    """suspicion_mult * max(1, log10 n) * probe_interval: long enough for gossip to reach the suspect, and its answer us."""
    return timing.suspicion_mult * max(1.0, log10(max(1, members))) * timing.probe_interval_ms


def suspicion_timeout_ms(timing: Timing, members: int, confirmations: int) -> int:
    """max - (max - min) * log(c + 1) / log(k + 1) after c of k confirmations; min where nobody can confirm.

    `members` counts us. Lifeguard, LHA-Suspicion.
    """
    least = suspicion_min_ms(timing, members)
    k = confirmations_max(timing, members)
    if k == 0:
        return ceil(least)
    most = timing.suspicion_max_mult * least
    return ceil(max(least, most - (most - least) * log(confirmations + 1) / log(k + 1)))


def retransmits_max(timing: Timing, members: int) -> int:
    """retransmit_mult * ceil(log10(n + 1)): how often one claim is passed on (SWIM, section 4.1, lambda log n)."""
    return timing.retransmit_mult * ceil(log10(members + 1))


class LocalHealth:
    """How far we trust ourselves: 0, healthy, to `highest`. Timeouts and intervals of our probes are multiplied by the score plus
    1."""

    __slots__ = ("highest", "score")

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.score = 0

    def note(self, change: int) -> None:
        """A failed probe, a relay that did not even say no, a suspicion of us: worse by one each. An answered probe: better by
        one."""
        self.score = min(self.highest, max(0, self.score + change))

    def scaled_ms(self, duration_ms: int) -> int:
        """`duration_ms` as long as our health makes it."""
        return duration_ms * (self.score + 1)


DAMP_ABOVE = 2.5
REUSE_BELOW = 1.0
PENALTY_MAX = 4.0


class Flapping:
    """A penalty of 1 for each return from the dead, halved every `half_life_ms`. Damped from more than 2.5 until less than 1.

    So the third return within a half-life damps, and nobody is damped for longer than two half-lives after the last one.
    """

    __slots__ = ("_at_ms", "_penalty", "damped", "half_life_ms", "returns")

    def __init__(self, half_life_ms: int) -> None:
        self.half_life_ms = half_life_ms
        self.damped = False
        self.returns = 0
        self._penalty = 0.0
        self._at_ms = 0

    def returned(self, now_ms: int) -> None:
        """The member came back."""
        self.returns += 1
        self._penalty = min(PENALTY_MAX, self._decayed(now_ms) + 1)
        self._at_ms = now_ms
        self.damped = self.damped or self._penalty > DAMP_ABOVE

    def settle(self, now_ms: int) -> None:
        """Ends the damping once the penalty has decayed."""
        if self.damped and self._decayed(now_ms) < REUSE_BELOW:
            self.damped = False

    def _decayed(self, now_ms: int) -> float:
        return self._penalty * exp2((self._at_ms - now_ms) / self.half_life_ms)
