"""Steps of background work that a crash takes back: found where a node is killed at a named point of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.repair.unnoted import Unnoted


@bug(
    "crash-takes-hints",
    "who missed a write is noted after the reply; after a crash nobody looks for it (safety rule 11)",
    scenario="crash-in-missed-write",
)
def forget_who_missed(patch: Patch) -> None:
    """Enough replicas have the write, one has not, and without an interval nothing ever tells it."""

    def init(self: Unnoted, engine: Any, committer: Any, others: Iterable[str], **_: bool) -> None:
        init_before(self, engine, committer, others, may_have_lost=False)

    init_before = patch.set(Unnoted, "__init__", init)
