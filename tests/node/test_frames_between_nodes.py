"""How batches travel between nodes: as frames where nothing stands in the way, over gRPC where something does, and past nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvclient import AsyncClient
from kvproto.errors import UserError
from kvproto.frames import HEADER_BYTES, Accept, Connection, Listener, TcpFrames
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.api import frame_server
from kvstore.config import OFF, ClusterConfig, NodeConfig, TlsConfig
from kvstore.node import Node
from kvstore.transport import grpc_peers
from kvstore.transport.hello import Identity
from kvstore.transport.peer_streams import FrameDials
from kvstore.transport.peers import FRAMES, GRPC
from tests.support.nodes import Nodes
from tests.support.waiting import until


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path) as nodes:
        yield nodes


def over(nodes: Nodes) -> dict[str, str]:
    """What carries the one link of each node."""
    carried = {}
    for name, node in nodes.running.items():
        assert node.parts.peers is not None
        carried[name] = ",".join(link.over for link in node.parts.peers.links.values() if link.is_up)
    return carried


async def works(nodes: Nodes) -> None:
    """Writes and reads that need both nodes."""
    async with AsyncClient(nodes.addresses["n1"]) as client:
        for number in range(20):
            put = await client.put(f"k{number}", b"v" * 1000, level="all")
            assert sorted(put.receipt.acknowledged) == ["n1", "n2"]
            assert (await client.get(f"k{number}", level="all")).value == b"v" * 1000


async def writes(client: AsyncClient, number: int) -> None:
    """Without a pause, each on both nodes, until cancelled."""
    while True:
        await client.put(f"w{number}", b"v", level="all")


async def start(nodes: Nodes, **changes: dict[str, object]) -> None:
    """Both nodes, each with changes of its own."""
    for node in nodes.ids:
        nodes.running[node] = Node(nodes.config(node, **changes.get(node, {})))
        await nodes.running[node].start()
    await until(nodes.is_linked)


@asynccontextmanager
async def forwarder(target: Callable[[], str]) -> AsyncIterator[str]:
    """A port that leads to the address `target()`, as a proxy does; yields its address."""
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        host, _, port = target().rpartition(":")
        try:
            there = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        writers.add(there[1])
        tasks.update([asyncio.create_task(pump(reader, there[1])), asyncio.create_task(pump(there[0], writer))])

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_batches_travel_as_frames_where_nodes_see_each_other(nodes: Nodes) -> None:
    await start(nodes)
    assert over(nodes) == {"n1": FRAMES, "n2": FRAMES}
    await works(nodes)
    await nodes.stop("n2")
    await until(lambda: over(nodes) == {"n1": ""})
    await nodes.start("n2")
    assert over(nodes) == {"n1": FRAMES, "n2": FRAMES}
    await works(nodes)


async def test_a_node_without_frames_works_with_one_that_has_them(nodes: Nodes) -> None:
    await start(nodes, n2={"frames": OFF})
    assert over(nodes) == {"n1": GRPC, "n2": GRPC}
    await works(nodes)


async def test_nothing_goes_past_what_lies_between_two_nodes(nodes: Nodes) -> None:
    async with forwarder(lambda: nodes.addresses["n2"]) as between:
        await start(nodes, n1={"peers": {"n2": between}})
        assert over(nodes) == {"n1": GRPC, "n2": FRAMES}
        await works(nodes)


async def test_frames_go_where_the_file_says_that_they_go(nodes: Nodes) -> None:
    taken: list[str] = []

    def frames_of_n2() -> str:
        frames = nodes.running["n2"].parts.frames
        assert frames is not None
        taken.append(f"127.0.0.1:{frames.port}")
        return taken[-1]

    async with forwarder(lambda: nodes.addresses["n2"]) as between, forwarder(frames_of_n2) as frames_between:
        await start(nodes, n1={"peers": {"n2": between}, "peer_frames": {"n2": frames_between}})
        assert over(nodes) == {"n1": FRAMES, "n2": FRAMES} and taken
        await works(nodes)


async def test_an_address_of_frames_that_is_taken_is_named(nodes: Nodes) -> None:
    listener = await TcpFrames().listen("127.0.0.1", 0, lambda connection: None)
    with pytest.raises(UserError, match=rf"cannot take frames at 127\.0\.0\.1:{listener.port}"):
        await Node(nodes.config("n1", frames=f"127.0.0.1:{listener.port}")).start()
    listener.close()


# --- whoever else knocks


class Guest:
    """Somebody who knows how frames are written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, message: bytes) -> None:
        self._writer.write(len(message).to_bytes(HEADER_BYTES, "big") + message)

    async def hear(self) -> bytes | None:
        """The next frame that is no beat; None: the node has closed the connection."""
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(HEADER_BYTES), "big")
                if size:
                    return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def leave(self) -> None:
        self._writer.close()


@asynccontextmanager
async def guest_of(node: Node) -> AsyncIterator[Guest]:
    assert node.parts.frames is not None
    guest = Guest(*await asyncio.open_connection("127.0.0.1", node.parts.frames.port))
    try:
        yield guest
    finally:
        guest.leave()


def hello_to(node: Node, **changes: Any) -> bytes:
    assert node.parts.detection is not None and node.parts.peers is not None
    me: Identity = node.parts.peers._identity
    values = {"node_id": "n2", "expects": "n1", "incarnation": me.incarnation, **changes}
    return key_value_pb2.FramesHello(**values).SerializeToString()


