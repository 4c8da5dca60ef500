"""A node in a process of its own with small limits, clients of it that misbehave, and one that does not."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kvclient import AsyncClient
from tests.bounds.abusers import LARGE_BYTES, large_keys
from tests.support.nodes import free_ports

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
IN_FLIGHT_BYTES_MAX = 32 * MIB
RSS_BYTES_MAX = 6 * IN_FLIGHT_BYTES_MAX + 76 * MIB
"""Of the node below at any time. It begins with some 90 MiB, of which its caches may take 20 more; what requests hold is charged
once and stands there up to four times: as record, as value, as column of a message, and as the bytes of that message."""
CONFIG = """
node_id = "n1"
listen = "{address}"
data = "data"
[limits]
in_flight_bytes_max = {in_flight_bytes_max}
record_cache_bytes = 4194304
block_cache_bytes = 4194304
write_buffer_bytes = 4194304
connections_max = 200
[cluster]
id = "bounds"
partitions = 8
"""


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )


async def said_by(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, f"ended with {await process.wait()} instead of saying something"
    return line.decode().strip()


async def end(process: asyncio.subprocess.Process) -> None:
    """By the end of its standard input, as somebody who leaves."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(20):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise


class BoundedNode:
    """The node of `CONFIG`, and what it says of itself."""

    def __init__(self, address: str, process: asyncio.subprocess.Process) -> None:
        self.address = address
        self.rss_bytes_max = 0
        self._process = process
        self._watching = asyncio.ensure_future(self._watch())

    async def counts(self) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        counted: dict[str, int] = json.loads(await said_by(self._process))
        return counted

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    async def released(self, before: dict[str, int]) -> None:
        """Returns when nothing is held any more of what was not held `before`."""
        same = ("held_bytes", "connections", "in_flight", "committing", "staged")
        now: dict[str, int] = {}
        try:
            async with asyncio.timeout(15):
                while True:
                    now = await self.counts()
                    if all(now[name] <= before[name] for name in same) and now["tasks"] <= before["tasks"] + 2:
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"held before {before}, and now {now}") from None

    async def stop(self) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await end(self._process)

    async def _watch(self) -> None:
        while True:
            self.rss_bytes_max = max(self.rss_bytes_max, self.rss_bytes())
            await asyncio.sleep(0.02)


@asynccontextmanager
async def bounded_node(root: Path, *, files_max: int = 1024) -> AsyncIterator[BoundedNode]:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    file = root / "node.toml"
    file.write_text(CONFIG.format(address=address, in_flight_bytes_max=IN_FLIGHT_BYTES_MAX), encoding="utf-8")
    process = await start("tests.bounds.counted_node", str(file), str(files_max))
    node = None
    try:
        assert await said_by(process) == "ready"
        node = BoundedNode(address, process)
        yield node
    finally:
        await (node.stop() if node is not None else end(process))


@asynccontextmanager
async def abused(node: BoundedNode, name: str) -> AsyncIterator[dict[str, int]]:
    """While the abuser called `name` is at it; what it said."""
    process = await start("tests.bounds.abusers", name, node.address)
    try:
        yield json.loads(await said_by(process))
    finally:
        await end(process)


async def fill(client: AsyncClient) -> None:
    """What the abusers ask for."""
    await client.put_many(dict.fromkeys(large_keys(), b"x" * LARGE_BYTES), timeout_s=60)
    await client.put("small", b"1")


async def median_s(client: AsyncClient, rounds: int) -> float:
    """The time of a put and a get by somebody who behaves; every one of them succeeds and tells the truth."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    for at in range(rounds):
        before_s = loop.time()
        value = b"%d" % at
        await client.put("mine", value, timeout_s=20)
        entry: Any = await client.get("mine", timeout_s=20)
        assert entry.value == value
        times.append(loop.time() - before_s)
    return statistics.median(times)
