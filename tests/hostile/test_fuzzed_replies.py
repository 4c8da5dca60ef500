"""What a node answers may be anything: a peer's link takes it, or says that it does not add up; a client's call ends with a result
or a `KvError`, within its time."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kvclient import AsyncClient
from kvclient.errors import KvError
from kvclient.transport import OnReply, Ring, Transport
from kvproto.codec import decode_replies
from kvproto.columns import OperationGroup
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.transport.codec import Request
from kvstore.transport.peer_link import PeerLink
from kvstore.transport.peers import FetchChunk, StoreChunk
from tests.client.scripted import World
from tests.support.clocks import ManualClock

POSITIONS = st.lists(st.one_of(st.integers(0, 6), st.integers(0, 2**32 - 1)), max_size=4)

REPLIES = st.builds(
    peer_pb2.PeerReply,
    batch_id=st.integers(0, 3),
    last=st.booleans(),
    error=st.one_of(st.none(), st.builds(key_value_pb2.Error, code=st.integers(-1, 100), message=st.text(max_size=5))),
    stored=st.booleans(),
    refused=POSITIONS,
    refused_codes=st.lists(st.integers(0, 2**32 - 1), max_size=4),
    fetched=st.booleans(),
    differing=POSITIONS,
    records=st.lists(st.binary(max_size=9), max_size=4),
    lost=POSITIONS,
    queue_ms=st.integers(0, 2**32 - 1),
    fetched_below=st.one_of(st.integers(0, 6), st.integers(0, 2**32 - 1)),
)


class Rig:
    """A link with two stores and two fetches on their way in one batch or two."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.link = PeerLink("n2", clock=ManualClock(), ring_of=lambda: (1, 2))
        self.link.up(self)
        end_s = asyncio.get_running_loop().time() + 1000
        self.chunks: list[Any] = []
        for at in range(2):
            keys = [b"key%d%d" % (at, number) for number in range(3)]
            self.chunks += [
                StoreChunk("n2", keys, [b"record"] * 3, 18, end_s, self.answers.append),
                FetchChunk("n2", keys, bytes(24), 12, end_s, self.answers.append),
            ]

    def send(self, message: Request) -> None:
        """The stream: what leaves is lost."""

    def receive(self, reply: peer_pb2.PeerReply) -> bool:
        """Whether the stream goes on."""
        try:
            self.link.receive(reply)
        except ValueError:  # as the transport does
            return False
        return True


@given(replies=st.lists(REPLIES, max_size=5))
def test_every_chunk_is_answered_at_most_once_while_a_peer_talks_nonsense_and_exactly_once_when_it_is_over(
    replies: list[peer_pb2.PeerReply],
) -> None:
    async def converse() -> None:
        rig = Rig()
        for chunk in rig.chunks:
            rig.link.submit(chunk)
        for reply in replies:
            if not rig.receive(peer_pb2.PeerReply.FromString(reply.SerializeToString())):
                break
            await asyncio.sleep(0)
            rig.link.check()
        rig.link.down("ended")
        rig.link.check()
        assert sorted(map(id, rig.answers)) == sorted(map(id, rig.chunks))

    asyncio.run(converse())


ANSWERS = st.builds(
    key_value_pb2.BatchReply,
    replies=st.lists(
        st.builds(
            key_value_pb2.GroupReply,
            group=st.one_of(st.just(0), st.integers(0, 2**32 - 1)),
            positions=POSITIONS,
            counts=st.lists(st.integers(0, 3), max_size=4),
            values=st.lists(st.binary(max_size=3), max_size=4),
            versions=st.one_of(st.binary(max_size=61), st.sampled_from([bytes(20), bytes(40)])),
            contexts=st.lists(st.binary(max_size=3), max_size=4),
            expires_ms=st.lists(st.integers(0, 2**64 - 1), max_size=4),
            error=st.one_of(st.none(), st.builds(key_value_pb2.Error, code=st.integers(-1, 100), retryable=st.booleans())),
        ),
        max_size=3,
    ),
    last=st.booleans(),
)


@given(answers=st.lists(ANSWERS, min_size=1, max_size=3))
def test_a_clients_call_ends_with_a_result_or_a_typed_error_whatever_a_node_answers(
    answers: list[key_value_pb2.BatchReply],
) -> None:
    async def call() -> None:
        defects: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context))
        world = World()

        def exchange(groups: list[OperationGroup], on_reply: OnReply) -> None:
            for answer in answers:
                on_reply(decode_replies(key_value_pb2.BatchReply.FromString(answer.SerializeToString())), answer.last)
                if answer.last:
                    return
            on_reply([], True)

        def dial(address: str, ring: Ring) -> Transport:
            transport = world.dial(address, ring)
            transport.exchange = exchange  # type: ignore[method-assign]
            return transport

        async with AsyncClient(",".join(node.address for node in world.cluster.nodes), dial=dial) as client:
            calls = (
                client.get("k", timeout_s=0.05),
                client.put("k", b"v", timeout_s=0.05),
                client.get_many(["a", "b", "c"], timeout_s=0.05),
                client.put_many({"a": b"", "b": b""}, timeout_s=0.05),
            )
            async with asyncio.timeout(10):
                ends = await asyncio.gather(*calls, return_exceptions=True)
            for link in client.membership.all_links():
                link.check()
        assert [end for end in ends if isinstance(end, BaseException) and not isinstance(end, KvError)] == []
        assert defects == []

    asyncio.run(call())
