"""The fault plane over a simulated world, as far as it has the calls: a case that is written against `FaultPlane` runs there too.

A world cuts what one machine sends another, whoever opened the connection; so a cut of one directed link, or of one direction
of it, cannot be had, nor can bytes be counted: those calls raise `ValueError`. What was done counts once the nodes' own views
show it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_state import Direction, Kind, Link
from kvchaos.history import Recorder
from kvstore.simulation.world import World

VIEWS_TIMEOUT_S = 15.0
VIEWS_INTERVAL_S = 0.05
ALL_WRITES = 1 << 30


class SimPlane:
    """The calls of `FaultPlane` that a world can do. Links are between nodes, and between nodes and clients by their names."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self.unseen: list[str] = []
        self._world = world
        self._recorder = recorder
        self._cut: set[frozenset[str]] = set()
        self._paused: set[str] = set()
        self._skewed: set[str] = set()

    @property
    def node_ids(self) -> tuple[str, ...]:
        """See `FaultPlane`."""
        return tuple(self._world.machines)

    # --- links

    async def partition(
        self, groups: Sequence[Sequence[str]], *, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH
    ) -> None:
        """See `FaultPlane`; both directions only."""
        if direction is not Direction.BOTH:
            _cannot("lose one direction of a connection")
        pairs = {
            frozenset((one, other))
            for at, group in enumerate(groups)
            for one in group
            for rest in groups[at + 1 :]
            for other in rest
            if {one, other} & {*self.node_ids}
        }
        with_value = {"groups": [list(group) for group in groups], "kind": kind.value}
        async with self._noted("partition", with_value):
            self._block(pairs, kind)

    async def isolate(self, node: str, *, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH) -> None:
        """See `FaultPlane`; both directions only."""
        self._require(node)
        await self.partition([[node], [other for other in self.node_ids if other != node]], kind=kind, direction=direction)

    async def bridge(self, node: str, *, kind: Kind = Kind.BLACKHOLE) -> None:
        """See `FaultPlane`."""
        self._require(node)
        others = [other for other in self.node_ids if other != node]
        await self.partition([others[: len(others) // 2], others[len(others) // 2 :]], kind=kind)

    async def cut(self, *links: Link, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH) -> None:
        """Not here."""
        _cannot("cut the connections that one node opens and no others")

    async def delay(self, link: Link, ms: int) -> None:
        """Not here: `World.set_link` is one way."""
        _cannot("delay one connection")

    async def throttle(self, link: Link, kbytes_per_s: int) -> None:
        """Not here."""
        _cannot("count bytes")

    async def reset(self, link: Link) -> None:
        """Not here: `World.reset` does so once."""
        _cannot("reset whatever is sent")

    async def truncate(self, link: Link, size_bytes: int, *, direction: Direction = Direction.RESPONSES) -> None:
        """Not here."""
        _cannot("count bytes")

    # --- processes and disks

    async def pause(self, node: str) -> None:
        """See `FaultPlane`."""
        self._require(node)
        async with self._noted("pause", {"node": node}):
            self._world.pause(node)
            self._paused.add(node)

    async def resume(self, node: str) -> None:
        """See `FaultPlane`."""
        self._require(node)
        async with self._noted("resume", {"node": node}):
            self._world.resume(node)
            self._paused.discard(node)

    async def kill(self, *nodes: str) -> None:
        """See `FaultPlane`: everything that was written is kept, synced or not."""
        await self._crash("kill", nodes, keep=ALL_WRITES)

    async def cut_power(self, *nodes: str) -> None:
        """See `FaultPlane`; as often as one likes."""
        await self._crash("cut_power", nodes, keep=0)

    async def restart(self, *nodes: str) -> None:
        """See `FaultPlane`."""
        async with self._noted("restart", {"nodes": list(nodes)}):
            for node in nodes:
                if node in self._world.running:
                    await self._world.stop(node)
                await self._world.restart(node, linked=False)

    async def wipe(self, node: str) -> None:
        """See `FaultPlane`."""
        self._require(node)
        if node in self._world.running:
            await self.kill(node)
        async with self._noted("wipe", {"node": node}):
            self._world.wipe(node)

    async def flip(self, node: str, part: str) -> None:
        """Not here: `World.disk` flips bits of records."""
        _cannot("damage files")

    async def shorten(self, node: str) -> None:
        """Not here."""
        _cannot("damage files")

    async def skew(self, node: str, seconds: float) -> None:
        """See `FaultPlane`."""
        self._require(node)
        async with self._noted("skew", {"node": node, "seconds": seconds}):
            self._world.skew(node, round(seconds * 1000))
            self._skewed.add(node)

    # --- healing and looking

    async def heal(self, *, unseen_ok: bool = False) -> None:
        """See `FaultPlane`."""
        unseen, self.unseen = self.unseen, []
        async with self._noted("heal", {"unseen": unseen}):
            self._world.heal_all()
            for node in self._skewed:
                self._world.skew(node, 0)
            self.unseen = ["heal"] if self._cut else []
            self._cut.clear()
            self._paused.clear()
            self._skewed.clear()
            if unseen and not unseen_ok:
                raise InjectorFailure(f"healed without having been seen: {', '.join(unseen)}")

    async def verify(self) -> None:
        """See `FaultPlane`: each node that runs takes for alive exactly those that it can call."""
        async with self._noted("verify", {"cut": sorted("-".join(sorted(pair)) for pair in self._cut)}):
            until_s = self._world.now_s + VIEWS_TIMEOUT_S
            while problems := self._problems():
                if self._world.now_s > until_s:
                    raise InjectorFailure("; ".join(problems))
                await self._world.sleep(VIEWS_INTERVAL_S)
            self.unseen = []

    # --- inside

    def _problems(self) -> list[str]:
        """Nodes that stand still see nobody, and say nothing."""
        up = [node for node in self._world.running if node not in self._paused]
        return [
            f"{node} takes {other} for {state}"
            for node in up
            for other, state, _ in self._world.machines[node].link_states()
            if (state == "alive") is not (other in up and frozenset((node, other)) not in self._cut)
        ]

    def _block(self, pairs: set[frozenset[str]], kind: Kind) -> None:
        if not pairs:
            raise ValueError("partition: there is no such link")
        self.unseen.append("partition")
        for pair in sorted(map(sorted, pairs)):
            for source, target in (pair, pair[::-1]):
                self._world.stall(source, target) if kind is Kind.STALL else self._world.cut(source, target)
            if kind is Kind.REFUSE:
                self._world.reset(*pair)
        self._cut |= pairs

    async def _crash(self, f: str, nodes: Sequence[str], *, keep: int) -> None:
        for node in nodes:
            self._require(node)
        async with self._noted(f, {"nodes": list(nodes)}):
            for node in nodes:
                self._world.crash(node, keep=keep)
                self._paused.discard(node)

    @asynccontextmanager
    async def _noted(self, f: str, value: Mapping[str, Any]) -> AsyncIterator[None]:
        self._recorder.fault(f, {**value, "phase": "begin"})
        try:
            yield
        except InjectorFailure as error:
            self._recorder.fault(f, {**value, "phase": "failed", "error": str(error)})
            raise
        self._recorder.fault(f, {**value, "phase": "active"})

    def _require(self, node: str) -> None:
        if node not in self.node_ids:
            raise ValueError(f"no node {node!r}: there are {', '.join(self.node_ids)}")


def _cannot(what: str) -> NoReturn:
    raise ValueError(f"a world cannot {what}")
