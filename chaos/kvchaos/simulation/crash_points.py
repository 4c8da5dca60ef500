"""Kills nodes at named places of their background work (kvstore/crash_points.py): what a schedule's fault `crash_at` asks for.

The node is gone at the place itself: nothing that stands behind it in the code runs, and what no sync has covered by then is lost
or kept as the disk draws it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from kvchaos.simulation.patch import Patch
from kvstore.crash_points import POINTS, CrashPoint
from kvstore.simulation.process import OWNER
from kvstore.simulation.world import World


@dataclass(slots=True)
class _Armed:
    point: str
    left: int
    fire: Callable[[str], None]


class CrashPoints:
    """Those of one world. `passings` counts how often each was passed, by any node."""

    def __init__(self, world: World, patch: Patch) -> None:
        self._world = world
        self._armed: list[_Armed] = []
        self.passings: Counter[str] = Counter()
        points = self

        async def passed(point: CrashPoint) -> None:
            await points._pass(point)

        patch.set(CrashPoint, "passed", passed)

    def arm(self, point: str, *, passing: int, fire: Callable[[str], None]) -> Callable[[], None]:
        """Calls `fire` with the node that is about to pass `point`, the `passing`th time that any does from now on; it has to kill
        it. Returns how to disarm."""
        armed = _Armed(point, passing, fire)
        self._armed.append(armed)
        return lambda: self._armed.remove(armed) if armed in self._armed else None

    async def _pass(self, point: CrashPoint) -> None:
        self.passings[point.name] += 1
        process = OWNER.get()
        for armed in list(self._armed):
            if armed.point != point.name:
                continue
            armed.left -= 1
            if not armed.left:
                self._armed.remove(armed)
                armed.fire(process.name)
                break
        if not process.is_alive:
            await self._world.loop.create_future()  # for ever: the process is gone


def points_of(*jobs: str) -> list[str]:
    """The names of all points of these jobs, which may be points themselves, in the order in which they are defined."""
    return [name for name, point in POINTS.items() if point.job in jobs or name in jobs]
