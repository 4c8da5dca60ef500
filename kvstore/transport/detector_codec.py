"""What failure detectors say to each other, as messages of the wire and back. A state or kind of a newer version is passed over."""

from __future__ import annotations

from collections.abc import Iterable

from kvproto.v1 import peer_pb2
from kvstore.core.membership.messages import Ack, Claims, Gossip, Message, Nack, Ping, PingRequest
from kvstore.core.membership.table import INCARNATION_MAX, Claim, State

CLAIMS_MAX = 4096
"""Of one message; what is beyond is passed over, and told again with the next."""

_STATES = {
    State.ALIVE: peer_pb2.MEMBER_STATE_ALIVE,
    State.SUSPECT: peer_pb2.MEMBER_STATE_SUSPECT,
    State.DEAD: peer_pb2.MEMBER_STATE_DEAD,
}
_STATES_BACK = {number: state for state, number in _STATES.items()}
_KINDS = {
    Ping: peer_pb2.DETECTOR_KIND_PING,
    PingRequest: peer_pb2.DETECTOR_KIND_PING_REQUEST,
    Ack: peer_pb2.DETECTOR_KIND_ACK,
    Nack: peer_pb2.DETECTOR_KIND_NACK,
    Gossip: peer_pb2.DETECTOR_KIND_GOSSIP,
}


def encode_detector(cluster_id: str, sender: str, message: Message, catalog_revision: int = 0) -> peer_pb2.DetectorMessage:
    """`message` of `sender`, which goes by that version of the namespaces."""
    wire = peer_pb2.DetectorMessage(
        cluster_id=cluster_id,
        sender=sender,
        catalog_revision=catalog_revision,
        kind=_KINDS[type(message)],
        claims=[
            peer_pb2.MemberClaim(
                member=claim.member, state=_STATES[claim.state], incarnation=min(claim.incarnation, INCARNATION_MAX), by=claim.by
            )
            for claim in message.claims
        ],
    )
    if isinstance(message, Gossip):
        wire.sync, wire.answer = message.sync, message.answer
    else:
        wire.sequence = message.sequence
        if isinstance(message, Ping | PingRequest):
            wire.target = message.target
    return wire


def decode_detector(wire: peer_pb2.DetectorMessage) -> Message | None:
    """The message; None for a kind that this version does not know."""
    claims = _claims(wire.claims[:CLAIMS_MAX])
    match wire.kind:
        case peer_pb2.DETECTOR_KIND_PING:
            return Ping(wire.sequence, wire.target, claims)
        case peer_pb2.DETECTOR_KIND_PING_REQUEST:
            return PingRequest(wire.sequence, wire.target, claims)
        case peer_pb2.DETECTOR_KIND_ACK:
            return Ack(wire.sequence, claims)
        case peer_pb2.DETECTOR_KIND_NACK:
            return Nack(wire.sequence, claims)
        case peer_pb2.DETECTOR_KIND_GOSSIP:
            return Gossip(claims, sync=wire.sync, answer=wire.answer)
    return None


def _claims(wire: Iterable[peer_pb2.MemberClaim]) -> Claims:
    return tuple(
        [
            Claim(claim.member, _STATES_BACK[claim.state], claim.incarnation, claim.by)
            for claim in wire
            if claim.state in _STATES_BACK
        ]
    )
