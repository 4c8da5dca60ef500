"""A message whose large values stand beside it is encoded as if they stood in it."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from kvproto.codec import decode_groups, decode_replies, encode_batch, encode_replies, with_large_groups, with_large_replies
from kvproto.columns import GroupReply, Kind, OperationGroup, Receipt
from kvproto.errors import Overloaded
from kvproto.frames import Connection, TcpFrames
from kvproto.large_messages import BLOB_BYTES_MIN, LARGE_BYTES, LargeMessage, are_large, repeated_bytes, whole, write_frame
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.transport.codec import encode_request
from kvstore.transport.peers import FetchChunk, StoreChunk
from tests.support.waiting import until

# Lengths on both sides of each step of a length's own length.
VALUES = st.lists(st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 70_000]).map(lambda size: b"v" * size), max_size=4)
GROUPS = st.lists(
    st.builds(
        lambda values, namespace: OperationGroup(Kind.PUT, namespace, [b"%d" % at for at in range(len(values))], values=values),
        VALUES,
        st.sampled_from(["default", "other"]),
    ),
    max_size=3,
)


@given(GROUPS)
def test_a_batch_with_its_values_beside_it_is_the_same_batch(groups: list[OperationGroup]) -> None:
    plain = encode_batch(7, groups, cluster_id="c", sent_ms=5)
    large = with_large_groups(encode_batch(7, (), cluster_id="c", sent_ms=5), groups)
    assert large.whole() == plain
    assert large.size_bytes() == plain.ByteSize()
    assert [group.values for group in decode_groups(large.whole())] == [list(group.values) for group in groups]


@given(st.lists(VALUES, max_size=3))
def test_an_answer_with_its_values_beside_it_is_the_same_answer(columns: list[list[bytes]]) -> None:
    replies = [GroupReply(at, values=values, counts=[1] * len(values), receipt=Receipt(n=3)) for at, values in enumerate(columns)]
    replies.append(GroupReply(9, error=Overloaded("later", retry_after_s=1.0)))
    plain = encode_replies(7, replies, last=True, ring_epoch=3, trace_id=b"t" * 16)
    beside = with_large_replies(encode_replies(7, [], last=True, ring_epoch=3), replies, b"t" * 16)
    assert beside.whole() == plain
    assert [reply.group for reply in decode_replies(beside.whole())] == [reply.group for reply in replies]


@given(VALUES, VALUES)
def test_records_for_a_peer_are_in_their_order_beside_or_within(first: list[bytes], second: list[bytes]) -> None:
    chunks = [
        StoreChunk("n2", [b"k"] * len(records), records, sum(map(len, records)), 9.0, lambda chunk: None)
        for records in (first, second)
        if records
    ]
    chunks.append(FetchChunk("n2", [b"x"], bytes(8), 1, 9.0, lambda chunk: None))  # type: ignore[arg-type]
    message, stores, _, _ = encode_request(1, chunks, epoch=1, ring_hash=2, sent_ms=3, timeout_ms=4, may_be_beside=True)
    records = [record for chunk in stores for record in chunk.records]
    assert list(whole(message).store_records) == records
    assert isinstance(message, LargeMessage) == are_large(records)


def test_few_bytes_and_many_small_values_are_not_worth_it() -> None:
    assert are_large([bytes(LARGE_BYTES)]) and not are_large([bytes(LARGE_BYTES - 1)])
    assert are_large([bytes(LARGE_BYTES), b""]) and not are_large([])
    assert not are_large([bytes(BLOB_BYTES_MIN - 1)] * 1000)


async def frame_over_a_socket(message: Message | LargeMessage[Any]) -> bytes:
    """The frame that comes out at the other end."""
    net, accepted, taken = TcpFrames(), list[Connection](), list[bytes]()

    def accept(connection: Connection) -> None:
        connection.take = lambda frame: taken.append(bytes(frame))
        connection.frame_bytes_max = 1 << 24
        accepted.append(connection)

    listener = await net.listen("127.0.0.1", 0, accept)
    connection = await net.dial(f"127.0.0.1:{listener.port}")
    await write_frame(connection, message)
    await until(lambda: taken)
    for end in (connection, *accepted):
        end.close()
    listener.close()
    return taken[0]


async def test_a_frame_in_pieces_arrives_as_one() -> None:
    records = [bytes([at]) * 300_000 for at in range(5)]
    reply = LargeMessage(
        peer_pb2.PeerReply(batch_id=4, differing=range(5)), repeated_bytes(peer_pb2.PeerReply.RECORDS_FIELD_NUMBER, records)
    )
    frame = await frame_over_a_socket(reply)
    assert peer_pb2.PeerReply.FromString(frame) == reply.whole()
    small = key_value_pb2.BatchReply(batch_id=4)
    assert key_value_pb2.BatchReply.FromString(await frame_over_a_socket(small)) == small
