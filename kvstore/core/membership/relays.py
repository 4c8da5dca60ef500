"""Pings that we send for others: an ack goes back if the target answers, a nack in time if it has not (SWIM, section 3.1;
Lifeguard)."""

from __future__ import annotations

from dataclasses import dataclass

RELAYS_MAX = 256
"""Pings for others in flight; a request beyond it is answered with a nack at once."""


@dataclass(slots=True)
class Relay:
    """A ping of ours for `asker`, who calls it `sequence`."""

    asker: str
    sequence: int
    target: str
    nack_at_ms: int | None
    ends_ms: int

    @property
    def wake_ms(self) -> int:
        """When there is something to do about it."""
        return self.ends_ms if self.nack_at_ms is None else self.nack_at_ms


class Relays:
    """Those in flight, by the sequence under which we sent them."""

    __slots__ = ("_relays",)

    def __init__(self) -> None:
        self._relays: dict[int, Relay] = {}

    @property
    def is_full(self) -> bool:
        """Whether no more may be added."""
        return len(self._relays) >= RELAYS_MAX

    def add(self, sequence: int, relay: Relay) -> None:
        """One more; there is room."""
        assert not self.is_full
        self._relays[sequence] = relay

    def answered(self, sequence: int, by: str) -> Relay | None:
        """The relay that `by` has answered, which is over; None if it answered none."""
        relay = self._relays.get(sequence)
        if relay is None or relay.target != by:
            return None
        return self._relays.pop(sequence)

    def unanswered(self, now_ms: int) -> list[Relay]:
        """Those whose nack is due, each once; what has been waited for long enough is dropped."""
        due = []
        for sequence, relay in list(self._relays.items()):
            if relay.nack_at_ms is not None and now_ms >= relay.nack_at_ms:
                relay.nack_at_ms = None
                due.append(relay)
            if now_ms >= relay.ends_ms:
                del self._relays[sequence]
        return due

    def wakes_ms(self) -> list[int]:
        """When there is something to do about each."""
        return [relay.wake_ms for relay in self._relays.values()]

    def forget(self, member: str) -> None:
        """It is no member any more."""
        self._relays = {sequence: relay for sequence, relay in self._relays.items() if member not in (relay.asker, relay.target)}

    def clear(self) -> None:
        """Drops all: we stood still, and nobody waits any more."""
        self._relays.clear()
