"""One connection that was taken, over a stand-in: what it makes of a peer that does not read, and when it lets go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvproto.frames import GREETING_BYTES_MAX, Accept, Connection, Listener
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.api.frame_server import FrameServer
from kvstore.config import ClusterConfig, NodeConfig
from kvstore.transport.hello import Identity
from tests.support.connections import Unread
from tests.support.waiting import turns

ME = Identity("n1", 7, ClusterConfig(), "127.0.0.1:1", "")
CONFIG = NodeConfig(node_id="n1", listen="127.0.0.1:1", data=Path("d"), peers={"n2": "127.0.0.1:2"})


class Net:
    """Hands over whom the test brings."""

    def __init__(self) -> None:
        self.accept: Accept = lambda connection: None
        self.port = 9

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        self.accept = accept
        return self

    def close(self) -> None:
        self.accept = lambda connection: None

    async def dial(self, address: str) -> Connection:
        raise NotImplementedError


class Loud:
    """Answers each request with a megabyte."""

    def take(self, request: peer_pb2.PeerRequest, transit: Any, outbox: Any) -> None:
        outbox.send(peer_pb2.PeerReply(batch_id=request.batch_id, last=True, records=[bytes(1 << 20)]), 1 << 20)


async def greeted() -> tuple[Unread, FrameServer]:
    net, connection = Net(), Unread()
    server = FrameServer(net, CONFIG, ME, Loud(), None, clients_max=1)  # type: ignore[arg-type]  # all that it does with an exchange
    await server.start()
    net.accept(connection)
    connection.take(key_value_pb2.FramesHello(node_id="n2", expects="n1", incarnation=7).SerializeToString())
    assert key_value_pb2.FramesHello.FromString(connection.written[0]).expects == "n2"
    assert connection.frame_bytes_max > GREETING_BYTES_MAX
    return connection, server


async def test_a_peer_that_does_not_read_its_replies_is_not_read_itself() -> None:
    connection, server = await greeted()
    asked = 0
    while not connection.is_paused():
        asked += 1
        connection.take(peer_pb2.PeerRequest(batch_id=asked).SerializeToString())
    assert asked <= 10, "8 MiB and a part"
    read = 0
    while connection.is_paused():
        read += 1
        connection.read_one()
        await turns(2)
    assert read <= 3, "as soon as there is room for one"
    while len(connection.written) <= asked:
        connection.read_one()
        await turns(2)
    assert [peer_pb2.PeerReply.FromString(frame).batch_id for frame in connection.written[1:]] == list(range(1, asked + 1))
    server.stop()
    assert connection.is_closed


async def test_a_server_that_is_stopped_while_it_begins_to_listen_listens_no_more() -> None:
    net = Net()
    server = FrameServer(net, CONFIG, ME, Loud(), None, clients_max=1)  # type: ignore[arg-type]
    server.stop()
    await server.start()
    connection = Unread()
    net.accept(connection)
    connection.take(key_value_pb2.FramesHello(node_id="n2", expects="n1", incarnation=7).SerializeToString())
    assert not connection.written
