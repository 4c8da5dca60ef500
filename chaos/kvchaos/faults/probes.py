"""Looks at links and nodes from outside, over real connections: what passes, how slowly, who answers, whom a node believes alive.

A raw probe sends what is no HTTP/2 and tells both directions apart (see `Expectation`); a call through the link tells which node
answers and how long it takes. Silence counts only if the node, asked directly, answered meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc

from kvchaos.faults.expectations import Expectation
from kvchaos.faults.link_state import TRUNCATE_BYTES_MAX
from kvclient.grpc_import import open_channel
from kvproto import PROTOCOL
from kvproto.admin_codec import decode_cluster, decode_status
from kvproto.columns import ClusterInfo, NodeStatus
from kvproto.v1 import admin_pb2, admin_pb2_grpc

NO_REQUEST = b"kvchaos looks whether this arrives\r\n\r\n"
SILENCE_S = 0.4
PATIENCE_S = 5.0
BYTES_A_CALL = 256
"""A description of the ring is larger, and so is the question when it is padded."""
PADDING_FIELD = b"\xfa\x7f"
"""Field 2047 of any message, length-delimited: nobody knows it, so everybody skips it."""
PADDING_BYTES_MAX = 4 << 20
THROTTLE_SHOWN_S = 0.3
SLOW_SHARE = 0.8
"""What is taken for slow takes at least this share of what was ordered; what is taken for healed takes less."""

Channel = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class RawSight:
    """What the raw probe saw."""

    refused: bool = False
    greeted: bool = False
    closed: bool = False


@dataclass(frozen=True, slots=True)
class CallSight:
    """What a call saw: the node that answered, "" if none, why not, and how long the quickest took."""

    node: str = ""
    error: str = ""
    took_s: float = 0.0


async def look(address: str, node: str, direct: str, expected: Expectation, *, channel: Channel = open_channel) -> str:
    """Compares the link that is reached at `address` with what is expected; a sentence on the difference, or "".

    `direct` is where `node`, its target, is reached without it.
    """
    control = asyncio.ensure_future(call(direct, channel=channel))
    try:
        raw = await probe(address, expected, until=control)
        if not expected.refused and (await control).node != node:
            return f"{node} does not answer at {direct} itself: {control.result().error or control.result().node}"
    finally:
        control.cancel()
        with suppress(asyncio.CancelledError):
            await control
    if wrong := compare(raw, expected):
        return wrong
    if expected.breaks:
        return await _look_broken(address, channel)
    if expected.serves:
        return await _look_serving(address, node, expected, channel)
    return ""


def compare(raw: RawSight, expected: Expectation) -> str:
    """The difference between what was seen and what should be, or "". Pure."""
    if expected.refused or raw.refused:
        return "" if raw.refused == expected.refused else "connections are refused" if raw.refused else "connections are accepted"
    if expected.breaks:
        return ""  # whether before or after the greeting is the link's choice; a call shows it
    if raw.greeted != expected.greets:
        return "responses pass" if raw.greeted else "no response passes"
    if expected.closes is not None and raw.closed != expected.closes:
        return "requests pass" if raw.closed else "no request passes"
    return ""


async def look_at_frames(address: str, expected: Expectation) -> str:
    """The same of the way of frames, as far as it can be told without speaking: whether connections are accepted."""
    raw = await probe(address, Expectation(refused=True))  # which connects and sends nothing
    return "" if raw.refused == expected.refused else f"connections for frames are {'refused' if raw.refused else 'accepted'}"


async def probe(address: str, expected: Expectation, *, until: asyncio.Future[Any] | None = None) -> RawSight:
    """Connects, sends what is no request, and watches: what should come is waited for, what should not for a while, and at least
    until `until` is done."""
    host, _, port = address.rpartition(":")
    began_s = asyncio.get_running_loop().time()
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return RawSight(refused=True)
    except ConnectionError:  # a link that resets does so as soon as the node greets
        return RawSight(closed=True)
    if expected.breaks or expected.refused:
        writer.close()
        return RawSight()
    greeted, closed = asyncio.Event(), asyncio.Event()
    watcher = asyncio.ensure_future(_watch(reader, greeted, closed))
    try:
        writer.write(NO_REQUEST)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S + expected.round_trip_s):
                if expected.greets:
                    await greeted.wait()
                if expected.closes:
                    await closed.wait()
        if not expected.serves:
            # Nothing tells that nothing comes but waiting.
            await asyncio.sleep(began_s + SILENCE_S - asyncio.get_running_loop().time())
            if until is not None:
                await asyncio.wait([until])
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        writer.close()
    return RawSight(greeted=greeted.is_set(), closed=closed.is_set())


async def _watch(reader: asyncio.StreamReader, greeted: asyncio.Event, closed: asyncio.Event) -> None:
    try:
        while await reader.read(65_536):
            greeted.set()
    except ConnectionError:
        pass
    closed.set()


async def call(
    address: str, *, channel: Channel = open_channel, timeout_s: float = PATIENCE_S, padding_bytes: int = 0, count: int = 1
) -> CallSight:
    """Asks whoever answers at `address` who it is, `count` times on one connection, with `padding_bytes` more to send each time."""
    loop = asyncio.get_running_loop()
    quickest_s = float("inf")
    request = admin_pb2.DescribeRequest(protocol=PROTOCOL).SerializeToString() + _padding(padding_bytes)
    async with _opened(channel, address) as opened:
        describe = opened.unary_unary(
            "/kvproto.v1.Admin/Describe", request_serializer=None, response_deserializer=admin_pb2.DescribeReply.FromString
        )
        node = ""
        for _ in range(count):
            began_s = loop.time()
            try:
                node = (await describe(request, timeout=timeout_s)).node_id
            except grpc.aio.AioRpcError as error:
                return CallSight(node, f"{error.code().name}: {error.details()}")
            quickest_s = min(quickest_s, loop.time() - began_s)
    return CallSight(node, took_s=quickest_s)


async def describe(address: str, *, channel: Channel = open_channel, timeout_s: float = PATIENCE_S) -> ClusterInfo:
    """What a node tells clients of the ring. Raises `grpc.aio.AioRpcError`."""
    async with _opened(channel, address) as opened:
        stub: Any = admin_pb2_grpc.AdminStub(opened)
        return decode_cluster(await stub.Describe(admin_pb2.DescribeRequest(protocol=PROTOCOL), timeout=timeout_s))


async def status(address: str, *, channel: Channel = open_channel, timeout_s: float = PATIENCE_S) -> NodeStatus:
    """A node's own numbers, and its view of its peers. Raises `grpc.aio.AioRpcError`."""
    async with _opened(channel, address) as opened:
        stub: Any = admin_pb2_grpc.AdminStub(opened)
        return decode_status(await stub.Status(admin_pb2.StatusRequest(), timeout=timeout_s))


