"""Doors for servers that take one address for each peer: a SOCKS server for every one of them, which leads to that one's own
proxies.

etcd's members all dial a member at the one address it advertises, so proxies at that address cannot tell who dials: cutting one
member's calls to another would cut everybody's. So members advertise addresses that do not exist (of TEST-NET-1, RFC 5737), and
each is told to dial through a door of its own. RFC 1928, of which only CONNECT to an IPv4 address without authentication is
spoken."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

VERSION, CONNECT, IPV4, NO_AUTHENTICATION = 5, 1, 1, 0
GRANTED, REFUSED, UNREACHABLE = 0, 5, 4
CHUNK_BYTES = 65_536
TURNS_TO_HAND_OVER = 3
"""Of the loop, until a connection that it has accepted is handed over."""

Address = tuple[str, int]


class Door:
    """Listens at `listen`, and leads from each address of `ways` to another (host:port both)."""

    def __init__(self, listen: str, ways: Mapping[str, str]) -> None:
        self.passed = 0
        """How many connections were led through."""
        self._listen = listen
        self._ways = dict(ways)
        self._server: asyncio.Server | None = None
        self._closed = False
        self._guests: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Door:
        host, port = split(self._listen)
        self._server = await asyncio.start_server(self._accept, host, port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._closed = True
        self._server.close()
        guests = dict(self._guests)
        for task, writer in guests.items():
            task.cancel()
            writer.close()  # a task that has not begun does not close it
        await asyncio.gather(*guests, return_exceptions=True)
        for _turn in range(TURNS_TO_HAND_OVER):
            await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # it was accepted before, and is only handed over now
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer), name=f"door@{self._listen}")
        self._guests[task] = writer
        task.add_done_callback(lambda done: self._guests.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                wanted = await _greet(reader, writer)
                if (way := self._ways.get(wanted)) is None:
                    _answer(writer, UNREACHABLE)
                    return
                try:
                    far_reader, far_writer = await asyncio.open_connection(*split(way))
                except ConnectionError:
                    _answer(writer, REFUSED)
                    return
                _answer(writer, GRANTED)
                self.passed += 1
                await _join(reader, writer, far_reader, far_writer)
        finally:
            writer.close()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The address that is asked for; raises `ConnectionError` for any other wish."""
    version, methods = await reader.readexactly(2)
    offered = await reader.readexactly(methods)
    if version != VERSION or NO_AUTHENTICATION not in offered:
        raise ConnectionError("no SOCKS 5 without authentication")
    writer.write(bytes([VERSION, NO_AUTHENTICATION]))
    version, command, _, kind = await reader.readexactly(4)
    if (version, command, kind) != (VERSION, CONNECT, IPV4):
        raise ConnectionError("not a CONNECT to an IPv4 address")
    host, port = await reader.readexactly(4), int.from_bytes(await reader.readexactly(2), "big")
    return f"{'.'.join(map(str, host))}:{port}"


def _answer(writer: asyncio.StreamWriter, code: int) -> None:
    writer.write(bytes([VERSION, code, 0, IPV4]) + bytes(6))


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far_reader: asyncio.StreamReader, far_writer: asyncio.StreamWriter
) -> None:
    """Until either side ends: then both do, as with a connection that is cut."""
    ways = [asyncio.ensure_future(_copy(reader, far_writer)), asyncio.ensure_future(_copy(far_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()


def split(address: str) -> Address:
    """host:port as a pair."""
    host, _, port = address.rpartition(":")
    return host, int(port)
