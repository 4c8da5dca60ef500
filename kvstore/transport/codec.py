"""Peer messages to chunks' answers and back. Real protobuf, so that the simulated wire carries the very bytes that gRPC does."""

from __future__ import annotations

from collections.abc import Sequence

from kvproto.codec import decode_error
from kvproto.errors import BadRequest, Code, KvError
from kvproto.large_messages import LARGE_BYTES, LargeMessage, are_large, repeated_bytes
from kvproto.v1 import peer_pb2
from kvstore.core.page import Page
from kvstore.core.record import records_checksum
from kvstore.core.writers import WRITER_BYTES
from kvstore.transport.peers import Chunk, FetchChunk, ReapAnswer, ReapQuestion, ReapStep, RegisterChunk, StoreChunk

Request = peer_pb2.PeerRequest | LargeMessage[peer_pb2.PeerRequest]


def encode_request(
    batch_id: int,
    chunks: Sequence[Chunk],
    *,
    epoch: int,
    ring_hash: int,
    sent_ms: int,
    timeout_ms: int,
    sent_steady_ms: int = 0,
    may_be_beside: bool = False,
) -> tuple[Request, list[StoreChunk], list[FetchChunk], list[RegisterChunk]]:
    """One message of whatever gathered: its stores, fetches and questions in the order in which their positions count. `sent_ms`
    is of the clock that people read, `sent_steady_ms` of one that never steps. `may_be_beside`: large records need not be in it."""
    # As old as the oldest record in it: what waited here may have been superseded and reaped meanwhile (safety rule 9).
    oldest_ms = min([chunk.since_ms for chunk in chunks if isinstance(chunk, StoreChunk) and chunk.since_ms], default=sent_ms)
    message = peer_pb2.PeerRequest(
        batch_id=batch_id,
        ring_epoch=epoch,
        ring_hash=ring_hash,
        sent_ms=min(sent_ms, oldest_ms),
        timeout_ms=timeout_ms,
        sent_steady_ms=sent_steady_ms,
    )
    stores: list[StoreChunk] = []
    fetches: list[FetchChunk] = []
    registers: list[RegisterChunk] = []
    traces: dict[bytes, None] = {}
    writers: set[bytes] = set()
    for chunk in chunks:
        if chunk.trace:
            traces[chunk.trace] = None
        if isinstance(chunk, StoreChunk):
            stores.append(chunk)
            if chunk.trace:
                writers.add(chunk.trace[:WRITER_BYTES])
            if chunk.target:
                message.hints.add(first=len(message.store_keys), count=chunk.count, target=chunk.target)
            message.store_keys.extend(chunk.keys)
        elif isinstance(chunk, RegisterChunk):
            registers.append(chunk)
            message.register_asks.append(chunk.ask)
        else:
            fetches.append(chunk)
            message.fetch_keys.extend(chunk.keys)
    if traces:
        message.trace_ids.extend(traces)
        message.writers.extend(sorted(writers))
    if fetches:
        message.fetch_digests = fetches[0].digests if len(fetches) == 1 else b"".join([chunk.digests for chunk in fetches])
    if not stores:
        return message, stores, fetches, registers
    records = stores[0].records if len(stores) == 1 else [record for chunk in stores for record in chunk.records]
    message.store_checksum = records_checksum(records)
    if may_be_beside and sum([chunk.size_bytes for chunk in stores]) >= LARGE_BYTES and are_large(records):
        tail = repeated_bytes(peer_pb2.PeerRequest.STORE_RECORDS_FIELD_NUMBER, records)
        return LargeMessage(message, tail), stores, fetches, registers
    message.store_records.extend(records)
    return message, stores, fetches, registers


def is_intact(message: peer_pb2.PeerRequest, records: Sequence[bytes]) -> bool:
    """Whether `records`, those that `message` asks to store, are covered by a checksum that is right."""
    return message.HasField("store_checksum") and message.store_checksum == records_checksum(records)


def answer_stores(chunks: Sequence[StoreChunk], message: peer_pb2.PeerReply) -> None:
    """Hands each chunk its part of the refusals, and lets it answer."""
    refused = sorted(message.refused)
    offset = 0
    for chunk in chunks:
        chunk.disk_ms = message.queue_ms
        end = offset + chunk.count
        if refused:
            chunk.refused = [position - offset for position in refused if offset <= position < end]
        offset = end
        chunk.answered(chunk)


