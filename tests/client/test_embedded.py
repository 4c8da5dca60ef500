"""A store inside this process is the same client over another transport, found through an entry point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

import kvclient
from kvclient import AsyncClient, BadRequest
from kvclient.transport import OnReply, Transport
from kvproto.columns import (
    ClusterInfo,
    LossAccepted,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    OperationGroup,
    Receipt,
    RepairProgress,
    ScanPage,
    ScanQuery,
)
from tests.client.fake_server import FakeCluster, FakeStore


class InProcess:
    """A node without a network: passes columns as they are and answers before `exchange` returns."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = FakeStore()
        self.closed = 0

    def exchange(self, groups: list[OperationGroup], on_reply: OnReply) -> None:
        on_reply(
            [self.store.answer(index, group, list(range(len(group.keys))), Receipt()) for index, group in enumerate(groups)], True
        )

    async def describe(self) -> ClusterInfo:
        one = FakeCluster(1)
        one.nodes[0].address = self.url
        return one.describe(one.nodes[0])

    async def scan(self, query: ScanQuery) -> AsyncIterator[ScanPage]:
        yield ScanPage(keys=[b"k"], values=[b"v"], versions=bytes(20))

    async def status(self) -> NodeStatus:
        return NodeStatus("n1", self.url, "", "alive", ring_epoch=1, keys=1, version="0")

    async def repair(self, namespace: str, follow: int) -> RepairProgress:
        return RepairProgress("n1", number=1, over=True)

    async def accept_loss(self, nodes: Sequence[str]) -> LossAccepted:
        return LossAccepted("n1")

    async def create_namespace(self, wish: NamespaceWish, timeout_s: float) -> NamespaceInfo:
        raise AssertionError("not asked here")

    async def drop_namespace(self, name: str, timeout_s: float) -> NamespaceInfo:
        raise AssertionError("not asked here")

    async def close(self) -> None:
        self.closed += 1


class Entry:
    """An installed entry point."""

    opened: list[InProcess]

    def __init__(self) -> None:
        self.opened = []

    def load(self) -> Any:
        def open_embedded(url: str) -> Transport:
            self.opened.append(InProcess(url))
            return self.opened[-1]

        return open_embedded


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Entry:
    installed = Entry()
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group, name: [installed] if (group, name) == ("kvclient.embedded", "node") else []
    )
    return installed


async def test_an_embedded_store_is_opened_by_its_url_and_closed_with_the_client(entry: Entry) -> None:
    async with AsyncClient("embedded:/var/kv") as client:
        await asyncio.gather(*(client.put(f"k{number}", b"v") for number in range(100)))
        assert (await client.get("k7")).value == b"v"
        assert len(await client.get_many([f"k{number}" for number in range(100)])) == 100
        assert [found.key async for found in client.scan()] == [b"k"]
        assert [row.node_id for row in await client.admin.status()] == ["n1"]
    (store,) = entry.opened
    assert store.url == "embedded:/var/kv" and store.closed == 1


def test_open_takes_the_same_url(entry: Entry) -> None:
    with kvclient.open("embedded::memory:NAME") as client:
        client.put("k", b"v")
        assert client.get("k").value == b"v"
    assert [store.url for store in entry.opened] == ["embedded::memory:NAME"]


async def test_without_a_server_installed_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group, name: [])
    with pytest.raises(BadRequest, match="install kvstore-server"):
        await kvclient.open_async("embedded:/var/kv").get("k")
