"""A TCP server that answers what it gets, or takes nothing in, and clients for it: what a link leads to where no node is needed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kvchaos.faults.link_state import Link
from kvchaos.faults.proxies import Proxies, Route
from kvchaos.ports import address, find_free_ports

LINK = Link("a", "b")
PUSHED_BYTES = 512 << 20
"""More than Toxiproxy and the system hold together."""
CHUNK = bytes(1 << 16)
STUCK_S = 0.5


class Echo:
    """What the server got, and whether it reads."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.reads = asyncio.Event()
        self.reads.set()
        self.address = ""
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def close(self) -> None:
        """Ends every connection."""
        for writer in self._serving.values():
            writer.transport.abort()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        await self.reads.wait()
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                self.got += data
                writer.write(data)
                await writer.drain()
        writer.close()


class Caller:
    """One connection through a link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self, count: int, *, timeout_s: float = 10.0) -> bytes:
        """The next `count` bytes."""
        return await asyncio.wait_for(self.reader.readexactly(count), timeout_s)

    async def is_ended(self, *, timeout_s: float = 10.0) -> bool:
        """Waits for the end of the connection; whether nothing came before it."""
        try:
            return await asyncio.wait_for(self.reader.read(1), timeout_s) == b""
        except ConnectionError:
            return True

    async def push_until_stuck(self) -> None:
        """Sends until nothing goes any more: every buffer on the way is full."""
        for _ in range(PUSHED_BYTES // len(CHUNK)):
            self.send(CHUNK)
            try:
                await asyncio.wait_for(self.writer.drain(), STUCK_S)
            except TimeoutError:
                return
        raise AssertionError(f"{PUSHED_BYTES >> 20} MiB went in")


@asynccontextmanager
async def linked(binary: Path, log: Path, *, frames: bool = False) -> AsyncIterator[tuple[Proxies, Echo]]:
    """The one link LINK to an echo. `frames`: it has a second proxy, as between nodes, which leads to the same echo."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    echo.address = f"{host}:{port}"
    first, second = (address(port) for port in find_free_ports(2))
    route = Route(first, echo.address, Route(second, echo.address) if frames else None)
    try:
        async with Proxies(binary, {LINK: route}, log=log) as proxies:
            yield proxies, echo
    finally:
        server.close()
        await echo.close()


@asynccontextmanager
async def calling(where: str) -> AsyncIterator[Caller]:
    """A connection to `where`."""
    host, _, port = where.rpartition(":")
    caller = Caller(*await asyncio.open_connection(host, int(port)))
    try:
        yield caller
    finally:
        caller.writer.transport.abort()
