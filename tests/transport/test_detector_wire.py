"""What failure detectors say to each other, over real gRPC and through the codec."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kvproto.v1 import peer_pb2
from kvstore.core.membership.messages import Ack, Gossip, Message, Nack, Ping, PingRequest
from kvstore.core.membership.table import INCARNATION_MAX, Claim, State
from kvstore.seams import _open_channel
from kvstore.transport.detector_calls import CALLS_MAX, DetectorCalls
from kvstore.transport.detector_codec import CLAIMS_MAX, decode_detector, encode_detector
from kvstore.transport.security import PlainText
from tests.support.nodes import Nodes
from tests.support.waiting import until

CLAIMS = (Claim("n1", State.ALIVE, 3, "n1"), Claim("n2", State.SUSPECT, 2**40, "n3"), Claim("n3", State.DEAD, 0, "n1"))


@pytest.mark.parametrize(
    "message",
    [
        Ping(2**47, "n2", CLAIMS),
        PingRequest(1, "n3", CLAIMS),
        Ack(9, CLAIMS),
        Nack(9, ()),
        Gossip(CLAIMS),
        Gossip(CLAIMS, sync=True),
        Gossip((), sync=True, answer=True),
    ],
)
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    raw = encode_detector("c", "n1", message).SerializeToString()
    wire = peer_pb2.DetectorMessage.FromString(raw)
    assert decode_detector(wire) == message and (wire.cluster_id, wire.sender) == ("c", "n1")


def test_what_a_newer_version_says_is_passed_over() -> None:
    assert decode_detector(peer_pb2.DetectorMessage(kind=99)) is None  # type: ignore[arg-type]
    claims = [peer_pb2.MemberClaim(member="n2", state=99), peer_pb2.MemberClaim(member="n3", state=peer_pb2.MEMBER_STATE_DEAD)]  # type: ignore[arg-type]
    message = decode_detector(peer_pb2.DetectorMessage(kind=peer_pb2.DETECTOR_KIND_GOSSIP, claims=claims))
    assert message == Gossip((Claim("n3", State.DEAD, 0, ""),))


def test_no_message_makes_work_without_bounds() -> None:
    claim = peer_pb2.MemberClaim(member="n2", state=peer_pb2.MEMBER_STATE_DEAD, incarnation=INCARNATION_MAX + 1)
    message = decode_detector(peer_pb2.DetectorMessage(kind=peer_pb2.DETECTOR_KIND_GOSSIP, claims=[claim] * (CLAIMS_MAX + 1)))
    assert message is not None and len(message.claims) == CLAIMS_MAX


def calls_to(nodes: Nodes, node: str, *, me: str = "n1", cluster_id: str = "test", timeout_s: float = 5.0) -> DetectorCalls:
    return DetectorCalls(
        me, cluster_id, {node: nodes.addresses[node]}, channel=_open_channel, security=PlainText(), timeout_s=timeout_s
    )


async def test_a_node_answers_a_ping_with_the_reply_itself(tmp_path: Path) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start()
        detection = nodes.running["n2"].parts.detection
        assert detection is not None
        await until(lambda: detection.is_running)  # its lease is durable
        calls = calls_to(nodes, "n2")
        heard: list[tuple[str, Message]] = []
        calls.heard = lambda node, message: heard.append((node, message))
        calls.send("n2", Ping(5, "n2", ()))
        await until(lambda: heard)
        node, message = heard[0]
        assert node == "n2" and isinstance(message, Ack) and message.sequence == 5
        assert message.claims[0] == Claim("n2", State.ALIVE, detection.incarnation, "n2")
        took: list[float] = []
        calls.measure("n2", took.append)
        await until(lambda: took)
        await calls.close()


@pytest.mark.parametrize("wrong", [{"me": "stranger"}, {"cluster_id": "another"}])
async def test_strangers_and_other_clusters_are_not_heard(tmp_path: Path, wrong: dict[str, str]) -> None:
    async with Nodes(tmp_path) as nodes:
        await nodes.start()
        calls = calls_to(nodes, "n2", **wrong)  # type: ignore[arg-type]
        heard: list[Message] = []
        calls.heard = lambda node, message: heard.append(message)
        calls.send("n2", Gossip((Claim("n1", State.DEAD, 10**6, "stranger"),)))
        calls.send("n2", Ping(5, "n2", ()))
        await until(lambda: not calls.in_flight_count)
        assert not heard and nodes.running["n2"].parts.detection.changes["n1", "dead"] == 0  # type: ignore[union-attr]
        await calls.close()


async def test_calls_to_a_peer_that_is_silent_are_bounded_and_end() -> None:
    open_: set[asyncio.StreamWriter] = set()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        open_.discard(writer)

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
    calls = DetectorCalls("n1", "c", {"n2": address}, channel=_open_channel, security=PlainText(), timeout_s=0.2)
    for number in range(2 * CALLS_MAX):
        calls.send("n2", Ping(number, "n2", ()))
    assert calls.in_flight_count == CALLS_MAX and calls.lost == CALLS_MAX
    await until(lambda: not calls.in_flight_count)
    assert calls.lost == 2 * CALLS_MAX
    await calls.close()
    await until(lambda: not open_)
    server.close()
    await server.wait_closed()
