"""Times what coordinators do: a batch whose deadline has passed must not occupy its node much longer.

The time a node was paused does not count. What a coordinator may do behind the deadline is bounded: a read that found a stale
replica listens for others a while, and a write's catching up ends with its commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kvchaos.history import Recorder
from kvchaos.simulation.patch import Patch
from kvproto.columns import OperationGroup
from kvstore.coordinator.coordinator import DEFAULT_TIMEOUT_MS, Coordinator
from kvstore.simulation.process import OWNER
from kvstore.simulation.world import World

SLACK_MS = 750


class Stopwatch:
    """Records an `overrun` for each batch that took too long; `paused` and `resumed` are told by whoever does it."""

    def __init__(self, world: World, recorder: Recorder, patch: Patch) -> None:
        self._world = world
        self._recorder = recorder
        self._pauses: dict[str, list[list[float]]] = {}

        async def execute(coordinator: Coordinator, groups: Sequence[OperationGroup], reply: Any, **options: Any) -> None:
            began_s = world.now_s
            try:
                await execute_before(coordinator, groups, reply, **options)
            finally:
                self._done(groups, began_s)

        execute_before = patch.set(Coordinator, "execute", execute)

    def paused(self, name: str) -> None:
        """The node does not run from now on."""
        self._pauses.setdefault(name, []).append([self._world.now_s, float("inf")])

    def resumed(self, name: str) -> None:
        """It does again."""
        for pause in self._pauses.get(name, []):
            pause[1] = min(pause[1], self._world.now_s)

    def _done(self, groups: Sequence[OperationGroup], began_s: float) -> None:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            return
        name, now_s = OWNER.get().name, self._world.now_s
        paused_s = sum(max(0.0, min(end, now_s) - max(start, began_s)) for start, end in self._pauses.get(name, []))
        given_ms = max(
            (ms or DEFAULT_TIMEOUT_MS for group in groups for ms in group.timeouts_ms or (0,)), default=DEFAULT_TIMEOUT_MS
        )
        took_ms = round((now_s - began_s - paused_s) * 1000)
        if took_ms > given_ms + SLACK_MS:
            value = {"took_ms": took_ms, "given_ms": given_ms}
            self._recorder.note("world", "info", "overrun", value=value, node=name)
