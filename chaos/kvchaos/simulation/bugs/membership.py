"""Failure detection that forgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.storage.incarnations import IncarnationLedger


@bug("incarnation-not-persisted", "incarnations are leased in memory only: a restarted node uses those of its last life again")
def forget_incarnations(patch: Patch) -> None:
    """What was said of the last life is then believed of this one, until it has refuted it."""

    def reserve(self: IncarnationLedger, up_to: int, done: Callable[[int], None]) -> None:
        self.reserved = max(self.reserved, up_to)
        asyncio.get_running_loop().call_soon(done, self.reserved)

    patch.set(IncarnationLedger, "reserve", reserve)
