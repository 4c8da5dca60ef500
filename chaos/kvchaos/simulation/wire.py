"""The messages between nodes of a run whose log was kept, as sentences: what was sent to whom, about which keys, arriving when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kvchaos.operations import name_of
from kvproto.v1 import peer_pb2
from kvstore.core.record import DamagedRecord, decode
from kvstore.simulation.events import Event
from kvstore.storage.layout import store_key_prefix

EXCHANGE = "/kvproto.v1.Peer/Exchange"
_PREFIX_BYTES = len(store_key_prefix(0, 1))


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `keys` are what it is about; `arrives_ns` is when it was to arrive."""

    at_ns: int
    arrives_ns: int
    source: str
    target: str
    text: str
    keys: frozenset[str]


def messages_of(events: Iterable[Event]) -> Iterator[Message]:
    """Stores, comparisons and their answers, in the order in which they were sent."""
    streams: dict[tuple[int, int], str] = {}  # connection and call -> who dialled
    asked: dict[tuple[int, int, int], peer_pb2.PeerRequest] = {}
    for event in events:
        frame = event.payload
        if event.kind != "send" or not isinstance(frame, tuple) or len(frame) < 3:
            continue
        facts, call = event.facts, (event.facts["connection"], frame[1])
        if frame[0] == "stream" and frame[2] == EXCHANGE:
            streams[call] = facts["source"]
        elif frame[0] in ("message", "reply") and call in streams:
            if streams[call] == facts["source"]:
                request = peer_pb2.PeerRequest.FromString(frame[2])
                asked[*call, request.batch_id] = request
                text, keys = _asks(request)
            else:
                reply = peer_pb2.PeerReply.FromString(frame[2])
                text, keys = _answers(reply, asked.get((*call, reply.batch_id)) or peer_pb2.PeerRequest())
            yield Message(event.at_ns, facts["arrives_ns"], facts["source"], facts["target"], text, frozenset(keys))


def _asks(request: peer_pb2.PeerRequest) -> tuple[str, list[str]]:
    stored, fetched = _names(request.store_keys), _names(request.fetch_keys)
    said = [f"store {key} = {_held(record)}" for key, record in zip(stored, request.store_records, strict=True)]
    if fetched:
        said.append(f"compare {', '.join(fetched)}")
    return "; ".join(said), [*stored, *fetched]


def _answers(reply: peer_pb2.PeerReply, request: peer_pb2.PeerRequest) -> tuple[str, list[str]]:
    stored, fetched = _names(request.store_keys), _names(request.fetch_keys)
    if reply.HasField("error"):
        return f"refused: {reply.error.message}", [*stored, *fetched]
    said: list[str] = []
    if reply.fetched:
        differing = dict(zip(reply.differing, reply.records, strict=True))
        for at, key in enumerate(fetched):
            what = "lost here" if at in reply.lost else f"= {_held(differing[at])}" if at in differing else "is the same"
            said.append(f"{key} {what}")
    if reply.stored:
        refused = set(reply.refused)
        said += [f"{'refused' if at in refused else 'stored'} {key}" for at, key in enumerate(stored)]
    return "; ".join(said), [*(stored if reply.stored else []), *(fetched if reply.fetched else [])]


def _names(store_keys: Sequence[bytes]) -> list[str]:
    return [store_key[_PREFIX_BYTES:].decode(errors="replace") for store_key in store_keys]


def _held(data: bytes) -> str:
    """The live siblings of a record."""
    if not data:
        return "nothing"
    try:
        siblings = decode(data).siblings
    except DamagedRecord:
        return "damaged"
    return "{" + ", ".join("deleted" if sibling.tombstone else name_of(sibling.value) for sibling in siblings) + "}"
