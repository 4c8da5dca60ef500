"""Everything that is to be said of a setting, gathered."""

from __future__ import annotations

from dataclasses import dataclass

from kvclient.dial.costs import Cost, cost_of
from kvclient.dial.promises import Promise, promise_of
from kvclient.dial.setting import EVENTUAL, Setting
from kvclient.dial.staleness import Legs, Staleness, predict
from kvclient.dial.survival import Outcome, in_a_zone, outcome, survived_disks


@dataclass(frozen=True, slots=True)
class Advice:
    """`away[k]`: with k of the n home replicas away. `zone`: with one of the zones away; None: there are none. `sides`: of a cut
    that leaves the larger part of the replicas on one side, both. `staleness` None: of this mode it is not predicted."""

    setting: Setting
    promise: Promise
    away: tuple[Outcome, ...]
    zone: Outcome | None
    sides: tuple[Outcome, Outcome]
    survived_disks: int
    cost: Cost
    staleness: Staleness | None


def advise(setting: Setting, *, zones: int = 0, legs: Legs | None = None) -> Advice:
    """`zones`: how many the nodes lie in, 0 for none; `legs`: for staleness, which is not told without."""
    n = setting.n
    larger = n // 2 + 1
    stale = legs is not None and setting.mode == EVENTUAL
    return Advice(
        setting=setting,
        promise=promise_of(setting),
        away=tuple(outcome(setting, n - away) for away in range(n + 1)),
        zone=outcome(setting, n - in_a_zone(n, zones)) if zones > 1 else None,
        sides=(outcome(setting, larger), outcome(setting, n - larger)),
        survived_disks=survived_disks(setting),
        cost=cost_of(setting),
        staleness=predict(n, setting.r, setting.w, legs) if stale and legs is not None else None,
    )
