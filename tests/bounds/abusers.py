"""Clients that take what they can, each in a process of its own: `python -m tests.bounds.abusers NAME HOST:PORT`.

Each says one line once it is as bad as it gets, with what it has seen, and goes on until its standard input ends. They use the
stubs and no client of ours: nothing of what ours does to be polite.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

MIB = 1 << 20
LARGE_KEYS = 48
LARGE_BYTES = MIB // 2
SETTLED_S = 0.5


def large_keys() -> list[bytes]:
    return [b"large%d" % at for at in range(LARGE_KEYS)]


def channel_to(address: str, *options: tuple[str, int]) -> Any:
    import grpc.aio

    unlimited = [("grpc.max_send_message_length", 64 * MIB), ("grpc.max_receive_message_length", 64 * MIB)]
    return grpc.aio.insecure_channel(address, options=[*unlimited, ("grpc.use_local_subchannel_pool", 1), *options])


def stub_of(channel: Any) -> Any:
    from kvproto.v1 import key_value_pb2_grpc

    return key_value_pb2_grpc.KeyValueStub(channel)


def batch(kind: str, keys: list[bytes], value: bytes = b"", batch_id: int = 1) -> Any:
    from kvproto.codec import encode_batch
    from kvproto.columns import Kind, OperationGroup

    values = [value] * len(keys) if kind == "PUT" else ()
    return encode_batch(batch_id, [OperationGroup(Kind[kind], "default", keys, values=values, timeouts_ms=(60_000,))])


async def write_until_stuck(call: Any, message: Any, count_max: int) -> int:
    """Writes again and again; how many were taken when the node had let the writer wait for a while."""
    written = 0
    while written < count_max:
        try:
            async with asyncio.timeout(SETTLED_S):
                await call.write(message)
        except TimeoutError:
            break
        written += 1
    return written


async def deaf(address: str) -> dict[str, int]:
    """Asks for large values on several streams and reads none of the answers."""
    calls = [stub_of(channel_to(address)).Exchange() for _ in range(2)]
    KEPT.extend(calls)
    written = await asyncio.gather(*(write_until_stuck(call, batch("GET", large_keys()), 500) for call in calls))
    return {"written": sum(written)}


async def flood(address: str) -> dict[str, int]:
    """Puts batches without waiting for any answer, as fast as the node takes them."""
    answered: Counter[str] = Counter()
    message = batch("PUT", [b"flood%d" % at for at in range(256)], b"x" * 1024)

    async def one(call: Any) -> None:
        async def read() -> None:
            async for reply in call:
                answered["answered"] += 1
                answered["refused"] += any(part.HasField("error") for part in reply.replies)

        KEPT.append(asyncio.ensure_future(read()))
        while True:
            await call.write(message)
            answered["written"] += 1

    for _ in range(2):
        call = stub_of(channel_to(address)).Exchange()
        KEPT.append(asyncio.ensure_future(one(call)))
    while answered["answered"] < 20:
        await asyncio.sleep(0.01)
    return dict(answered)


async def one_by_one(address: str) -> dict[str, int]:
    """A hundred thousand batches of one operation on one stream, none of which waits for another."""
    call = stub_of(channel_to(address)).Exchange()
    answered = 0

    async def read() -> None:
        nonlocal answered
        async for _ in call:
            answered += 1

    async def write() -> None:
        message = batch("GET", [b"small"])
        for _ in range(100_000):
            await call.write(message)

    KEPT.extend([asyncio.ensure_future(read()), asyncio.ensure_future(write())])
    while answered < 100:
        await asyncio.sleep(0.01)
    return {"answered": answered}


async def huge(address: str) -> dict[str, int]:
    """Batches as large as they may be, put and asked for, on several streams."""
    keys = [b"huge%d" % at for at in range(2000)]
    messages = [batch("PUT", keys, b"x" * 2048), batch("GET", keys)]
    seen: Counter[str] = Counter()

    async def one(message: Any) -> None:
        call = stub_of(channel_to(address)).Exchange()
        while True:
            await call.write(message)
            while True:
                reply = await call.read()
                seen["answered"] += 1
                seen["refused"] += any(part.HasField("error") for part in reply.replies)
                if reply.last:
                    break

    KEPT.extend(asyncio.ensure_future(one(message)) for message in messages * 2)
    while seen["answered"] < 4:
        await asyncio.sleep(0.01)
    return dict(seen)


async def unary(address: str) -> dict[str, int]:
    """Hundreds of unary batches of large values at once."""
    channel = channel_to(address)
    seen: Counter[str] = Counter()

    async def one() -> None:
        from kvproto.codec import decode_replies

        while True:
            reply = await stub_of(channel).Batch(batch("GET", large_keys()))
            for part in decode_replies(reply):
                seen[type(part.error).__name__] += 1
            seen["answered"] += 1

    KEPT.extend(asyncio.ensure_future(one()) for _ in range(200))
    while seen["answered"] < 20 or not seen["NoneType"]:
        await asyncio.sleep(0.01)
    return dict(seen)


async def connections(address: str) -> dict[str, int]:
    """A thousand connections, each with a stream that asks for something."""
    import grpc.aio

    seen: Counter[str] = Counter()

    async def one() -> None:
        call = stub_of(channel_to(address, ("grpc.enable_retries", 0))).Exchange()
        KEPT.append(call)
        try:
            await call.write(batch("GET", [b"small"]))
            reply = await call.read()
            seen["answered" if reply is not vars(grpc.aio)["EOF"] else "ended"] += 1
        except grpc.aio.AioRpcError as error:
            seen[error.code().name] += 1
            if "connections" in (error.details() or ""):
                seen["told why"] += 1

    for _ in range(10):
        await asyncio.gather(*(one() for _ in range(100)))
    return dict(seen)


async def streams(address: str) -> dict[str, int]:
    """A thousand streams on one connection."""
    stub = stub_of(channel_to(address))
    seen: Counter[str] = Counter()

    async def one() -> None:
        call = stub.Exchange()
        KEPT.append(call)
        await call.write(batch("GET", [b"small"]))
        await call.read()
        seen["answered"] += 1

    KEPT.extend(asyncio.ensure_future(one()) for _ in range(1000))
    before = -1
    while before != seen["answered"] or not before:
        before = seen["answered"]
        await asyncio.sleep(SETTLED_S)
    return dict(seen)


async def scans(address: str) -> dict[str, int]:
    """Scans of large values whose reader stops after the first page."""
    from kvproto.codec import decode_page, encode_scan
    from kvproto.columns import ScanQuery

    stub = stub_of(channel_to(address))
    seen: Counter[str] = Counter()

    async def one() -> None:
        call = stub.Scan(encode_scan(ScanQuery("default", prefix=b"large", timeout_ms=60_000)))
        KEPT.append(call)
        page = decode_page(await call.read())
        seen["answered" if page.error is None else type(page.error).__name__] += 1

    await asyncio.gather(*(one() for _ in range(50)))
    return dict(seen)


async def loris(address: str) -> dict[str, int]:
    """Connections that say as little as they can: nothing, half of the greeting, or half of a message, and answer only pings."""
    host, _, port = address.rpartition(":")
    seen: Counter[str] = Counter()
    for at in range(150):
        reader, writer = await asyncio.open_connection(host, int(port))
        KEPT.append(writer)
        writer.write((b"", HTTP2_PREFACE[:12], HTTP2_PREFACE + half_a_message())[at % 3])
        if at % 3 == 2:
            KEPT.append(asyncio.ensure_future(answer_pings(reader, writer, seen)))
    while seen["greeted"] < 50:
        await asyncio.sleep(0.01)
    return dict(seen)


HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and empty settings
PING, SETTINGS = 6, 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def half_a_message() -> bytes:
    """The frames of a call of Exchange whose first message says that it has a megabyte, and brings 10,000 bytes of it."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/kvproto.v1.KeyValue/Exchange",
        ":authority": "node",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(text),)) + text.encode() for name, text in fields.items()
    )
    return frame(1, 4, 1, block) + frame(0, 0, 1, b"\0" + MIB.to_bytes(4, "big") + bytes(10_000))


async def answer_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Counter[str]) -> None:
    try:
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            seen["greeted"] += head[3] == SETTINGS and not head[4] & 1
            if head[3] == PING and not head[4] & 1:
                writer.write(frame(PING, 1, 0, payload))
    except (asyncio.IncompleteReadError, ConnectionError):
        seen["closed"] += 1


KEPT: list[Any] = []
ABUSERS: dict[str, Callable[[str], Awaitable[dict[str, int]]]] = {
    one.__name__: one for one in (deaf, flood, one_by_one, huge, unary, connections, streams, scans, loris)
}


async def main(name: str, address: str) -> None:
    seen = await ABUSERS[name](address)
    print(json.dumps(seen), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    os._exit(0)  # gone without a word, as a process that is killed


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
