"""One peer's link: coalesces chunks into messages, matches replies in parts, fails fast while the stream is down.

Knows protobuf messages but no gRPC: a `PeerStream` carries them, over HTTP/2 in production and over the simulated network in tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from kvproto.errors import AvailabilityError, KvError, WrongEpoch
from kvproto.link import Coalescer, LinkBounds, Ticket
from kvproto.v1 import peer_pb2
from kvstore.runtime import Clock
from kvstore.telemetry.meters import LinkMeter, Timer
from kvstore.transport.codec import (
    Request,
    answer_fetches,
    answer_registers,
    answer_stores,
    check_fetched,
    encode_request,
    reply_error,
)
from kvstore.transport.parts import PART_BYTES_MAX, StorePart, answer_first, store_in_turn, why_unsendable
from kvstore.transport.peers import FRAMES, Chunk, FetchChunk, RegisterChunk, StoreChunk

RoundTrip = Callable[[str, float, float], None]
"""Told of a batch's first answer: from whom, after how many seconds, and when by the timer that both are read from."""


class PeerStream(Protocol):
    """An open stream to one peer: messages leave in the order of `send`, which never waits."""

    def send(self, message: Request) -> None:
        """Queues a message."""


class _InFlight:
    """A batch whose reply is not complete."""

    __slots__ = ("fetches", "operations", "registers", "sent_s", "stores", "ticket", "timed_s")

    def __init__(
        self,
        stores: list[StoreChunk],
        fetches: list[FetchChunk],
        registers: list[RegisterChunk],
        operations: int,
        ticket: Ticket,
        sent_s: float,
        timed_s: float,
    ) -> None:
        """`sent_s` by the loop's clock, `timed_s` by the link's timer."""
        self.registers: list[RegisterChunk | None] = list(registers)
        self.operations = operations
        self.timed_s = timed_s
        self.sent_s = sent_s
        self.stores = stores
        self.fetches = fetches
        self.ticket = ticket

    def fail(self, error: KvError) -> None:
        """Every chunk that is not answered yet gets `error`."""
        for store in self.stores:
            store.fail(error)
        for fetch in self.fetches:
            fetch.fail(error)
        for ask in self.registers:
            if ask is not None:
                ask.fail(error)

    @property
    def is_open(self) -> bool:
        """Whether something of it is not answered."""
        return bool(self.stores or self.fetches or any(self.registers))


