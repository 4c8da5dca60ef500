"""What every backend of the fault plane keeps, each a case over a cluster of three: toxiproxy, netns, processes and the simulation.

A backend that lacks a call has no such case; which ones those are is said where the cases are chosen (test_fault_plane.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.link_state import Kind
from kvclient import AsyncClient
from kvproto.errors import KvError

PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend at work. `client` makes a client at a site ("clients" or "apart"); `alive_at` tells whom a node takes for alive."""

    plane: Any
    client: Callable[[str], AsyncClient]
    alive_at: Callable[[str], Awaitable[set[str]]]
    now_s: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]

    @property
    def nodes(self) -> Sequence[str]:
        return list(self.plane.node_ids)

    async def views(self) -> list[set[str]]:
        """By node, in order."""
        return [await self.alive_at(node) for node in self.nodes]

    async def eventually(self, what: Callable[[], Awaitable[bool]], why: str) -> None:
        until_s = self.now_s() + PATIENCE_S
        while not await what():
            assert self.now_s() < until_s, why
            await self.sleep(0.05)


Case = Callable[[Subject], Awaitable[None]]

ALL_SEE_ALL = [{"n2", "n3"}, {"n1", "n3"}, {"n1", "n2"}]


async def an_isolated_node_and_the_others_do_not_see_each_other(subject: Subject) -> None:
    for kind in (Kind.BLACKHOLE, Kind.REFUSE):
        await subject.plane.isolate("n1", kind=kind)
        await subject.plane.verify()
        assert await subject.views() == [set(), {"n3"}, {"n2"}], kind
        await subject.plane.heal()
        await subject.plane.verify()
        assert await subject.views() == ALL_SEE_ALL, kind


async def no_batch_gets_past_a_cut_though_the_nodes_have_not_noticed_it(subject: Subject) -> None:
    """A read of all asks at once, over connections that are open: whichever carries batches between nodes has to be cut."""
    async with subject.client("clients") as client:
        for kind in (Kind.BLACKHOLE, Kind.REFUSE):
            await client.put("cut off", kind.value.encode(), level="all")
            await subject.plane.isolate("n1", kind=kind)
            with pytest.raises(KvError):
                await client.get("cut off", level="all", timeout_s=1.0)
            await subject.plane.verify()
            await subject.plane.heal()
            await subject.plane.verify()
            await subject.eventually(lambda kind=kind: _reads_all(client, "cut off", kind.value.encode()), "it is healed")  # type: ignore[misc]


async def a_bridge_sees_both_halves(subject: Subject) -> None:
    await subject.plane.bridge("n2")
    await subject.plane.verify()
    assert await subject.views() == [{"n2"}, {"n1", "n3"}, {"n2"}]
    await subject.plane.heal()
    await subject.plane.verify()


async def clients_of_one_site_are_cut_off_and_those_of_the_other_are_not(subject: Subject) -> None:
    async with subject.client("clients") as here, subject.client("apart") as apart:
        await apart.put("warm", b"1")
        await subject.plane.partition([["apart"], subject.nodes])
        with pytest.raises(KvError):
            await apart.put("cut", b"1", timeout_s=1.0)
        await here.put("cut", b"2")
        await subject.plane.verify()
        await subject.plane.heal()
        await subject.plane.verify()

        async def reads() -> bool:
            try:
                return b"2" in (await apart.get("cut", timeout_s=2.0)).values
            except KvError:
                return False

        await subject.eventually(reads, "the site that was cut off is back")


async def a_fault_that_is_healed_unseen_is_no_pass(subject: Subject) -> None:
    await subject.plane.isolate("n1", kind=Kind.REFUSE)
    with pytest.raises(InjectorFailure, match="healed without having been seen"):
        await subject.plane.heal()
    await subject.plane.verify()
    await subject.plane.isolate("n1", kind=Kind.REFUSE)
    await subject.plane.heal(unseen_ok=True)
    await subject.plane.verify()


async def what_is_no_node_is_refused(subject: Subject) -> None:
    with pytest.raises(ValueError, match="no node 'n9'"):
        await subject.plane.isolate("n9")


async def a_killed_node_comes_back_with_what_it_had(subject: Subject) -> None:
    async with subject.client("clients") as client:
        await client.put("killed", b"1", level="all")
        await subject.plane.kill("n1")
        await client.put("meanwhile", b"2")
        await subject.plane.restart("n1")
        await subject.eventually(lambda: _reads_all(client, "killed", b"1"), "what it had")
        await subject.eventually(lambda: _reads_all(client, "meanwhile", b"2"), "what it missed")


async def a_paused_node_is_missed_and_goes_on(subject: Subject) -> None:
    async with subject.client("clients") as client:
        await client.put("paused", b"1", level="all")
        await subject.plane.pause("n2")
        assert (await client.get("paused")).value == b"1"
        with pytest.raises(KvError):
            await client.get("paused", level="all", timeout_s=1.0)
        await subject.plane.resume("n2")
        await subject.eventually(lambda: _reads_all(client, "paused", b"1"), "it goes on")


async def a_wiped_node_is_rebuilt(subject: Subject) -> None:
    async with subject.client("clients") as client:
        await client.put("wiped", b"1", level="all")
        await subject.plane.wipe("n3")
        await subject.plane.restart("n3")
        await subject.eventually(lambda: _reads_all(client, "wiped", b"1"), "the others have filled it")


async def what_was_acknowledged_outlives_a_power_cut(subject: Subject) -> None:
    async with subject.client("clients") as client:
        load = asyncio.gather(*(client.put(f"power/{number}", b"%d" % number) for number in range(50)))
        written = await load
        assert len(written) == 50
        busy = [asyncio.ensure_future(_go_on_writing(client, number)) for number in range(4)]
        try:
            await subject.plane.cut_power("n1")
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        await subject.plane.restart("n1")
        for number in range(50):
            await subject.eventually(lambda number=number: _reads_all(client, f"power/{number}", b"%d" % number), "it is there")  # type: ignore[misc]


async def _go_on_writing(client: AsyncClient, number: int) -> None:
    while True:
        await client.put(f"busy/{number}", b"1")


async def _reads_all(client: AsyncClient, key: str, value: bytes) -> bool:
    try:
        return (await client.get(key, level="all", timeout_s=2.0)).value == value
    except KvError:
        return False


OF_LINKS: list[Case] = [
    an_isolated_node_and_the_others_do_not_see_each_other,
    no_batch_gets_past_a_cut_though_the_nodes_have_not_noticed_it,
    a_bridge_sees_both_halves,
    clients_of_one_site_are_cut_off_and_those_of_the_other_are_not,
    a_fault_that_is_healed_unseen_is_no_pass,
    what_is_no_node_is_refused,
]
OF_PROCESSES: list[Case] = [
    a_killed_node_comes_back_with_what_it_had,
    a_paused_node_is_missed_and_goes_on,
    a_wiped_node_is_rebuilt,
]
OF_POWER: list[Case] = [what_was_acknowledged_outlives_a_power_cut]
EVERY = [*OF_LINKS, *OF_PROCESSES, *OF_POWER]
