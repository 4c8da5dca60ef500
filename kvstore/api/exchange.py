"""What peers ask in batches, whatever carries them: stores, fetches, and questions to the acceptor of registers.

Fetches are answered at once, as many as fit; stores when they are durable: a reply in two parts. Called for each message of an
`Exchange` call (peer.py) and of a connection that carries frames (frame_server.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from kvproto.codec import encode_error
from kvproto.errors import DeadlineExceeded, KvError, WrongEpoch
from kvproto.large_messages import LARGE_BYTES, LargeMessage, are_large, repeated_bytes
from kvproto.outbox import Outbox
from kvproto.v1 import peer_pb2
from kvstore.cluster.view import RingHolder
from kvstore.core.transit import Transit
from kvstore.core.writers import SOMEBODY
from kvstore.storage.freshness import Freshness
from kvstore.storage.register_desk import RegisterDesk
from kvstore.storage.replica import Replica
from kvstore.telemetry.node import Telemetry
from kvstore.transport.codec import encode_refusals, is_intact
from kvstore.transport.parts import PART_BYTES_MAX, RECORD_BYTES_MAX

TRACES_TOLD_MAX = 8
"""Of a message's ids, so many are told when it was slow."""

Reply = peer_pb2.PeerReply | LargeMessage[peer_pb2.PeerReply]
Replies = Outbox[Reply]


