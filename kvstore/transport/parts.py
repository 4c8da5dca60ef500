"""Chunks that are too large for one message. Stores are cut before they leave; a fetch, whose answer nobody can measure beforehand,
is answered up to where its bytes end and asked again from there. Both go on part after part, each queueing like any other work, so
that a large one neither holds up small ones nor fills a queue, and end as one answer. Whoever made the chunk knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kvproto.errors import TooLarge
from kvproto.options import MESSAGE_BYTES_MAX
from kvproto.v1 import peer_pb2
from kvstore.core.record import DIGEST_BYTES
from kvstore.transport.peers import FetchChunk, StoreChunk

PART_BYTES_MAX = 4 * 1024 * 1024
"""What a message carries at most of records; one record that is larger goes alone."""

RECORD_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024
"""The largest record, with its key, that fits into a message. gRPC ends the whole stream over one that does not."""


class StorePart(StoreChunk):
    """Some records of a chunk, from its position `base` on."""

    __slots__ = ("base",)

    def __init__(self, whole: StoreChunk, base: int, end: int, answered: Callable[[StoreChunk], None]) -> None:
        keys, records = whole.keys[base:end], whole.records[base:end]
        size_bytes = sum(map(len, keys)) + sum(map(len, records))
        super().__init__(
            whole.node,
            keys,
            records,
            size_bytes,
            whole.deadline_s,
            answered,
            whole.ring_hash,
            whole.trace,
            whole.target,
            whole.since_ms,
        )
        self.base = base


def store_in_turn(chunk: StoreChunk, submit: Callable[[StorePart], None], *, bytes_max: int = PART_BYTES_MAX) -> None:
    """Submits the chunk in parts of at most `bytes_max`, or of one record, each when the one before it is durable. A part that
    fails is the last one and fails the chunk, as nothing of a chunk with an error counts."""
    bounds = _bounds(chunk, bytes_max)
    refused: list[int] = []

    def answered(part: StoreChunk) -> None:
        assert isinstance(part, StorePart)
        refused.extend([part.base + position for position in part.refused])
        following = next(bounds, None)
        if following is None or part.error is not None:
            chunk.error, chunk.refused = part.error, () if part.error else refused
            chunk.answered(chunk)
        else:
            submit(StorePart(chunk, *following, answered))

    submit(StorePart(chunk, *next(bounds), answered))


def _bounds(chunk: StoreChunk, bytes_max: int) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends."""
    base = size_bytes = 0
    for at, (key, record) in enumerate(zip(chunk.keys, chunk.records, strict=True)):
        size_bytes += len(key) + len(record)
        if at > base and size_bytes > bytes_max:
            yield base, at
            base, size_bytes = at, len(key) + len(record)
    yield base, chunk.count


def why_unsendable(chunk: StorePart) -> TooLarge | None:
    """The error of a part that fits into no message, which only a single record can be; None for every other."""
    if chunk.size_bytes <= RECORD_BYTES_MAX:
        return None
    return TooLarge(
        f"a record of {chunk.size_bytes} bytes does not fit into a message to {chunk.node}, at most {RECORD_BYTES_MAX} bytes do",
        limit=RECORD_BYTES_MAX,
        actual=chunk.size_bytes,
        subject=chunk.node,
    )


GATHERED_BYTES_MAX = 16 * 1024 * 1024
"""Of records that the answers to one chunk gather. What is beyond is not asked for: the answer says where it ends."""


class FetchRest(FetchChunk):
    """What is left to ask of a chunk, from its position `base` on."""

    __slots__ = ("base", "whole")

    def __init__(self, whole: FetchChunk, base: int) -> None:
        keys, digests = whole.keys[base:], whole.digests[DIGEST_BYTES * base :]
        size_bytes = len(digests) + sum(map(len, keys))
        super().__init__(whole.node, keys, digests, size_bytes, whole.deadline_s, FetchRest.finish, whole.ring_hash, whole.trace)
        self.whole = whole
        self.base = base

    @staticmethod
    def finish(rest: FetchChunk) -> None:
        """The last part of the answer, or an error, which then is the answer."""
        assert isinstance(rest, FetchRest)
        whole = rest.whole
        if rest.error is not None:
            whole.error, whole.differing, whole.records, whole.lost = rest.error, (), (), ()
        else:
            _add(whole, rest.base, rest.differing, rest.records, rest.lost)
            whole.rebuilding = whole.rebuilding or rest.rebuilding
        whole.answered(whole)


def answer_first(chunks: Sequence[FetchChunk], message: peer_pb2.PeerReply) -> list[FetchChunk]:
    """Answers the chunks below `fetched_below`; gives back what is to be asked again of the others, in their order."""
    differing = list(zip(message.differing, message.records, strict=True))
    lost = list(message.lost)
    again: list[FetchChunk] = []
    offset = 0
    for chunk in chunks:
        end, answered = offset + chunk.count, message.fetched_below - offset
        if answered <= 0:
            again.append(chunk)
        else:
            mine = [(position - offset, record) for position, record in differing if offset <= position < end]
            chunk.differing = [position for position, _ in mine]
            chunk.records = [record for _, record in mine]
            chunk.lost = [position - offset for position in lost if offset <= position < end]
            if answered < chunk.count:
                rest = _rest_of(chunk, answered)
                if sum(map(len, rest.whole.records)) < GATHERED_BYTES_MAX:
                    again.append(rest)
                else:
                    rest.whole.answered_below = rest.base
                    rest.whole.answered(rest.whole)
            else:
                chunk.answered(chunk)
        offset = end
    return again


def _rest_of(chunk: FetchChunk, answered: int) -> FetchRest:
    if isinstance(chunk, FetchRest):
        _add(chunk.whole, chunk.base, chunk.differing, chunk.records, chunk.lost)
        return FetchRest(chunk.whole, chunk.base + answered)
    return FetchRest(chunk, answered)


def _add(whole: FetchChunk, base: int, differing: Sequence[int], records: Sequence[bytes], lost: Sequence[int]) -> None:
    whole.differing = [*whole.differing, *(base + position for position in differing)]
    whole.records = [*whole.records, *records]
    whole.lost = [*whole.lost, *(base + position for position in lost)]
