"""No dot is minted twice, whatever becomes of the data directory between two starts: real nodes, real files."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvproto.errors import UserError
from kvstore.node import Node
from kvstore.storage.directory import CLEAN_NAME
from kvstore.storage.epochs import LEASE
from tests.support.cluster import ONE, puts
from tests.support.nodes import Nodes
from tests.support.waiting import until


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path) as nodes:
        yield nodes


async def mint(nodes: Nodes, node: str, count: int = 5) -> set[bytes]:
    """Dots of `count` new writes through `node`."""
    answer = await nodes.run(node, puts({b"%s-%d" % (node.encode(), at): b"v" for at in range(count)}, **ONE))
    dots = {told.versions[0] for told in answer.told.values() if told.error is None}
    assert len(dots) == count
    return dots


def actor(nodes: Nodes, node: str = "n1") -> bytes:
    return nodes.local(node).ledger.actor


async def crash(nodes: Nodes, node: str) -> None:
    """Ends `node` as a crash does: nothing of a clean stop remains."""
    await nodes.stop(node)
    (nodes.root / node / CLEAN_NAME).unlink()


async def test_a_clean_restart_beside_a_peer_goes_on_with_its_epoch(nodes: Nodes) -> None:
    await nodes.start()
    before, dots = actor(nodes), await mint(nodes, "n1")
    for _ in range(2):
        await nodes.stop("n1")
        await nodes.start("n1")
        assert actor(nodes) == before
        fresh = await mint(nodes, "n1")
        assert not fresh & dots
        dots |= fresh


async def test_a_clean_restart_alone_begins_a_new_epoch(nodes: Nodes) -> None:
    await nodes.start()
    before, dots = actor(nodes), await mint(nodes, "n1")
    await asyncio.gather(nodes.stop("n1"), nodes.stop("n2"))
    await nodes.start("n1")
    assert actor(nodes) != before
    assert not await mint(nodes, "n1") & dots


async def test_a_crash_begins_a_new_epoch(nodes: Nodes) -> None:
    await nodes.start()
    before, dots = actor(nodes), await mint(nodes, "n1")
    await crash(nodes, "n1")
    await nodes.start("n1")
    assert actor(nodes) != before
    assert not await mint(nodes, "n1") & dots


async def test_an_older_copy_of_the_directory_is_recognised_by_a_peer_and_begins_a_new_epoch(nodes: Nodes, tmp_path: Path) -> None:
    await nodes.start()
    before, dots = actor(nodes), await mint(nodes, "n1")
    await nodes.stop("n1")
    shutil.copytree(tmp_path / "n1", tmp_path / "copy")
    await nodes.start("n1")
    assert actor(nodes) == before
    dots |= await mint(nodes, "n1")
    await nodes.stop("n1")
    shutil.rmtree(tmp_path / "n1")
    shutil.copytree(tmp_path / "copy", tmp_path / "n1")
    assert (tmp_path / "n1" / CLEAN_NAME).exists(), "it looks like a clean stop"
    await nodes.start("n1")
    assert actor(nodes) != before
    assert not await mint(nodes, "n1") & dots


async def test_bug_an_older_copy_of_a_directory_nothing_was_written_to_was_not_recognised(nodes: Nodes, tmp_path: Path) -> None:
    """1. A node stops cleanly before its first write: its lease is what it was at its start. 2. A copy is made. 3. The node
    starts again, leases the same again, and mints. 4. The copy is restored: no peer remembered a *higher* lease, the epoch went
    on, and the first dots were minted again."""
    await nodes.start()
    await nodes.stop("n1")
    shutil.copytree(tmp_path / "n1", tmp_path / "copy")
    await nodes.start("n1")
    dots = await mint(nodes, "n1")
    await nodes.stop("n1")
    shutil.rmtree(tmp_path / "n1")
    shutil.copytree(tmp_path / "copy", tmp_path / "n1")
    await nodes.start("n1")
    assert not await mint(nodes, "n1") & dots


async def test_bug_a_peer_that_had_itself_restarted_was_taken_for_one_that_remembers(nodes: Nodes, tmp_path: Path) -> None:
    """1. A copy of n1 is made after a clean stop. 2. n1 mints on. 3. Both nodes are restarted, n1 from the copy: n2 answered the
    greeting and remembered nothing, which was taken for "nothing more", and n1's dots were minted again."""
    await nodes.start()
    await mint(nodes, "n1")
    await nodes.stop("n1")
    shutil.copytree(tmp_path / "n1", tmp_path / "copy")
    await nodes.start("n1")
    before, dots = actor(nodes), await mint(nodes, "n1")
    await asyncio.gather(nodes.stop("n1"), nodes.stop("n2"))
    shutil.rmtree(tmp_path / "n1")
    shutil.copytree(tmp_path / "copy", tmp_path / "n1")
    await nodes.start("n2", "n1")
    assert actor(nodes) != before
    assert not await mint(nodes, "n1") & dots


async def test_a_wiped_directory_begins_a_new_epoch(nodes: Nodes, tmp_path: Path) -> None:
    await nodes.start()
    before, dots = actor(nodes), await mint(nodes, "n1")
    await nodes.stop("n1")
    shutil.rmtree(tmp_path / "n1")
    await nodes.start("n1")
    assert actor(nodes) != before
    assert not await mint(nodes, "n1") & dots


async def test_a_start_that_fails_uses_up_nothing(nodes: Nodes) -> None:
    """The marker of the last clean stop is taken at a start; one that is then refused leaves another, and the next goes on."""
    await nodes.start()
    dots = await mint(nodes, "n1")
    await nodes.stop("n1")
    other = Nodes(nodes.root, nodes.ids, settings=nodes.settings)
    other.addresses = {**nodes.addresses, "n1": nodes.addresses["n2"]}
    with pytest.raises(UserError, match="in use"):
        await Node(other.config("n1", peers=nodes.config("n1").peers)).start()
    await nodes.start("n1")
    assert not await mint(nodes, "n1") & dots


async def test_peers_hear_of_every_renewal_also_of_one_that_came_while_they_were_told(nodes: Nodes) -> None:
    await nodes.start()
    ledger = nodes.local("n1").ledger
    for _ in range(4):
        ledger.reserve(LEASE // 2 + 1)
        await until(lambda: ledger.lease - ledger.counter >= LEASE // 2)
    parts = nodes.running["n1"].parts
    assert parts.leases is not None and parts.leases.announcing is not None
    await parts.leases.announcing
    peers = parts.peers
    assert peers is not None
    reply = await peers.hello("n2")
    assert (reply.remembered_actor, reply.remembered_lease) == (ledger.actor, ledger.lease)