class Exchange:
    """Decodes, hands to the replica and the acceptor, encodes."""

    def __init__(
        self,
        me: str,
        replica: Replica,
        ring: RingHolder,
        *,
        registers: RegisterDesk,
        telemetry: Telemetry,
        freshness: Freshness,
    ) -> None:
        self._me = me
        self._replica = replica
        self._ring = ring
        self._registers = registers
        self._freshness = freshness
        self._logs = telemetry.logs
        self._timer = telemetry.timer
        self._slow_s = telemetry.slow_batch_s or float("inf")

    def take(self, request: peer_pb2.PeerRequest, transit: Transit, outbox: Replies) -> None:
        """Answers `request`, one more of its stream, through `outbox`; nothing of it if its time was over when it was read."""
        waited_s = transit.waited_s(request.sent_steady_ms, asyncio.get_running_loop().time())
        if waited_s * 1000 > request.timeout_ms > 0:
            self._drop(request, outbox)
        else:
            self.answer(request, outbox)

    def why_stale(self, epoch: int, ring_hash: int) -> KvError | None:
        """Why nobody, or nobody who goes by that ring, is answered; None if they are."""
        if self._replica.closed is not None:
            return self._replica.closed
        ring = self._ring.view.ring
        if (epoch, ring_hash) == (ring.epoch, ring.hash):
            return None
        return WrongEpoch(
            f"{self._me} goes by ring epoch {ring.epoch} ({ring.hash:016x}), the asker by {epoch} ({ring_hash:016x})",
            limit=ring.epoch,
            actual=epoch,
        )

    def answer(self, request: peer_pb2.PeerRequest, outbox: Replies) -> None:
        """Answers `request` through `outbox`, whenever it was sent."""
        batch_id = request.batch_id
        stores, fetches, asks = list(request.store_keys), list(request.fetch_keys), list(request.register_asks)
        refusal = (
            self.why_stale(request.ring_epoch, request.ring_hash)
            or self._replica.why_misplaced(stores)
            or self._replica.why_misplaced(fetches)
        )
        if refusal is not None:
            outbox.send(peer_pb2.PeerReply(batch_id=batch_id, last=True, error=encode_error(refusal)))
            return
        if fetches:
            found = self._replica.compare(fetches, request.fetch_digests, PART_BYTES_MAX, RECORD_BYTES_MAX)
            are_beside = found.size_bytes >= LARGE_BYTES and are_large(found.records)
            reply = peer_pb2.PeerReply(
                batch_id=batch_id,
                last=not stores and not asks,
                fetched=not found.rest_from,
                fetched_below=found.rest_from,
                differing=found.differing,
                records=() if are_beside else found.records,
                lost=found.lost,
                rebuilding=self._replica.is_unsure_of(fetches),
            )
            if are_beside:
                tail = repeated_bytes(peer_pb2.PeerReply.RECORDS_FIELD_NUMBER, found.records)
                outbox.send(LargeMessage(reply, tail), found.size_bytes)
            else:
                outbox.send(reply, found.size_bytes)
        late = self._freshness.why_late(request.sent_ms, len(stores)) if stores else None
        if late is not None:
            outbox.send(peer_pb2.PeerReply(batch_id=batch_id, last=True, error=encode_error(late)))
            return
        parts = _Parts(batch_id, outbox, bool(stores) + len(asks))
        for position, ask in enumerate(asks):
            self._registers.ask_bytes(ask, partial(parts.tell_register, position))
        if stores:
            came_s = self._timer()
            self._note_writers(request)

            def done(error: KvError | None, refused: Sequence[int]) -> None:
                if error is not None:
                    parts.break_off(error)
                else:
                    elapsed_s = self._timer() - came_s
                    outbox.send(encode_refusals(batch_id, refused, last=parts.is_last(), queue_ms=int(elapsed_s * 1000)))
                    if elapsed_s >= self._slow_s:
                        self._tell_slow(request, elapsed_s)

            records = list(request.store_records)
            held_for = [(run.first, run.count, run.target) for run in request.hints]
            self._replica.merge(stores, records, done, intact=is_intact(request, records), held_for=held_for)

    def _note_writers(self, request: peer_pb2.PeerRequest) -> None:
        """Whoever wants to be the only one who writes is not, if another node coordinates writes of somebody else."""
        writers = request.writers
        now_s = asyncio.get_running_loop().time()
        for writer in writers:
            self._replica.writers.wrote(writer, now_s)
        if not writers and request.trace_ids and not request.fetch_keys:  # of a node that does not say whose they are
            self._replica.writers.wrote(SOMEBODY, now_s)

    def _drop(self, request: peer_pb2.PeerRequest, outbox: Replies) -> None:
        """Nobody waits for any of it any more. A coordinator notes whom it could not tell what."""
        self._replica.expired += len(request.store_keys) + len(request.fetch_keys) + len(request.register_asks)
        late = DeadlineExceeded("the deadline had passed when the message was read: it was not executed")
        outbox.send(peer_pb2.PeerReply(batch_id=request.batch_id, last=True, error=encode_error(late)))

    def _tell_slow(self, request: peer_pb2.PeerRequest, elapsed_s: float) -> None:
        """Beside the coordinator's `slow_batch` of the same trace: here it was the disk, or the queue in front of it."""
        self._logs.tell(
            "warning",
            "slow_store",
            traces=[trace.hex() for trace in request.trace_ids[:TRACES_TOLD_MAX]],
            records=len(request.store_keys),
            elapsed_ms=round(elapsed_s * 1000, 1),
        )


class _Parts:
    """The parts of a reply that wait for the disk, in whatever order they come; the one that completes it says so."""

    __slots__ = ("_batch_id", "_is_over", "_left", "_outbox")

    def __init__(self, batch_id: int, outbox: Replies, left: int) -> None:
        self._batch_id = batch_id
        self._outbox = outbox
        self._left = left
        self._is_over = False

    def is_last(self) -> bool:
        """Counts one more; whether it is the last."""
        self._left -= 1
        return not self._left

    def tell_register(self, position: int, error: KvError | None, reply: bytes) -> None:
        """The acceptor has answered one question."""
        if self._is_over:
            return
        if error is not None:
            self.break_off(error)
            return
        message = peer_pb2.PeerReply(
            batch_id=self._batch_id, last=self.is_last(), register_positions=[position], register_replies=[reply]
        )
        self._outbox.send(message, len(reply))

    def break_off(self, error: KvError) -> None:
        """The rest of the batch is answered with `error`: storage has failed, or takes no more."""
        if not self._is_over:
            self._is_over = True
            self._outbox.send(peer_pb2.PeerReply(batch_id=self._batch_id, last=True, error=encode_error(error)))
