"""Replicas' write buffers are not full at one moment."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.config import NodeLimits
from kvstore.seams import ProductionSeams
from kvstore.storage.write_buffers import GOLDEN, SHARE_MAX, buffer_bytes_of
from tests.support.nodes import Nodes

LIMIT_BYTES = NodeLimits().write_buffer_bytes

names = st.lists(st.text("abcdefgh0123456789", min_size=1, max_size=6), min_size=1, max_size=40, unique=True)


@given(names, st.integers(1 << 20, 1 << 30))
def test_the_limit_is_kept_and_no_buffer_is_much_smaller(nodes: list[str], limit_bytes: int) -> None:
    for node in nodes:
        assert (1.0 - SHARE_MAX) * limit_bytes - 1 <= buffer_bytes_of(node, nodes, limit_bytes) <= limit_bytes


@given(names, st.randoms(use_true_random=False))
def test_the_order_of_the_table_does_not_matter(nodes: list[str], rng: Any) -> None:
    mixed = list(nodes)
    rng.shuffle(mixed)
    for node in nodes:
        assert buffer_bytes_of(node, nodes, LIMIT_BYTES) == buffer_bytes_of(node, mixed, LIMIT_BYTES)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 16])
def test_all_nodes_differ(count: int) -> None:
    nodes = [f"n{number:02}" for number in range(count)]
    sizes = [buffer_bytes_of(node, nodes, LIMIT_BYTES) / LIMIT_BYTES for node in nodes]
    assert min(abs(one - other) for one, other in combinations(sizes, 2)) >= SHARE_MAX * (1.0 - GOLDEN) / count


async def test_nodes_open_their_engines_with_buffers_of_different_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    open_engine = ProductionSeams.open_engine

    def opening(seams: ProductionSeams, path: Path, *, write_buffer_bytes: int, cache_bytes: int) -> Any:
        opened.append(write_buffer_bytes)
        return open_engine(seams, path, write_buffer_bytes=write_buffer_bytes, cache_bytes=cache_bytes)

    monkeypatch.setattr(ProductionSeams, "open_engine", opening)
    async with Nodes(tmp_path) as nodes:
        await nodes.start()
    assert len(opened) > 1 and len(set(opened)) == len(opened)
    assert max(opened) == LIMIT_BYTES