def padding_of(expected: Expectation) -> int:
    """How much to send for a throttle to show."""
    return min(PADDING_BYTES_MAX, int(expected.kbytes_per_s * 1000 * THROTTLE_SHOWN_S))


def least_s(expected: Expectation) -> float:
    """How long a call with that padding takes at least; 0 where nothing is slow."""
    sending_s = padding_of(expected) / (expected.kbytes_per_s * 1000) if expected.kbytes_per_s else 0.0
    return SLOW_SHARE * (expected.round_trip_s + sending_s)


async def look_healed(address: str, former: Expectation, *, channel: Channel = open_channel) -> str:
    """Whether a link that was slow is slow no more; a sentence if it still is, or ""."""
    seen = await call(address, channel=channel, timeout_s=PATIENCE_S + least_s(former), padding_bytes=padding_of(former), count=3)
    if seen.error or seen.took_s >= least_s(former):
        return f"a call takes {seen.took_s * 1000:.0f} ms, as if still {former.sentence()} {seen.error}".rstrip()
    return ""


async def _look_serving(address: str, node: str, expected: Expectation, channel: Channel) -> str:
    limit_s = PATIENCE_S + 4 * least_s(expected)
    seen = await call(address, channel=channel, timeout_s=limit_s, padding_bytes=padding_of(expected), count=2)
    if seen.node != node or seen.error:
        return f"{seen.node or 'nobody'} answers behind it: {seen.error}"
    if seen.took_s < least_s(expected):
        return f"a call takes {seen.took_s * 1000:.0f} ms, at least {least_s(expected) * 1000:.0f} are due"
    return ""


async def _look_broken(address: str, channel: Channel) -> str:
    """Calls until the connection breaks: each uses up a part of what may pass, either way."""
    seen = await call(address, channel=channel, padding_bytes=BYTES_A_CALL, count=TRUNCATE_BYTES_MAX // BYTES_A_CALL + 1)
    return "" if seen.error.startswith("UNAVAILABLE") else f"no connection breaks: {seen.error or f'{seen.node} answers'}"


def _padding(size_bytes: int) -> bytes:
    if not size_bytes:
        return b""
    length, rest = bytearray(), size_bytes
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return PADDING_FIELD + bytes(length) + bytes(size_bytes)


@asynccontextmanager
async def _opened(channel: Channel, address: str) -> AsyncIterator[Any]:
    opened = channel(address)
    try:
        yield opened
    finally:
        await opened.close(None)
