"""What is not promised does happen, on real nodes, and is found: a suite that never sees it proves nothing by finding nothing.

Stale reads where r + w <= n, updates that `lww` buries, and two holders of a lock of whose fencing token nobody asks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kvchaos.checkers.judge import judge
from kvchaos.checkers.locks import FENCED
from kvchaos.checkers.siblings import LOST
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.history import History, Recorder
from kvchaos.operations import Operation
from kvchaos.performer import ClientPast, Performer
from kvclient import AsyncClient
from kvclient.cli.cluster import obstacles, wait_converged
from kvclient.namespace import AsyncNamespace
from tests.chaos.proxied import client_of, proxied, tidy

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120, func_only=True)]

NAMESPACES: dict[str, dict[str, str | int]] = {
    "default": {"preset": "pa-ec"},
    "one": {"id": 2, "preset": "pa-el"},
    "last": {"id": 3, "preset": "pa-el", "policy": "lww"},
    "locks": {"id": 4, "preset": "pc-ec"},
}
LEASE_S = 1.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(toxiproxy_server: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProxiedCluster]:
    async with proxied(tmp_path_factory.mktemp("controls"), sites=("here", "there"), namespaces=NAMESPACES) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(shared: ProxiedCluster) -> AsyncIterator[ProxiedCluster]:
    yield shared
    await tidy(shared)


async def split(cluster: ProxiedCluster) -> None:
    """n1 and who is here on one side, n2, n3 and who is there on the other."""
    await cluster.plane.partition([["n1", "here"], ["n2", "n3", "there"]])
    await cluster.plane.verify()


async def heal(cluster: ProxiedCluster, client: AsyncClient) -> None:
    await cluster.plane.heal()
    await cluster.plane.verify()
    rows, converged = await wait_converged(client, 30.0)
    assert converged, obstacles(rows)


async def test_with_r_1_and_w_1_a_stale_read_is_seen_in_a_cut(cluster: ProxiedCluster) -> None:
    async with client_of(cluster, "here") as here, client_of(cluster, "there") as there:
        await here.namespace("one").put("k", b"old", level="all")
        await split(cluster)
        done = await here.namespace("one").put("k", b"new")
        assert done.receipt.needed == 1, "acknowledged, by one replica"
        assert (await there.namespace("one").get("k")).values == [b"old"]
        await heal(cluster, there)
        assert (await there.namespace("one").get("k", level="all")).values == [b"new"]


@pytest.mark.parametrize(("namespace", "lost"), [("last", 1), ("one", 0)])
async def test_with_lww_one_of_two_acknowledged_writes_is_lost_and_as_siblings_none_is(
    cluster: ProxiedCluster, namespace: str, lost: int
) -> None:
    clock = itertools.count(1)
    recorder = Recorder(lambda: next(clock), {"n": 3, "r": 1, "w": 1, "promises": ["siblings"]})
    async with client_of(cluster, "here") as here, client_of(cluster, "there") as there:
        writers = [
            Performer(client.namespace(namespace), recorder, at, numbers=2, past=ClientPast(list), timeout_ms=5_000)
            for at, client in enumerate((here, there))
        ]
        await split(cluster)
        for at, writer in enumerate(writers):
            await writer.perform(Operation(at, 0, "put", "concurrent", f"w{at}", context="read"))  # of which it read nothing
        await heal(cluster, there)
        reader = Performer(there.namespace(namespace), recorder, 9, numbers=1, past=ClientPast(list), timeout_ms=5_000, final=True)
        await reader.perform(Operation(9, 0, "get", "concurrent", "", level="all"))
    acknowledged = [event for event in recorder.history.events if event.f == "write" and event.type == "ok"]
    assert len(acknowledged) == 2, "both sides were told that it is there"
    assert [violation.promise for violation in judge(recorder.history)] == [LOST] * lost


class Guarded:
    """What a lock protects: a key that says who wrote it last. `fenced`: it takes no smaller token than it has seen."""

    def __init__(self, space: AsyncNamespace, history: Recorder, *, fenced: bool) -> None:
        self._space = space
        self._history = history
        self._fenced = fenced

    async def write(self, process: int, token: int) -> bool:
        """Whether it was let in."""
        self._history.note(process, "invoke", "guarded", key="lock", value=token)
        found = await self._space.get("guarded")
        seen = int(found.value or b"0")
        if self._fenced and token < seen:
            self._history.note(process, "fail", "guarded", key="lock", value=token)
            return False
        await self._space.put("guarded", b"%d" % token)
        self._history.note(process, "ok", "guarded", key="lock", value=token)
        return True


@pytest.mark.parametrize("fenced", [False, True])
async def test_without_its_fencing_token_a_lock_lets_two_holders_write(cluster: ProxiedCluster, fenced: bool) -> None:
    """1. One takes the lock and is cut off before it writes. 2. Its lease ends, another takes the lock and writes. 3. The first is
    back, and writes what it had meant to."""
    clock = itertools.count(1)
    history = Recorder(lambda: next(clock), {"promises": ["locks"]})
    async with client_of(cluster, "here") as here, client_of(cluster, "there") as there:
        first_space, second_space = here.namespace("locks"), there.namespace("locks")
        await second_space.delete("guarded")
        first = await first_space.lock("lock", lease_s=LEASE_S).acquire()
        await cluster.plane.partition([["here"], cluster.node_ids])
        await cluster.plane.verify()
        holder = second_space.lock("lock", lease_s=10.0, timeout_s=20.0)
        second = await holder.acquire()
        async with asyncio.timeout(20):
            await first.lost.wait()  # whoever asks is told; this one does not ask
        assert await Guarded(second_space, history, fenced=fenced).write(1, second.token)
        await cluster.plane.heal()
        await cluster.plane.verify()
        assert await Guarded(first_space, history, fenced=fenced).write(0, first.token) is not fenced
        last = int((await second_space.get("guarded")).value or b"0")
        await holder.release()
    assert last == (second.token if fenced else first.token)
    found = [violation.promise for violation in judge(History(history.history.header, history.history.events))]
    assert found == ([] if fenced else [FENCED])