@pytest.mark.parametrize(
    "first",
    [
        lambda node: hello_to(node, incarnation=1),
        lambda node: hello_to(node, node_id="n9"),
        lambda node: hello_to(node, expects="n2"),
        lambda node: b"\xff\xff\xff",
        lambda node: b"x" * 5000,
    ],
    ids=["another life", "no member", "another node", "no message", "too long"],
)
async def test_who_is_no_node_is_shown_out_and_nobody_else_notices(nodes: Nodes, first: Callable[[Node], bytes]) -> None:
    await start(nodes)
    async with guest_of(nodes.running["n1"]) as guest:
        guest.say(first(nodes.running["n1"]))
        assert await guest.hear() is None
    assert over(nodes) == {"n1": FRAMES, "n2": FRAMES}
    await works(nodes)


async def test_half_a_greeting_is_waited_for_for_some_time(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    await start(nodes)
    monkeypatch.setattr(frame_server, "HANDSHAKE_TIMEOUT_MS", 50)
    async with guest_of(nodes.running["n1"]) as guest:
        assert await guest.hear() is None
    await works(nodes)


async def test_what_is_no_request_ends_the_connection(nodes: Nodes) -> None:
    await start(nodes)
    node = nodes.running["n1"]
    async with guest_of(node) as guest:
        guest.say(hello_to(node))
        assert key_value_pb2.FramesHello.FromString(await guest.hear() or b"").node_id == "n1"
        guest.say(peer_pb2.PeerRequest(batch_id=7).SerializeToString())
        reply = peer_pb2.PeerReply.FromString(await guest.hear() or b"")
        assert reply.batch_id == 7 and reply.last and reply.HasField("error"), "of no ring that it knows"
        guest.say(b"\xff\xff\xff")
        assert await guest.hear() is None
    await works(nodes)


async def test_of_too_many_connections_the_newest_is_closed_and_peers_find_another_way(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_server, "connections_max", lambda config: 1)
    await start(nodes)
    async with guest_of(nodes.running["n1"]) as guest:
        assert await guest.hear() is None
    await nodes.stop("n2")
    await until(lambda: over(nodes) == {"n1": ""})
    async with guest_of(nodes.running["n1"]) as guest:
        guest.say(hello_to(nodes.running["n1"]))
        assert await guest.hear() is not None
        await nodes.start("n2")
        assert over(nodes) == {"n1": FRAMES, "n2": GRPC}
        await works(nodes)
    monkeypatch.setattr(grpc_peers, "FRAMES_SOUGHT_S", 0.05)
    await nodes.stop("n2")
    async with guest_of(nodes.running["n1"]) as guest:
        guest.say(hello_to(nodes.running["n1"]))
        assert await guest.hear() is not None
        await nodes.start("n2")
        assert over(nodes) == {"n1": FRAMES, "n2": GRPC}
        guest.leave()
        async with AsyncClient(nodes.addresses["n2"]) as client:  # a link that is never idle goes on over frames all the same
            writing = [asyncio.create_task(writes(client, number)) for number in range(8)]
            await until(lambda: over(nodes) == {"n1": FRAMES, "n2": FRAMES})
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
            assert [task for task in writing if not task.cancelled()] == []
        await works(nodes)


# --- the way there


class NoWay:
    """A network in which a firewall stands."""

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        raise NotImplementedError

    async def dial(self, address: str) -> Connection:
        raise ConnectionRefusedError(f"no way to {address}")


@pytest.mark.parametrize(
    ("dialled", "said", "elsewhere", "expected"),
    [
        ("10.0.0.2:7400", {"listen_port": 7400, "frames_port": 9}, {}, "10.0.0.2:9"),
        ("10.0.0.2:7400", {"listen_port": 7400}, {}, ""),
        ("10.0.0.2:7400", {"listen_port": 7400}, {"n2": "10.0.0.3:8"}, ""),
        ("10.0.0.9:1", {"listen_port": 7400, "frames_port": 9}, {}, ""),
        ("10.0.0.9:1", {"listen_port": 7400, "frames_port": 9}, {"n2": "10.0.0.3:8"}, "10.0.0.3:8"),
        ("[::1]:7400", {"listen_port": 7400, "frames_port": 9}, {}, "[::1]:9"),
    ],
)
async def test_where_frames_are_dialled(dialled: str, said: dict[str, int], elsewhere: dict[str, str], expected: str) -> None:
    me = Identity("n1", 1, ClusterConfig(), "127.0.0.1:1", "")
    dials = FrameDials(me, {"n2": dialled}, elsewhere, NoWay())
    reply = peer_pb2.HelloReply(listen_port=said.get("listen_port", 0), frames_port=said.get("frames_port", 0))
    assert dials.address_of("n2", reply) == expected
    stream, reason = await dials.open("n2", reply)
    assert stream is None and (f"no way to {expected}" if expected else "takes no frames") in reason
    assert dials.why_not_now("n2") == (reason if expected else ""), "the next link does not wait for that"
    assert not FrameDials(me, {"n2": dialled}, elsewhere, None).address_of("n2", reply)


def test_a_node_with_certificates_takes_no_frames(nodes: Nodes) -> None:
    config: NodeConfig = nodes.config("n1")
    assert frame_server.takes_frames(config)
    tls = TlsConfig(cert=Path("cert.pem"), key=Path("key.pem"), ca=Path("ca.pem"))
    assert not frame_server.takes_frames(replace(config, tls=tls))
    assert not frame_server.takes_frames(replace(config, frames=OFF))
