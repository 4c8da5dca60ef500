"""A scenario as data: which fault, how it is done and undone, who stands on which side, and what is promised there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.scenarios.cells import SERVE, Cell

Deed = Callable[[ProxiedCluster], Awaitable[None]]

NEAR, FAR = "near", "far"
"""The two sites of clients. What is near stands with n1 where there is a cut."""


class PromiseBroken(Exception):
    """A deed has seen a promise broken; the text says which and how."""


async def nothing(cluster: ProxiedCluster) -> None:
    """No fault."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """`inject` does it and returns when it was seen (`verify`), `lift` undoes it likewise. `promised` is by column and side; what
    is not named is served. `takes_copies`: copies of records are taken away, so that one holder fewer is left of each.
    `during_min`: operations of each kind and side that have to end while it lasts."""

    id: str
    title: str
    inject: Deed
    lift: Deed
    promised: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    nodes: int = 3
    takes_copies: bool = False
    controls: Sequence[str] = ()
    """Columns of which stale reads have to be seen meanwhile: the fault is there, and the checker can tell."""
    during_min: int = 25
    cluster: Mapping[str, str | int | float] = field(default_factory=dict)
    """Settings of [cluster] beside the usual ones."""
    hold_s: float = 0.0
    """It lasts at least so long."""
    recorded: bool = False
    """Whether nodes' power is cut: what they write and sync is written down."""

    def cell(self, column: str, side: str) -> Cell:
        """What is promised there."""
        return self.promised.get(column, {}).get(side, SERVE)
