"""What failure detectors say to each other, and what a detector wants done. The shell encodes the first and does the second."""

from __future__ import annotations

from dataclasses import dataclass

from kvstore.core.membership.table import Changed, Claim

Claims = tuple[Claim, ...]
"""With each message: first the sender's claim about itself, then what it says of the receiver if that is not alive, then
rumours."""


@dataclass(slots=True, frozen=True)
class Ping:
    """Answered with `Ack` by `target`, and by nobody else: a message that arrives at another node must not count as its answer."""

    sequence: int
    target: str
    claims: Claims


@dataclass(slots=True, frozen=True)
class PingRequest:
    """Asks a relay to ping `target`: an `Ack` if it answers, a `Nack` in time if it has not."""

    sequence: int
    target: str
    claims: Claims


@dataclass(slots=True, frozen=True)
class Ack:
    """The target of `sequence` has answered."""

    sequence: int
    claims: Claims


@dataclass(slots=True, frozen=True)
class Nack:
    """The relay is well, but it has no answer of the target yet (Lifeguard, LHA-Probe)."""

    sequence: int
    claims: Claims


@dataclass(slots=True, frozen=True)
class Gossip:
    """Claims alone. With `sync` they are all that the sender believes; `answer`: and it wants all of the receiver's."""

    claims: Claims
    sync: bool = False
    answer: bool = False


Message = Ping | PingRequest | Ack | Nack | Gossip


@dataclass(slots=True, frozen=True)
class Send:
    """Send `message` to the node `to`; whether it arrives is not told."""

    to: str
    message: Message


@dataclass(slots=True, frozen=True)
class Reserve:
    """Make durable that incarnations below `up_to` may have been used, then tell `FailureDetector.reserved`. The next start begins
    at it: an incarnation is never used by two lives."""

    up_to: int


@dataclass(slots=True, frozen=True)
class RoundTrip:
    """A direct ping of `peer` took `took_ms`: a sample for slowness.py."""

    peer: str
    took_ms: int


Instruction = Send | Changed | Reserve | RoundTrip