def answer_registers(chunks: list[RegisterChunk | None], message: peer_pb2.PeerReply) -> None:
    """Hands the chunks that `message` answers their replies; None takes their place. Raises `ValueError` for a position that was
    not asked about, or answered before."""
    positions, replies = message.register_positions, message.register_replies
    if len(positions) != len(replies):
        raise ValueError(f"{len(positions)} positions with {len(replies)} replies")
    for position, reply in zip(positions, replies, strict=True):
        chunk = chunks[position] if position < len(chunks) else None
        if chunk is None:
            raise ValueError(f"question {position} was not open")
        chunks[position] = None
        chunk.reply = reply
        chunk.answered(chunk)


def check_fetched(chunks: Sequence[FetchChunk], message: peer_pb2.PeerReply) -> None:
    """Raises `ValueError` unless what differs or is lost are positions of what was asked, each difference with its record."""
    count = sum([chunk.count for chunk in chunks])
    if len(message.differing) != len(message.records):
        raise ValueError(f"{len(message.differing)} differences with {len(message.records)} records")
    if max([*message.differing, *message.lost]) >= count:
        raise ValueError(f"a position beyond the {count} that were asked about")


def answer_fetches(chunks: Sequence[FetchChunk], message: peer_pb2.PeerReply) -> None:
    """Hands each chunk its part of what differs, and lets it answer."""
    if len(chunks) == 1 or not (message.differing or message.lost):
        for chunk in chunks:
            if message.differing or message.lost:
                chunk.differing, chunk.records, chunk.lost = list(message.differing), list(message.records), list(message.lost)
            chunk.answered(chunk)
        return
    differing = list(zip(message.differing, message.records, strict=True))
    offset = 0
    for chunk in chunks:
        end = offset + chunk.count
        mine = [(position - offset, record) for position, record in differing if offset <= position < end]
        chunk.differing = [position for position, _ in mine]
        chunk.records = [record for _, record in mine]
        chunk.lost = [position - offset for position in message.lost if offset <= position < end]
        offset = end
        chunk.answered(chunk)


def encode_refusals(batch_id: int, refused: Sequence[int], *, last: bool, queue_ms: int = 0) -> peer_pb2.PeerReply:
    """The stores of a batch are durable, but for `refused`; `queue_ms`: how long that took."""
    return peer_pb2.PeerReply(
        batch_id=batch_id,
        last=last,
        stored=True,
        refused=refused,
        refused_codes=[int(Code.RECORD_LOST)] * len(refused),
        queue_ms=queue_ms,
    )


def encode_reap(question: ReapQuestion, *, epoch: int, ring_hash: int) -> peer_pb2.ReapRequest:
    """The message that asks `question`."""
    return peer_pb2.ReapRequest(
        ring_epoch=epoch,
        ring_hash=ring_hash,
        step=int(question.step),  # type: ignore[arg-type]
        store_keys=question.store_keys,
        digests=question.digests,
        stamp=question.stamp,
    )


def decode_reap_question(message: peer_pb2.ReapRequest) -> ReapQuestion:
    """A question off the wire. Raises `BadRequest` for a step that this version does not know."""
    try:
        step = ReapStep(message.step)
    except ValueError:
        raise BadRequest(f"{message.step} is no step of a reaping", actual=max(0, message.step), subject="step") from None
    return ReapQuestion(step, list(message.store_keys), message.digests, message.stamp)


def decode_reap(message: peer_pb2.ReapReply) -> ReapAnswer:
    """An answer off the wire. Raises the peer's error."""
    if message.HasField("error"):
        raise decode_error(message.error)
    return ReapAnswer(message.against, message.now_ms, message.stamp)


def decode_page(message: peer_pb2.PageReply) -> Page:
    """A page off the wire. Raises the peer's error."""
    if message.HasField("error"):
        raise decode_error(message.error)
    return Page(message.keys, message.records, message.more, message.lost, rebuilding=message.rebuilding)


def reply_error(message: peer_pb2.PeerReply) -> KvError | None:
    """The error of a whole batch, if it is one."""
    return decode_error(message.error) if message.HasField("error") else None
