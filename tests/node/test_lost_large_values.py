"""A node that has lost large values of its own, and only those, starts, says nothing wrong, and gets them back from the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kvproto.errors import StorageError
from kvstore.storage.directory import CLEAN_NAME
from tests.support.cluster import ALL, QUORUM, gets, puts
from tests.support.nodes import Nodes
from tests.support.waiting import until

LARGE = {b"key %d" % at: b"%d" % at * (100 << 10) for at in range(4)}
SMALL = {b"small": b"value"}


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Three that hold everything, of which n1 is down."""
    async with Nodes(tmp_path, ["n1", "n2", "n3"]) as nodes:
        await nodes.start("n1", "n2", "n3")
        told = await nodes.run("n1", puts({**LARGE, **SMALL}, **ALL))
        assert all(one.error is None for one in told.told.values())
        await nodes.stop("n1")
        yield nodes


def flip_all(files: list[Path]) -> None:
    for file in files:
        raw = bytearray(file.read_bytes())
        raw[:: 50 << 10] = bytes(byte ^ 1 for byte in raw[:: 50 << 10])
        file.write_bytes(raw)


def lose_all(files: list[Path]) -> None:
    for file in files:
        file.unlink()


@pytest.mark.parametrize("damage", [flip_all, lose_all])
async def test_what_a_node_has_lost_is_read_from_the_others_and_repaired(
    nodes: Nodes, damage: Callable[[list[Path]], None]
) -> None:
    files = list((nodes.root / "n1" / "data" / "values").glob("*.values"))
    assert files
    damage(files)
    await nodes.start("n1")
    await until(nodes.is_linked)
    answer = await nodes.run("n1", gets(*LARGE, *SMALL, **QUORUM))
    assert [answer[at].value for at in range(5)] == [*LARGE.values(), *SMALL.values()]
    n1 = nodes.local("n1")
    prefixes, ring = n1.view.space("default").prefixes, n1.view.ring
    for key, value in LARGE.items():
        store_key = prefixes[ring.partition_of(key)] + key

        def is_repaired(store_key: bytes = store_key, value: bytes = value) -> bool:
            record = n1.engine.get(store_key)
            return record is not None and value in record

        await until(lambda: _quietly(is_repaired))
    await until(lambda: n1.store.quarantined == 0)


async def test_bug_a_node_that_had_lost_a_large_value_did_not_start(nodes: Nodes) -> None:
    """1. n1 ends without a clean stop, so that its hash trees have to be counted anew. 2. The walk over what it holds met a value
    that it could not read, and the node said that its data is damaged and ended."""
    (nodes.root / "n1" / CLEAN_NAME).unlink()
    lose_all(list((nodes.root / "n1" / "data" / "values").glob("*.values")))
    await nodes.start("n1")
    await until(nodes.is_linked)
    answer = await nodes.run("n1", gets(*LARGE, *SMALL, **QUORUM))
    assert [answer[at].value for at in range(5)] == [*LARGE.values(), *SMALL.values()]


def _quietly(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except StorageError:  # it is not repaired yet
        return False
