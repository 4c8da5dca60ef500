"""Looks at the links of another store: a question that each of its servers answers at once, put through the link and directly.

What is seen is less than of links to nodes of ours: of a cut one not which direction is lost, and of a throttled or truncated one
nothing, which is then a failure of the injector and never a pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from kvchaos.faults.expectations import Expectation, expected_of
from kvchaos.faults.link_state import Link
from kvchaos.faults.nodes import Condition, NodeProcesses
from kvchaos.faults.probes import PATIENCE_S, SILENCE_S, SLOW_SHARE
from kvchaos.faults.proxies import Proxies
from kvchaos.faults.verification import compare_with_server


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent, and how the answer begins."""

    send: bytes
    answer: bytes


HTTP_VERSION = Question(b"GET /version HTTP/1.1\r\nHost: kvchaos\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200")
REDIS_PING = Question(b"PING\r\n", b"+PONG")


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen: refused, answered after so many seconds, closed without that answer, or nothing."""

    refused: bool = False
    answered: bool = False
    closed: bool = False
    took_s: float = 0.0


async def ask(address: str, question: Question, *, timeout_s: float = PATIENCE_S) -> Sight:
    """Puts the question on a connection of its own."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, int(port))
            try:
                writer.write(question.send)
                said = await reader.readexactly(len(question.answer))
            finally:
                writer.close()
    except ConnectionRefusedError:
        return Sight(refused=True)
    except (ConnectionError, asyncio.IncompleteReadError):
        return Sight(closed=True)
    except TimeoutError:
        return Sight()
    return Sight(answered=said == question.answer, closed=said != question.answer, took_s=loop.time() - began_s)


class Looker:
    """Compares links with what they should be; every server answers `question`."""

    def __init__(self, question: Question) -> None:
        self._question = question

    async def find_problems(self, proxies: Proxies, nodes: NodeProcesses, slow_before: Mapping[Link, Expectation]) -> list[str]:
        """See `kvchaos.faults.verification.find_problems`."""
        nodes.check()
        links = [link for link in proxies.routes if nodes.conditions[link.target] is Condition.RUNNING]
        problems = await compare_with_server(proxies)
        looks = [self._look(link, proxies, slow_before.get(link)) for link in links]
        problems += [f"{link}: {said}" for link, said in zip(links, await asyncio.gather(*looks), strict=True) if said]
        nodes.check()
        return problems

    async def _look(self, link: Link, proxies: Proxies, before: Expectation | None) -> str:
        expected, route = expected_of(proxies.states[link]), proxies.routes[link]
        direct = asyncio.ensure_future(ask(route.upstream, self._question))
        try:
            if expected.serves:
                seen = await ask(route.listen, self._question, timeout_s=PATIENCE_S + 2 * expected.round_trip_s)
            else:
                seen = await self._watch(route.listen, direct)
            if not (await direct).answered:
                return f"{link.target} does not answer at {route.upstream} itself"
        finally:
            direct.cancel()
            with suppress(asyncio.CancelledError):
                await direct
        return compare(seen, expected, before)

    async def _watch(self, address: str, until: asyncio.Future[Sight]) -> Sight:
        """What comes within the silence, and at least until `until` is done."""
        asked = asyncio.ensure_future(ask(address, self._question))
        await asyncio.wait([asked], timeout=SILENCE_S)
        await asyncio.wait([until])
        if asked.done():
            return asked.result()
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
        return Sight()


def compare(seen: Sight, expected: Expectation, before: Expectation | None = None) -> str:
    """The difference between what was seen and what should be, or "". `before`: how slow it was when last looked at. Pure."""
    if expected.kbytes_per_s:
        return "a throttle cannot be seen of this store"
    if expected.refused or seen.refused:
        return "" if expected.refused and seen.refused else "is refused" if seen.refused else "is not refused"
    if expected.breaks:
        return "" if seen.closed else "no connection is seen to break"
    if not expected.serves:
        return "" if not (seen.answered or seen.closed) else "is answered" if seen.answered else "is closed"
    if not seen.answered:
        return "is closed" if seen.closed else "is not answered"
    if seen.took_s < SLOW_SHARE * expected.round_trip_s:
        return f"an answer takes {seen.took_s * 1000:.0f} ms, at least {expected.round_trip_s * 1000:.0f} are due"
    if before is not None and not expected.round_trip_s and 0 < SLOW_SHARE * before.round_trip_s <= seen.took_s:
        return f"an answer takes {seen.took_s * 1000:.0f} ms, as if still {before.sentence()}"
    return ""
