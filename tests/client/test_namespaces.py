"""`client.admin` on namespaces: which node is asked, and when another one; how long it takes; what is refused before anybody is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kvclient import AsyncClient, BadRequest, KvError, NodeUnreachable, QuorumUnreachable
from kvclient.errors import DeadlineExceeded
from kvclient.transport import Ring
from kvproto.columns import ClusterInfo, NamespaceInfo, NamespaceWish
from tests.client.scripted import Scripted, World

SEEDS = "n1:1,n2:1,n3:1"
MADE = NamespaceInfo(0x40000000, "orders", "eventual", "pa-ec", 3, 3, 2, 2, created=True)


class Asked(Scripted):
    """Answers as `told` says, and counts how often it was asked; `later_s`: so long after the first question it describes."""

    told: KvError | None = None
    hangs_once_asked = False

    def __init__(self, address: str, world: World) -> None:
        super().__init__(address, world)
        self.wishes: list[NamespaceWish] = []

    async def describe(self) -> ClusterInfo:
        if self.hangs_once_asked and self.wishes:
            await asyncio.sleep(3600)
        return await super().describe()

    async def create_namespace(self, wish: NamespaceWish, timeout_s: float) -> NamespaceInfo:
        self.wishes.append(wish)
        if self.told is not None:
            raise self.told
        return MADE


class Nodes(World):
    """Three nodes that are asked in this order; `prepare` is given each."""

    def __init__(self, prepare: Callable[[Asked], None] = lambda node: None) -> None:
        super().__init__()
        self.asked: dict[str, Asked] = {}
        self._prepare = prepare

    def dial(self, address: str, _: Ring) -> Asked:
        if address not in self.asked:
            self.asked[address] = Asked(address, self)
            self._prepare(self.asked[address])
        return self.asked[address]


async def make(nodes: Nodes, **options: object) -> NamespaceInfo:
    client = AsyncClient(SEEDS, dial=nodes.dial, timeout_s=1.0)
    async with client:
        return await client.admin.create_namespace("orders", **options)  # type: ignore[arg-type]


async def test_one_node_is_asked_and_the_others_are_not() -> None:
    nodes = Nodes()
    assert await make(nodes, preset="pa-ec", ttl_s=1.5, n=2) == MADE
    (wish,) = [wish for node in nodes.asked.values() for wish in node.wishes]
    assert wish == NamespaceWish(name="orders", preset="pa-ec", ttl_ms=1500, n=2)


async def test_a_node_that_certainly_did_nothing_is_followed_by_the_next() -> None:
    nodes = Nodes(lambda node: setattr(node, "told", QuorumUnreachable("alone") if node.address.startswith("n1") else None))
    assert await make(nodes) == MADE


async def test_after_one_that_may_have_done_it_nobody_else_is_asked() -> None:
    nodes = Nodes(lambda node: setattr(node, "told", DeadlineExceeded("no answer", may_have_applied=True)))
    with pytest.raises(DeadlineExceeded) as untold:
        await make(nodes)
    assert untold.value.may_have_applied
    assert sum(len(node.wishes) for node in nodes.asked.values()) == 1


async def test_bug_a_node_that_was_down_was_taken_for_one_that_may_have_done_it() -> None:
    def prepare(node: Asked) -> None:
        node.told = QuorumUnreachable("alone", needed=2, received=1)
        node.answers_questions = True

    nodes = Nodes(prepare)
    client = AsyncClient(SEEDS, dial=nodes.dial, timeout_s=1.0)
    async with client:
        await client.connect()
        first, *others = (nodes.asked[address] for address in SEEDS.split(","))
        for node in others:
            node.answers_questions = False
            node.told = NodeUnreachable("connection refused", may_have_applied=True)
        with pytest.raises(QuorumUnreachable) as refused:
            await client.admin.create_namespace("orders")
    assert not refused.value.may_have_applied
    assert [len(node.wishes) for node in (first, *others)] == [1, 0, 0]


async def test_bug_making_a_namespace_took_longer_than_its_timeout() -> None:
    nodes = Nodes(lambda node: setattr(node, "hangs_once_asked", True))
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await make(nodes, timeout_s=0.3) == MADE
    assert loop.time() - began_s < 1.0


@pytest.mark.parametrize("wrong", [{"n": -1}, {"r": 1.5}, {"w": True}, {"quota_bytes_per_s": -1}, {"ttl_s": -1}])
async def test_what_is_no_setting_is_refused_before_anybody_is_asked(wrong: dict[str, object]) -> None:
    nodes = Nodes()
    with pytest.raises(BadRequest):
        await make(nodes, **wrong)
    assert not [wish for node in nodes.asked.values() for wish in node.wishes]