class PeerLink:
    """The link to `node`. Chunks handed over while the stream is down are answered at once with an error."""

    def __init__(
        self,
        node: str,
        *,
        clock: Clock,
        ring_of: Callable[[], tuple[int, int]],
        bounds: LinkBounds | None = None,
        meter: LinkMeter | None = None,
        timer: Timer | None = None,
        on_round_trip: RoundTrip | None = None,
    ) -> None:
        self.node = node
        self.meter = meter
        self._clock = clock
        self._ring_of = ring_of
        self._loop = asyncio.get_running_loop()
        self._timer = timer or self._loop.time
        self._on_round_trip = on_round_trip
        self._coalescer: Coalescer[Chunk] = Coalescer(self._send, name=f"link to {node}", bounds=bounds, eager=True)
        self._stream: PeerStream | None = None
        self._in_flight: dict[int, _InFlight] = {}
        self._batch_id = 0
        self.refused: KvError | None = None  # the peer will not work with us, and why
        self._emptied: asyncio.Future[None] | None = None  # somebody waits for nothing to be on its way
        self.over = ""
        """What carries it while it is up (peer_streams.py)."""

    @property
    def is_up(self) -> bool:
        """Whether a stream is open."""
        return self._stream is not None

    @property
    def queued_count(self) -> int:
        """Operations that wait for the next batch."""
        return self._coalescer.queued_count

    @property
    def queued_bytes(self) -> int:
        """About what they hold."""
        return self._coalescer.queued_bytes

    @property
    def in_flight_count(self) -> int:
        """Messages whose reply is not complete."""
        return len(self._in_flight)

    @property
    def overloaded(self) -> int:
        """Operations turned away because too many waited."""
        return self._coalescer.overloaded

    @property
    def expired(self) -> int:
        """Operations whose deadline passed before they were sent."""
        return self._coalescer.expired

    def lag_s(self) -> float:
        """How long the oldest unanswered batch has been out; 0 when none is."""
        for batch in self._in_flight.values():
            return self._loop.time() - batch.sent_s
        return 0.0

    def submit(self, chunk: Chunk) -> None:
        """Queues `chunk`; it is answered later, also when that is an error."""
        if self._stream is None:
            self._loop.call_soon(chunk.fail, self._unreachable("is not connected", may_have_applied=False))
            return
        if chunk.size_bytes > PART_BYTES_MAX and isinstance(chunk, StoreChunk):
            if not isinstance(chunk, StorePart):
                store_in_turn(chunk, self.submit)
                return
            refusal = why_unsendable(chunk)
            if refusal is not None:
                self._loop.call_soon(chunk.fail, refusal)
                return
        try:
            self._coalescer.submit(chunk)
        except KvError as error:
            self._loop.call_soon(chunk.fail, error)

    def up(self, stream: PeerStream) -> None:
        """A stream was opened and greeted."""
        assert self._stream is None and not self._in_flight
        self.refused = None
        self._stream = stream

    async def replace(self, stream: PeerStream, over: str, timeout_s: float) -> bool:
        """Goes on over `stream`, once nothing is on its way over the one before; whether that came to be in time. Meanwhile what is
        submitted waits."""
        before = self._stream
        self._coalescer.pause()
        try:
            if self._in_flight:
                self._emptied = self._loop.create_future()
                async with asyncio.timeout(timeout_s):
                    await self._emptied
            if before is None or self._stream is not before:
                return False
            self._stream, self.over = stream, over
            return True
        except TimeoutError:
            return False
        finally:
            self._emptied = None
            self._coalescer.resume()

    def down(self, reason: str) -> None:
        """The stream broke: what was sent is unknown, what was queued was certainly not executed."""
        self._stream = None
        in_flight, self._in_flight = self._in_flight, {}
        self._tell_empty()
        for batch in in_flight.values():
            if self.meter is not None:
                self.meter.failed += batch.operations
            self._coalescer.release(batch.ticket)
            error = self._unreachable(reason, may_have_applied=True)
            batch.fail(error)
        for chunk in self._coalescer.drain():
            chunk.fail(self._unreachable(reason, may_have_applied=False))

    def receive(self, message: peer_pb2.PeerReply) -> None:
        """One part of a reply. The first part frees the link for the next batch. Raises `ValueError` when it does not add up,
        before anything of it counts."""
        batch = self._in_flight.get(message.batch_id)
        if batch is None:
            return
        meter = self.meter
        if not batch.ticket.released:
            now_s = self._timer()
            if meter is not None:
                meter.round_trips.add(now_s - batch.timed_s)
            if self._on_round_trip is not None:
                self._on_round_trip(self.node, now_s - batch.timed_s, now_s)
        self._coalescer.release(batch.ticket)
        error = reply_error(message)
        if error is not None:
            if meter is not None:
                meter.failed += batch.operations
            del self._in_flight[message.batch_id]
            self._tell_empty()
            batch.fail(error)
            return
        if message.differing or message.lost or message.records:
            check_fetched(batch.fetches, message)
        if message.rebuilding:
            for fetch in batch.fetches:
                fetch.rebuilding = True
        if message.fetched:
            fetches, batch.fetches = batch.fetches, []
            answer_fetches(fetches, message)
        elif message.fetched_below:
            fetches, batch.fetches = batch.fetches, []
            for rest in answer_first(fetches, message):
                self.submit(rest)
        if message.stored:
            stores, batch.stores = batch.stores, []
            answer_stores(stores, message)
        if message.register_replies:
            answer_registers(batch.registers, message)
        if message.last and self._in_flight.pop(message.batch_id, None) is not None:
            self._tell_empty()
            if meter is not None:
                meter.answered += batch.operations
            if batch.is_open:
                batch.fail(self._unreachable("ended a batch without answering all of it", may_have_applied=True))

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._coalescer.check()
        assert self._stream is not None or not (self._in_flight or self._coalescer.queued_count), "work on a link that is down"

    def _send(self, chunks: list[Chunk], ticket: Ticket) -> None:
        stream = self._stream
        if stream is None:  # it broke between the flush being scheduled and now
            self._coalescer.release(ticket)
            for chunk in chunks:
                chunk.fail(self._unreachable("is not connected", may_have_applied=False))
            return
        epoch, ring_hash = self._ring_of()
        # A chunk that waited while the ring changed was planned for other owners: under the new epoch's name the answer would be
        # counted with those of the old one (safety rule 7).
        stale = [chunk for chunk in chunks if chunk.ring_hash not in (0, ring_hash)]
        if stale:
            chunks = [chunk for chunk in chunks if chunk.ring_hash in (0, ring_hash)]
            for chunk in stale:
                self._loop.call_soon(chunk.fail, self._outdated(epoch))
            if not chunks:
                self._loop.call_soon(self._coalescer.release, ticket)
                return
        self._batch_id += 1
        now_s = self._loop.time()
        left_s = max(chunk.deadline_s for chunk in chunks) - now_s
        message, stores, fetches, registers = encode_request(
            self._batch_id,
            chunks,
            epoch=epoch,
            ring_hash=ring_hash,
            sent_ms=self._clock.now_ms(),
            timeout_ms=max(1, int(left_s * 1000)),
            sent_steady_ms=int(now_s * 1000),
            may_be_beside=self.over == FRAMES,
        )
        operations = 0
        for chunk in chunks:
            chunk.sent_s = now_s
            operations += chunk.count
        if self.meter is not None:
            self.meter.messages += 1
        self._in_flight[self._batch_id] = _InFlight(stores, fetches, registers, operations, ticket, now_s, self._timer())
        stream.send(message)

    def _tell_empty(self) -> None:
        if self._emptied is not None and not self._in_flight and not self._emptied.done():
            self._emptied.set_result(None)

    def _outdated(self, epoch: int) -> KvError:
        return WrongEpoch(f"the ring is of epoch {epoch} by now: {self.node} was not asked", actual=epoch, subject=self.node)

    def _unreachable(self, reason: str, *, may_have_applied: bool) -> KvError:
        if self.refused is not None:
            return self.refused
        return AvailabilityError(f"{self.node} {reason}", may_have_applied=may_have_applied, subject=self.node)
