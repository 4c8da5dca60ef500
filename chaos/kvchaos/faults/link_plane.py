"""The fault plane over real nodes and whatever injects faults of their links: proxies, or rules of the kernel.

Turns calls into link states, has them applied (`Injector`) and looked at (`Look`), and writes all of it into the history:
each call twice, with `phase` begin and then active or failed. A server that is wedged is replaced: to heal that is enough, since
every link is open then; whoever was injecting a fault gets an `InjectorFailure`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from kvchaos.disks.damage import flip_in_log, flip_in_tables, shorten_table
from kvchaos.faults import link_state, probes
from kvchaos.faults.expectations import Expectation, expected_of
from kvchaos.faults.failures import InjectorFailure, InjectorWedged
from kvchaos.faults.link_state import OPEN, Direction, Kind, Link, LinkState
from kvchaos.faults.nodes import Condition, NodeProcesses
from kvchaos.faults.verification import find_problems, find_wrong_clocks
from kvchaos.history import Recorder
from kvchaos.processes import FaultFailed

Look = Callable[[Any, NodeProcesses, Mapping[Link, Expectation]], Awaitable[list[str]]]
"""Of an injector, nodes, and links that were slow when they were last looked at: a sentence for each that is not as it should
be."""


class Injector(Protocol):
    """Brings links to states. `routes`: every link there is; `states`: what was done to each; `restarts`: how often it was
    wedged."""

    states: dict[Link, LinkState]
    restarts: int

    @property
    def routes(self) -> Mapping[Link, Any]:
        """The way of each link: `listen` is the address at which its source reaches its target."""

    def require(self, wanted: Mapping[Link, LinkState]) -> None:
        """Raises `ValueError` for what it cannot do."""

    async def change(self, wanted: Mapping[Link, LinkState], *, stalled: Collection[Link] = ()) -> None:
        """Brings each link to its state; `stalled`: their receivers may not read. Raises `InjectorWedged`, `InjectorFailure`."""

    async def recover(self) -> None:
        """Another one in place of one that is wedged, every link open."""


class LinkPlane:
    """Implements `FaultPlane`. `injector` and `nodes` are open; whoever opened them closes them. `look` finds what is not as it
    should be; by default with eyes for nodes of ours behind proxies."""

    def __init__(self, injector: Injector, nodes: NodeProcesses, recorder: Recorder, *, look: Look = find_problems) -> None:
        self.unseen: list[str] = []
        self._injector = injector
        self._nodes = nodes
        self._recorder = recorder
        self._look = look
        self._slow_before: dict[Link, Expectation] = {}

    @property
    def node_ids(self) -> tuple[str, ...]:
        """See `FaultPlane`."""
        return self._nodes.node_ids

    # --- links

    async def partition(
        self, groups: Sequence[Sequence[str]], *, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH
    ) -> None:
        """See `FaultPlane`."""
        value = {"groups": [list(group) for group in groups], "kind": kind.value, "direction": direction.value}
        await self._inject("partition", value, crossing(groups, self._injector.routes), _cutter(kind, direction))

    async def isolate(self, node: str, *, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH) -> None:
        """See `FaultPlane`."""
        self._require(node)
        others = [other for other in self.node_ids if other != node]
        value = {"node": node, "kind": kind.value, "direction": direction.value}
        await self._inject("isolate", value, crossing([[node], others], self._injector.routes), _cutter(kind, direction))

    async def bridge(self, node: str, *, kind: Kind = Kind.BLACKHOLE) -> None:
        """See `FaultPlane`."""
        self._require(node)
        others = [other for other in self.node_ids if other != node]
        halves = [others[: len(others) // 2], others[len(others) // 2 :]]
        value = {"node": node, "groups": halves, "kind": kind.value}
        await self._inject("bridge", value, crossing(halves, self._injector.routes), _cutter(kind, Direction.BOTH))

    async def cut(self, *links: Link, kind: Kind = Kind.BLACKHOLE, direction: Direction = Direction.BOTH) -> None:
        """See `FaultPlane`."""
        value = {"links": list(map(str, links)), "kind": kind.value, "direction": direction.value}
        await self._inject("cut", value, links, _cutter(kind, direction))

    async def delay(self, link: Link, ms: int) -> None:
        """See `FaultPlane`."""
        await self._inject("delay", {"link": str(link), "ms": ms}, [link], lambda state: link_state.delayed(state, ms))

    async def throttle(self, link: Link, kbytes_per_s: int) -> None:
        """See `FaultPlane`."""
        value = {"link": str(link), "kbytes_per_s": kbytes_per_s}
        await self._inject("throttle", value, [link], lambda state: link_state.throttled(state, kbytes_per_s))

    async def reset(self, link: Link) -> None:
        """See `FaultPlane`."""
        await self._inject("reset", {"link": str(link)}, [link], link_state.resetting)

    async def truncate(self, link: Link, size_bytes: int, *, direction: Direction = Direction.RESPONSES) -> None:
        """See `FaultPlane`."""
        value = {"link": str(link), "size_bytes": size_bytes, "direction": direction.value}
        await self._inject("truncate", value, [link], lambda state: link_state.truncated(state, size_bytes, direction))

    # --- processes

    async def pause(self, node: str) -> None:
        """See `FaultPlane`."""
        async with self._noted("pause", {"node": node}):
            await self._nodes.pause(node)

    async def resume(self, node: str) -> None:
        """See `FaultPlane`."""
        async with self._noted("resume", {"node": node}):
            await self._nodes.resume(node)

    async def kill(self, *nodes: str) -> None:
        """See `FaultPlane`."""
        async with self._noted("kill", {"nodes": list(nodes)}):
            await self._nodes.kill(*nodes)

    async def restart(self, *nodes: str) -> None:
        """See `FaultPlane`."""
        async with self._noted("restart", {"nodes": list(nodes)}):
            await self._nodes.restart(*nodes)

    async def wipe(self, node: str) -> None:
        """See `FaultPlane`."""
        async with self._noted("wipe", {"node": node}):
            await self._nodes.wipe(node)

    async def cut_power(self, *nodes: str) -> None:
        """See `FaultPlane`."""
        async with self._noted("cut_power", {"nodes": list(nodes)}) as told:
            told["lost_bytes"] = await self._nodes.cut_power(*nodes)

    async def flip(self, node: str, part: str) -> None:
        """See `FaultPlane`."""
        self._require(node)
        how = {"tables": flip_in_tables, "log": flip_in_log}[part]
        async with self._noted("flip", {"node": node, "part": part}) as told:
            told["done"] = str(await self._nodes.damage(node, how))

    async def shorten(self, node: str) -> None:
        """See `FaultPlane`."""
        self._require(node)
        if self._nodes.conditions[node] is not Condition.DOWN:
            raise ValueError(f"{node} has its tables mapped: it must be down")
        async with self._noted("shorten", {"node": node}) as told:
            told["done"] = str(await self._nodes.damage(node, shorten_table))

    async def skew(self, node: str, seconds: float) -> None:
        """See `FaultPlane`."""
        async with self._noted("skew", {"node": node, "seconds": seconds}):
            self.unseen.append("skew")
            self._nodes.skew(node, round(seconds * 1000))

    # --- healing and looking

    async def heal(self, *, unseen_ok: bool = False) -> None:
        """See `FaultPlane`. Nodes go on first: taking toxics off a link whose receiver stands still is what wedges the server."""
        unseen, self.unseen = self.unseen, []
        restarts = self._injector.restarts
        async with self._noted("heal", {"unseen": unseen}) as told:
            for node, condition in self._nodes.conditions.items():
                if condition is Condition.PAUSED:
                    await self._nodes.resume(node)
            for node, offset_ms in self._nodes.clocks_ms.items():
                if offset_ms:
                    self._nodes.skew(node, 0)
            touched = [link for link, state in self._injector.states.items() if state != OPEN]
            for link in touched:
                former = expected_of(self._injector.states[link])
                if probes.least_s(former):
                    self._slow_before[link] = former
            try:
                await self._injector.change(dict.fromkeys(touched, OPEN))
            except InjectorWedged:
                await self._injector.recover()
            told["injector_restarted"] = self._injector.restarts > restarts
            self.unseen = ["heal"] if touched else []
            if unseen and not unseen_ok:
                raise InjectorFailure(f"healed without having been seen: {', '.join(unseen)}")

    async def verify(self) -> None:
        """See `FaultPlane`. Links first, by what the server says of each and by probes; then what the nodes themselves believe."""
        async with self._noted("verify", {"links": self._shown()}):
            problems = await self._look(self._injector, self._nodes, self._slow_before)
            problems += await find_wrong_clocks(self._nodes)
            if problems:
                raise InjectorFailure("; ".join(problems))
            self.unseen = []
            self._slow_before.clear()

    # --- inside

    async def _inject(self, f: str, value: dict[str, Any], links: Iterable[Link], change: Callable[[LinkState], LinkState]) -> None:
        chosen = list(links)
        if unknown := [str(link) for link in chosen if link not in self._injector.routes]:
            raise ValueError(f"no such link: {', '.join(unknown)}")
        if not chosen:
            raise ValueError(f"{f}: there is no such link")
        wanted = {link: change(self._injector.states[link]) for link in chosen}
        self._injector.require(wanted)
        async with self._noted(f, value):
            self.unseen.append(f)
            paused = {node for node, condition in self._nodes.conditions.items() if condition is Condition.PAUSED}
            stalled = [link for link in chosen if paused & {link.source, link.target}]
            try:
                await self._injector.change(wanted, stalled=stalled)
            except InjectorWedged as error:
                await self._injector.recover()
                raise InjectorFailure(f"{error}; it was started again, every link is open") from error

    @asynccontextmanager
    async def _noted(self, f: str, value: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Brackets a call with its two events; what the body adds to what it is given is part of the second."""
        told = dict(value)
        self._recorder.fault(f, {**told, "phase": "begin"})
        try:
            yield told
        except FaultFailed as error:
            self._recorder.fault(f, {**told, "phase": "failed", "error": str(error)})
            raise
        self._recorder.fault(f, {**told, "phase": "active"})

    def _require(self, node: str) -> None:
        if node not in self.node_ids:
            raise ValueError(f"no node {node!r}: there are {', '.join(self.node_ids)}")

    def _shown(self) -> dict[str, str]:
        return {str(link): expected_of(state).sentence() for link, state in self._injector.states.items() if state != OPEN}


def crossing(groups: Sequence[Sequence[str]], links: Iterable[Link]) -> list[Link]:
    """The links from one group to another. Raises `ValueError` for a name that is in two groups, or that no link has."""
    group_of: dict[str, int] = {}
    known = list(links)
    names = {name for link in known for name in (link.source, link.target)}
    for number, group in enumerate(groups):
        for name in group:
            if name not in names:
                raise ValueError(f"{name!r} is neither a node nor a site of clients: there are {', '.join(sorted(names))}")
            if group_of.setdefault(name, number) != number:
                raise ValueError(f"{name!r} is in two groups")
    return [
        link
        for link in known
        if group_of.get(link.source, -1) != group_of.get(link.target, -1) >= 0 <= group_of.get(link.source, -1)
    ]


def _cutter(kind: Kind, direction: Direction) -> Callable[[LinkState], LinkState]:
    return lambda state: link_state.cut(state, kind, direction)
