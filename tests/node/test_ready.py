"""Ready means that the first write finds its quorum, in whatever order and how far apart the nodes were started."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.nodes import Nodes
from tests.support.waiting import until


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, ids=("n1", "n2", "n3")) as nodes:
        yield nodes


async def test_bug_a_node_was_ready_before_it_had_a_link_to_those_that_had_answered_it(nodes: Nodes) -> None:
    for started, node in enumerate(nodes.ids):
        await nodes.start_one(node)
        links = {peer: state for peer, state, _ in (await nodes.running[node].status()).peers}
        assert [links[other] for other in nodes.ids[:started]] == ["alive"] * started


async def test_a_node_that_comes_late_is_dialled_by_the_others_as_soon_as_it_greets_them(nodes: Nodes) -> None:
    await nodes.start_one("n1")
    await nodes.start_one("n2")
    reachable = nodes.running["n1"].parts.peers
    assert reachable is not None and not reachable.reachable("n3")
    await nodes.start_one("n3")
    await until(lambda: reachable.reachable("n3"))
