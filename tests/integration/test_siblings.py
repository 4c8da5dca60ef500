"""When siblings appear, and when never: contract.md's promises about writes without a context, on real processes."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kvchaos.processes import ProcessPlane
from kvclient import AsyncClient

ROUNDS_THROUGH_ONE_CLIENT = 1000
ROUNDS_THROUGH_PROCESSES = {"quick": 15, "long": 1000}[os.environ.get("KV_TIER", "quick")]
SIDE_BY_SIDE = 2


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProcessPlane]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    async with ProcessPlane(tmp_path / "cluster") as running:
        yield running


async def kv(plane: ProcessPlane, *words: str) -> tuple[int, dict[str, object]]:
    """One `kv` process: its exit code and the object that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kvclient.cli.main",
        *("--at", plane.addresses, "-o", "json"),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out or err or b"{}")


async def test_a_thousand_writes_deletes_and_reads_in_a_row_through_one_client_never_show_a_sibling(plane: ProcessPlane) -> None:
    async with AsyncClient(plane.addresses) as client:
        for at in range(ROUNDS_THROUGH_ONE_CLIENT):
            if at % 5 == 4:
                await client.delete("key")
                entry = await client.get("key")
                assert not entry.found
                assert entry.values == []
            else:
                await client.put("key", b"%d" % at)
                entry = await client.get("key")
                assert entry.values == [b"%d" % at]


@pytest.mark.timeout(60 + 3 * ROUNDS_THROUGH_PROCESSES)
async def test_writes_deletes_and_reads_through_separate_processes_never_show_a_sibling(plane: ProcessPlane) -> None:
    """Two keys side by side, each written by one process after the other, so that both cores are used. A round is two processes, so
    in the long tier each key sees 1,000 of them in a row; one takes 0.15 s, nearly all of it the start of Python and gRPC."""
    numbers = itertools.count()

    async def in_a_row(key: str) -> None:
        for at in numbers:
            if at >= ROUNDS_THROUGH_PROCESSES:
                return
            action = at // SIDE_BY_SIDE % 3
            if action == 2:
                assert (await kv(plane, "del", key))[0] == 0
                assert (await kv(plane, "get", key))[0] == 3
            else:
                assert (await kv(plane, "put", key, f"value {at}"))[0] == 0
                code, told = await kv(plane, "get", key)
                assert (code, told["value"], told["siblings"]) == (0, f"value {at}", [])

    await asyncio.gather(*(in_a_row(f"key {caller}") for caller in range(SIDE_BY_SIDE)))


async def test_two_clients_writing_from_one_context_make_two_siblings_and_a_merge_resolves_them(plane: ProcessPlane) -> None:
    async with AsyncClient(plane.addresses) as one, AsyncClient(plane.addresses) as other:
        await one.put("cart", b"apples")
        seen = (await one.get("cart")).context
        await one.put("cart", b"apples, pears", context=seen)
        await other.put("cart", b"apples, figs", context=seen)
        both = await other.get("cart")
        assert sorted(both.values) == [b"apples, figs", b"apples, pears"]
        await one.put("cart", b"apples, figs, pears", context=both.context)
        assert (await other.get("cart")).values == [b"apples, figs, pears"]
