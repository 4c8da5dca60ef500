"""The dial in words: what a setting of n, r, w, sloppiness and level promises, survives, and costs. Pure.

    advise(Setting.of_preset("pa-ec")).promise.name      # "regular while nothing says degraded"

`setting` holds what can be chosen and refuses what cannot, `promises` what is promised under which name, `survival` what goes on
when nodes, a zone or links are away, `costs` the round trips, `staleness` how old a read may be (PBS). `kv dial` prints it, and the
tables of docs/consistency.md are made of it.
"""

from __future__ import annotations

from kvclient.dial.advice import Advice, advise
from kvclient.dial.costs import Cost, cost_of
from kvclient.dial.promises import Promise, promise_of
from kvclient.dial.setting import PRESETS, Kept, Level, Setting, settings
from kvclient.dial.staleness import Legs, Staleness, predict
from kvclient.dial.survival import Answer, Outcome, outcome, survived_disks

__all__ = [
    "PRESETS",
    "Advice",
    "Answer",
    "Cost",
    "Kept",
    "Legs",
    "Level",
    "Outcome",
    "Promise",
    "Setting",
    "Staleness",
    "advise",
    "cost_of",
    "outcome",
    "predict",
    "promise_of",
    "settings",
    "survived_disks",
]
