"""What the kernel does with the packets of each link: rules of iptables in the namespace of its target.

The injector of `LinkPlane` where there are namespaces. A link is the connections from one address to the ports of another, those
of gRPC and of frames: its requests come in at the target, its responses go out there. TCP sends again what was dropped, so a black
hole is a stall here: what was under way arrives after healing, unless its connection was given up meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kvchaos.faults.expectations import expected_of
from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_state import DOWNSTREAM, OPEN, UPSTREAM, Link, LinkState, is_stall
from kvchaos.netns.namespaces import inside

_COUNTED = re.compile(r"^(-A (?:INPUT|OUTPUT) .*?) -c (\d+) \d+( .*)$")


@dataclass(frozen=True, slots=True)
class Path:
    """Where a link comes from and leads to. `source`: the address that its packets have; `listen`: host:port of its target;
    `namespace` and `ports`: the target's, the latter as first:last."""

    source: str
    listen: str
    namespace: str
    ports: str


class Rule(NamedTuple):
    """One rule, as iptables itself would print it."""

    namespace: str
    text: str


class Rules:
    """The links of a cluster, all open at first. Not for several tasks at once."""

    def __init__(self, routes: Mapping[Link, Path]) -> None:
        self.routes = dict(routes)
        self.states = dict.fromkeys(routes, OPEN)
        self.restarts = 0

    def require(self, wanted: Mapping[Link, LinkState]) -> None:
        """Raises `ValueError` for what dropped packets cannot do."""
        for link, state in wanted.items():
            seen = expected_of(state)
            if seen.breaks or seen.round_trip_s or seen.kbytes_per_s:
                raise ValueError(f"{link}: namespaces cut links, and do not make them {seen.sentence()}")

    async def change(self, wanted: Mapping[Link, LinkState], *, stalled: Collection[Link] = ()) -> None:
        """Brings each link to its state. Raises `InjectorFailure`."""
        del stalled  # nothing here waits for a reader
        self.require(wanted)
        for link, state in wanted.items():
            before, after = self.rules(link, self.states[link]), self.rules(link, state)
            for rule in before:
                if rule not in after:
                    await _iptables(rule, "-D")
            for rule in after:
                if rule not in before:
                    await _iptables(rule, "-A")
            self.states[link] = state

    async def recover(self) -> None:
        """There is nothing that could be wedged."""
        raise AssertionError("iptables has no server that could be wedged")

    async def counts(self) -> dict[Rule, int]:
        """How many packets each rule has met, of all rules that there are, also of such as nobody ordered."""
        found: dict[Rule, int] = {}
        for namespace in sorted({path.namespace for path in self.routes.values()}):
            for line in (await asyncio.to_thread(inside, namespace, "iptables", "-w", "-S", "-v")).splitlines():
                if counted := _COUNTED.match(line):
                    found[Rule(namespace, counted.group(1) + counted.group(3))] = int(counted.group(2))
                elif line.startswith("-A"):
                    raise InjectorFailure(f"iptables tells {line!r}, which nobody understands")
        return found

    def rules(self, link: Link, state: LinkState) -> list[Rule]:
        """What makes a link be in `state`; the first of them meets whoever tries to connect."""
        path = self.routes[link]
        requests = f"-A INPUT -s {path.source}/32 -p tcp -m tcp --dport {path.ports}"
        responses = f"-A OUTPUT -d {path.source}/32 -p tcp -m tcp --sport {path.ports}"
        if not state.enabled:
            return [Rule(path.namespace, f"{requests} -j REJECT --reject-with tcp-reset")]
        lost = {toxic.stream for toxic in state.toxics if toxic.type == "timeout" or is_stall(toxic)}
        found = [Rule(path.namespace, f"{requests} -j DROP")] if UPSTREAM in lost else []
        return [*found, Rule(path.namespace, f"{responses} -j DROP")] if DOWNSTREAM in lost else found


async def _iptables(rule: Rule, verb: str) -> None:
    _, *words = rule.text.split()
    await asyncio.to_thread(inside, rule.namespace, "iptables", "-w", verb, *words)
