"""What clients do at this moment, for whoever watches a run: operations a second, and on each side what was not answered so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kvchaos.scenarios.load import Load

INTERVAL_S = 0.5
RATES = "operations/s"


class Pulse:
    """Tells `say` of `phase` and of what goes on in it, no oftener than is worth reading. `title`: what stands before the
    figures."""

    def __init__(self, loads: Sequence[Load], say: Callable[[str, str], None], phase: str, title: str = "") -> None:
        self._loads = loads
        self._say = say
        self._phase = phase
        self._title = title
        self._now_s = asyncio.get_running_loop().time
        self._at_s = self._now_s()
        self._began = self._told()
        self._before = sum(self._began.values())
        self._failed = self._errors()

    def beat(self) -> None:
        """Tells, if it is time."""
        now_s = self._now_s()
        if now_s - self._at_s < INTERVAL_S:
            return
        count = sum(self._told().values())
        rate = (count - self._before) / (now_s - self._at_s)
        self._at_s, self._before = now_s, count
        errors = self._errors()
        sides = ", ".join(f"{site} {errors[site] - self._failed[site]:,}" for site in errors)
        self._say(self._phase, f"{self._title}{': ' if self._title else ''}{rate:,.0f} {RATES}, errors {sides}")

    def _told(self) -> dict[str, int]:
        return {site: sum(load.told[site, kind] for load in self._loads for kind in ("reads", "writes")) for site in self._sites()}

    def _errors(self) -> dict[str, int]:
        kinds = [(kind, outcome) for kind in ("reads", "writes") for outcome in ("fail", "info")]
        return {site: sum(load.done[site, *each] for load in self._loads for each in kinds) for site in self._sites()}

    def _sites(self) -> Sequence[str]:
        return self._loads[0].sites if self._loads else ()
