"""One client, made once, against processes that stand still, end and come back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import pytest

from kvchaos.processes import ProcessPlane
from kvclient import AsyncClient, AvailabilityError, Client, Entry, KvError
from kvclient.node_link import NodeLink
from tests.support.waiting import until

READS_BEFORE = 6000

T = TypeVar("T")


@pytest.fixture(autouse=True)
def packages_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


async def test_a_client_goes_on_after_every_node_was_killed_and_started_again(tmp_path: Path) -> None:
    async with ProcessPlane(tmp_path / "cluster", nodes=2) as plane, AsyncClient(plane.addresses) as client:
        blocking = Client(plane.addresses)
        await client.put("k", b"before")
        await asyncio.to_thread(blocking.put, "blocking", b"before")
        await plane.kill(*plane.node_ids)
        with pytest.raises(KvError) as raised:
            await client.get("k", timeout_s=0.3)
        assert raised.value.retryable
        waiting = asyncio.create_task(client.get("k", level="one", timeout_s=60))  # asked while nobody is there
        await plane.restart(*plane.node_ids)
        assert (await waiting).found, "one node that is back is enough for it"
        await as_soon_as_possible(lambda: client.put("k", b"after"))
        assert (await client.get("k")).values == [b"after"]
        read = await as_soon_as_possible(lambda: asyncio.to_thread(blocking.get, "blocking"))
        assert read.value == b"before"
        await asyncio.to_thread(blocking.close)


async def as_soon_as_possible(call: Callable[[], Awaitable[T]]) -> T:
    """What `call` gives once the nodes have found each other again: until then a quorum may be refused."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except AvailabilityError:
                await asyncio.sleep(0.02)


async def test_readers_hardly_notice_a_process_that_is_stopped(tmp_path: Path) -> None:
    """SIGSTOP: connections stay open and nothing answers. The probe takes a second to be sure; reads must not wait for it. There
    are few enough for a busy machine to answer them in that second."""
    keys = [f"k{number}" for number in range(60)]
    async with ProcessPlane(tmp_path / "cluster") as plane, AsyncClient(plane.addresses) as client:
        await client.put_many(dict.fromkeys(keys, b"v"))
        loop = asyncio.get_running_loop()

        async def read(chosen: Iterable[str]) -> list[Entry]:
            return [await client.get(key, level="quorum") for key in chosen]

        # Until what is usual is known, and reads enough were sent to pay for second questions.
        while client.stats.reads < READS_BEFORE:
            await asyncio.gather(*(read(keys) for _ in range(8)))
        choose = client.membership.router.chooser(client._get)
        link = choose(keys[0].encode())
        stopped, mine = link.node_id, [key for key in keys if choose(key.encode()) is link][:10]
        before = client.stats
        await plane.pause(stopped)
        sent_s = loop.time()
        try:
            entries = await asyncio.gather(*(read(mine) for _ in range(4)))
            needed_s = loop.time() - sent_s
            was_up = link.up
        finally:
            await plane.resume(stopped)
        assert all(entry.value == b"v" for answers in entries for entry in answers)
        after = client.stats
        assert after.hedges_won > before.hedges_won
        assert after.hedges <= 0.05 * after.reads
        assert was_up, f"answered before the probe took the node's work away, in {needed_s:.2f} s"
        await until(lambda: _is_well(link), timeout_s=20)
        assert (await client.get(mine[0])).value == b"v"


def _is_well(link: NodeLink) -> bool:
    return link.up and not link.silent
