"""Whether links are as they should be: by what the injector's server says, by probes through them, and by what the nodes believe.

All three, because each alone can be wrong: a setting need not act, a probe's connection is not a node's, and a node that goes past
its proxy sees no fault at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

import grpc

from kvchaos.faults import probes
from kvchaos.faults.expectations import Expectation, expected_of
from kvchaos.faults.failures import InjectorWedged
from kvchaos.faults.link_state import Link, LinkState, Toxic
from kvchaos.faults.nodes import Condition, NodeProcesses
from kvchaos.faults.proxies import Proxies

VIEWS_TIMEOUT_S = 15.0
VIEWS_INTERVAL_S = 0.05
ROUND_TRIP_KNOWN_S = 0.5
"""Nodes give up greeting a peer after a second: whether they take one that is slower for alive is not claimed."""
KBYTES_KNOWN_PER_S = 50
CLOCK_KNOWN_MS = 2000
"""A node that is asked may take so long to answer."""


async def find_problems(proxies: Proxies, nodes: NodeProcesses, slow_before: Mapping[Link, Expectation]) -> list[str]:
    """A sentence for each link that is not as `proxies` say, and for each node that does not see what it should.

    `slow_before`: links that were slow when they were last looked at, and what was seen then. Raises `NodeDied`.
    """
    nodes.check()
    # Behind a target that is down or paused there is nothing to be seen.
    links = [link for link in proxies.routes if nodes.conditions[link.target] is Condition.RUNNING]
    problems = await compare_with_server(proxies)
    looks = [_look(link, proxies, nodes, slow_before.get(link)) for link in links]
    problems += [f"{link}: {said}" for link, said in zip(links, await asyncio.gather(*looks), strict=True) if said]
    if not problems:
        claims = {link: claim for link in links if (claim := claim_of(link, proxies.states[link], nodes)) is not None}
        problems = await wait_for_views(claims, nodes)
    nodes.check()  # what died meanwhile was not the injector's doing
    return problems


async def find_wrong_clocks(nodes: NodeProcesses) -> list[str]:
    """A sentence for each running node whose wall clock is not as wrong as it should be."""
    problems = []
    for node, offset_ms in nodes.clocks_ms.items():
        if nodes.conditions[node] is not Condition.RUNNING:
            continue
        try:
            told_ms = (await probes.describe(nodes.places[node].listen)).server_time_ms
        except grpc.aio.AioRpcError as error:
            problems.append(f"{node} does not tell what time it is: {error.code().name}")
            continue
        off_ms = told_ms - time.time() * 1000
        if abs(off_ms - offset_ms) > CLOCK_KNOWN_MS:
            problems.append(f"the clock of {node} should be {offset_ms / 1000:+g} s wrong and is {off_ms / 1000:+.1f} s wrong")
    return problems


async def compare_with_server(proxies: Proxies) -> list[str]:
    """A sentence for each link of which the injector's server says something else than `proxies`."""
    try:
        found = await proxies.found()
    except InjectorWedged as error:
        await proxies.recover()
        return [f"{error}; it was started again, every link is open"]
    return [f"{link}: the server has {found[link]}" for link, state in proxies.states.items() if not is_same(found[link], state)]


async def _look(link: Link, proxies: Proxies, nodes: NodeProcesses, before: Expectation | None) -> str:
    expected = expected_of(proxies.states[link])
    route, direct = proxies.routes[link], nodes.places[link.target].listen
    wrong = await probes.look(route.listen, link.target, direct, expected)
    if not wrong and before is not None and expected.serves and not probes.least_s(expected):
        wrong = await probes.look_healed(route.listen, before)
    if not wrong and route.frames is not None:
        wrong = await probes.look_at_frames(route.frames.listen, expected)
    return wrong and f"should be {expected.sentence()}, but {wrong}"


def claim_of(link: Link, state: LinkState, nodes: NodeProcesses) -> bool | None:
    """Whether the source of a link must take its target for alive; None where either may be."""
    if nodes.conditions.get(link.source) is not Condition.RUNNING:
        return None
    seen = expected_of(state)
    unsteady = seen.breaks or seen.round_trip_s > ROUND_TRIP_KNOWN_S or 0 < seen.kbytes_per_s < KBYTES_KNOWN_PER_S
    return None if unsteady else seen.serves


async def wait_for_views(claims: Mapping[Link, bool], nodes: NodeProcesses) -> list[str]:
    """Each node takes exactly those peers for alive that it can call; its pings need a while to notice."""
    wrong = ["the nodes do not tell what they see"]
    try:
        async with asyncio.timeout(VIEWS_TIMEOUT_S):
            while wrong := await _wrong_views(claims, nodes):  # noqa: ASYNC110 - nothing tells of it but asking
                await asyncio.sleep(VIEWS_INTERVAL_S)
    except TimeoutError:
        pass
    return wrong


async def _wrong_views(claims: Mapping[Link, bool], nodes: NodeProcesses) -> list[str]:
    wrong = []
    for source in sorted({link.source for link in claims}):
        try:
            status = await probes.status(nodes.places[source].listen)
        except grpc.aio.AioRpcError as error:
            nodes.check()
            wrong.append(f"{source} does not tell what it sees: {error.details()}")
            continue
        states = {peer: state for peer, state, _ in status.peers}
        wrong += [
            f"{source} takes {link.target} for {states.get(link.target)}"
            for link, alive in claims.items()
            if link.source == source and (states.get(link.target) == "alive") is not alive
        ]
    return wrong


def is_same(found: LinkState, wanted: LinkState) -> bool:
    """Whether the server has what it was told; it adds attributes of its own, which are 0."""
    return found.enabled == wanted.enabled and _by_name(found.toxics, found) == _by_name(wanted.toxics, found)


def _by_name(toxics: Iterable[Toxic], found: LinkState) -> dict[str, tuple[str, str, dict[str, int]]]:
    """Toxics by name, with every attribute that the server knows."""
    known = {toxic.name: dict.fromkeys(toxic.attributes, 0) for toxic in found.toxics}
    return {one.name: (one.type, one.stream, {**known.get(one.name, {}), **one.attributes}) for one in toxics}
