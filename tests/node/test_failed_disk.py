"""A write or sync that fails once: the node stops acknowledging, ends by itself, and leaves no sign of a clean stop (rule 4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from kvproto.errors import StorageError
from kvstore.node import Node
from kvstore.storage import disk_engine
from kvstore.storage.directory import CLEAN_NAME
from kvstore.storage.epochs import ACTOR_KEY
from kvstore.storage.leveldb import LevelDbEngine
from tests.support.cluster import ONE, Answer, gets, puts
from tests.support.nodes import Nodes


class FailingEngine(LevelDbEngine):
    """Fails one write when told to (the next of `fail_key`, if there is one), and would take the next: LevelDB is like that."""

    fail_next = False
    fail_key = b""
    writes_after = 0
    failed = False

    def write(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
        if FailingEngine.failed:
            FailingEngine.writes_after += 1
        if FailingEngine.fail_next and FailingEngine.fail_key in (b"", *(key for key, _ in puts)):
            FailingEngine.fail_next, FailingEngine.failed = False, True
            raise StorageError("I/O error", may_have_applied=True)
        super().write(puts, deletes, sync=sync)

    def prepare(self, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> Callable[[], None]:
        return partial(self.write, puts, deletes, sync=sync)


@pytest.fixture
async def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Nodes]:
    monkeypatch.setattr(disk_engine, "LevelDbEngine", FailingEngine)
    FailingEngine.fail_next = FailingEngine.failed = False
    FailingEngine.fail_key, FailingEngine.writes_after = b"", 0
    async with Nodes(tmp_path) as nodes:
        yield nodes


async def test_a_failed_write_ends_the_node_without_another_acknowledgement(nodes: Nodes) -> None:
    nodes.ids = ["n1"]
    nodes.addresses = {"n1": nodes.addresses["n1"]}
    await nodes.start("n1")
    node, local = nodes.running["n1"], nodes.local("n1")
    assert (await nodes.run("n1", puts({b"before": b"v"})))[0].error is None
    FailingEngine.fail_next = True
    told = (await nodes.run("n1", puts({b"failed": b"v"})))[0]
    assert told.error is not None and told.error.may_have_applied
    for group in (puts({b"after": b"v"}), gets(b"before")):
        answer = Answer([group])
        await local.coordinator.execute([group], answer.take)
        assert isinstance(answer[0].error, StorageError)
    await asyncio.wait_for(node.wait_closed(), 10)
    assert isinstance(node.failure, StorageError) and "n1" in node.failure.message and "I/O error" in node.failure.message
    assert not (nodes.root / "n1" / CLEAN_NAME).exists()
    assert FailingEngine.writes_after == 0
    before = local.ledger.actor
    nodes.running.clear()
    FailingEngine.failed = False
    await nodes.start("n1")
    assert nodes.local("n1").ledger.actor != before
    answer = await nodes.run("n1", gets(b"before", b"after"))
    assert answer[0].value == b"v" and answer[1].value is None


async def test_the_other_nodes_go_on(nodes: Nodes) -> None:
    nodes.addresses["n3"] = "127.0.0.1:1"  # a third member that never runs
    nodes.settings = nodes.settings
    await nodes.start("n1", "n2")
    FailingEngine.fail_next = True
    await nodes.run("n1", puts({b"k": b"v"}))
    failed = [node for node in nodes.running.values() if node.failure is not None]
    assert len(failed) == 1
    await asyncio.wait_for(failed[0].wait_closed(), 10)
    survivor = next(name for name, node in nodes.running.items() if node.failure is None)
    told = (await nodes.run(survivor, gets(b"k", **ONE)))[0]
    assert told.error is None


@pytest.mark.parametrize("peers", [{}, {"n2": "127.0.0.1:1"}])
async def test_bug_a_disk_that_failed_during_the_start_was_served_from(nodes: Nodes, peers: dict[str, str]) -> None:
    """1. The first write of a start, the lease, fails. 2. The failure stops the node while it is still being built. 3. The start
    went on, took back the refusal to serve, and returned as if all was well."""
    FailingEngine.fail_next, FailingEngine.fail_key = True, ACTOR_KEY
    node = Node(nodes.config("n1", peers=peers))
    with pytest.raises(StorageError, match="I/O error"):
        await node.start()
    assert not (nodes.root / "n1" / CLEAN_NAME).exists()
    await asyncio.wait_for(node.wait_closed(), 10)


async def test_bug_a_stop_that_could_not_leave_its_marker_left_its_owner_waiting(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. A node stops; the disk is full and the marker cannot be written. 2. The stop raised before it said that it was over, and
    the process waited for ever."""
    await nodes.start("n1")
    node = nodes.running.pop("n1")
    directory = node.parts.directory
    assert directory is not None

    def full(state: bytes | None = None) -> None:
        raise StorageError("the disk is full")

    close = directory.close
    monkeypatch.setattr(directory, "close", full)
    with pytest.raises(StorageError, match="full"):
        await node.stop()
    await asyncio.wait_for(node.wait_closed(), 5)
    close()
