"""Request ids: what makes a retried write the same write through any coordinator (docs/architecture.md, "Retries").

16 bytes: when it was issued, by the cluster's clock (6 bytes, milliseconds, big-endian), the client's tag (6 random bytes), a
sequence number (4 bytes). The cluster's clock, so that the ids of different clients compare; how old one is
nodes judge by this clock and not by theirs, which may be wrong.
"""

from __future__ import annotations

from random import Random

from kvclient.clock import Clock
from kvproto.columns import REQUEST_ID_BYTES

_SEQUENCE_MASK = 0xFFFFFFFF


class RequestIds:
    """Issues the ids of one client. Unique as long as it issues fewer than 2^32 a millisecond."""

    __slots__ = ("_clock", "_is_set", "_offset_ms", "_sequence", "_tag", "_trace_prefix")

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._tag = rng.randbytes(6)
        self._sequence = rng.getrandbits(32)
        self._trace_prefix = self._tag + (self._sequence & 0xFFFF).to_bytes(2, "big")
        self._offset_ms = 0.0
        self._is_set = False

    @property
    def trace_prefix(self) -> bytes:
        """8 random bytes that name this client in what nodes log of its requests."""
        return self._trace_prefix

    def clock_s(self) -> float:
        """The clock these ids go by, for the moments `synchronize` takes."""
        return self._clock.monotonic_s()

    def synchronize(self, server_time_ms: int, sent_s: float, received_s: float) -> None:
        """Learns the cluster's clock from an answer to a question sent and received at these monotonic seconds (Cristian, 1989).

        Once: a clock that steps when another node answers would make the ids under way older or younger than they are, and nodes
        need not agree with it, for they are told how far it is from theirs (docs/adr/0015).
        """
        if not self._is_set:
            self._is_set = True
            self._offset_ms = server_time_ms - (sent_s + received_s) * 500

    def now_ms(self) -> int:
        """The cluster's time, as far as known; never steps once `synchronize` was called."""
        return max(0, int(self._clock.monotonic_s() * 1000 + self._offset_ms))

    def issue(self, count: int) -> list[bytes]:
        """`count` new ids, issued now: one reading of the clock for all of them."""
        prefix = self.now_ms().to_bytes(6, "big") + self._tag
        first = self._sequence
        self._sequence = (first + count) & _SEQUENCE_MASK
        return [prefix + (number & _SEQUENCE_MASK).to_bytes(4, "big") for number in range(first, first + count)]

    def age_ms(self, request_id: bytes) -> int:
        """How long ago `request_id` was issued."""
        assert len(request_id) == REQUEST_ID_BYTES
        return self.now_ms() - int.from_bytes(request_id[:6], "big")
