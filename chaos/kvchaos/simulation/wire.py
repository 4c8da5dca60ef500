"""The messages of a run whose log was kept, as sentences: who sent what to whom, about which keys, arriving when.

Knows the two streams on which operations travel, between clients and nodes (KeyValue) and between nodes (Peer; also as frames).
Greetings, questions for the ring and keepalive are about no key and left out. What a blocked link holds stands where the link
lets it go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from kvchaos.operations import name_of
from kvchaos.simulation.names import Names
from kvproto.columns import Kind
from kvproto.v1 import key_value_pb2, peer_pb2
from kvstore.core.versions import DOT_BYTES
from kvstore.simulation.events import Event
from kvstore.storage.layout import store_key_prefix

CLIENTS = "/kvproto.v1.KeyValue/Exchange"
PEERS = "/kvproto.v1.Peer/Exchange"
_PREFIX_BYTES = len(store_key_prefix(0, 1))
_VERBS = {kind: kind.name.lower() for kind in Kind}
_CODES: dict[int, str] = {number: name for name, number in key_value_pb2.ErrorCode.items()}

Asked = key_value_pb2.BatchRequest | peer_pb2.PeerRequest


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `keys` are what it is about; `takes_ms` is how long it was to be on its way; `is_answer` to a question."""

    at_ns: int
    takes_ms: float
    source: str
    target: str
    text: str
    keys: frozenset[str]
    is_answer: bool


class Wire:
    """Reads the log once, in order. `others` counts the messages that no sentence was made of."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._dialled: dict[tuple[int, int], str] = {}  # connection and call -> who opened the stream
        self._asked: dict[tuple[int, int, int], Asked] = {}  # and batch -> the request
        self.others = 0

    def messages(self, events: Iterable[Event]) -> Iterator[Message]:
        """Operations, stores, comparisons and their answers, in the order in which they were sent."""
        for event in events:
            if event.kind != "send":
                continue
            said = self._read(event)
            if said is None:
                self.others += 1
                continue
            text, keys, is_answer = said
            facts = event.facts
            takes_ms = (facts["arrives_ns"] - event.at_ns) / 1e6
            yield Message(event.at_ns, takes_ms, facts["source"], facts["target"], text, frozenset(keys), is_answer)

    def _read(self, event: Event) -> tuple[str, Sequence[str], bool] | None:
        if not isinstance(event.payload, tuple):
            return None
        method, frame = event.payload
        if method not in (CLIENTS, PEERS):
            return None
        source, call = event.facts["source"], (event.facts["connection"], frame[1])
        if frame[0] in ("stream", "greeting"):  # whoever was dialled greets as well, where frames travel without gRPC
            self._dialled.setdefault(call, source)
        if frame[0] != "message" or call not in self._dialled:
            return None
        is_answer = self._dialled[call] != source
        read: Callable[[tuple[int, int], bytes], tuple[str, Sequence[str]]]
        if method == PEERS:
            read = self._peer_answers if is_answer else self._peer_asks
        else:
            read = self._answers if is_answer else self._asks
        text, keys = read(call, frame[2])
        return (text, keys, is_answer) if text else None

    # --- clients

    def _asks(self, call: tuple[int, int], data: bytes) -> tuple[str, Sequence[str]]:
        request = key_value_pb2.BatchRequest.FromString(data)
        self._asked[*call, request.batch_id] = request
        said, keys = [], []
        for group in request.groups:
            again = f" (attempt {group.attempt + 1})" if group.attempt else ""
            for at, key in enumerate(group.keys):
                value = f" {name_of(group.values[at])}" if at < len(group.values) else ""
                said.append(f"{_VERBS[Kind(group.kind)]} {key.decode(errors='replace')}{value}{again}")
                keys.append(key.decode(errors="replace"))
        return f"{'forwards ' if request.hops else ''}{'; '.join(said)}", keys

    def _answers(self, call: tuple[int, int], data: bytes) -> tuple[str, Sequence[str]]:
        reply = key_value_pb2.BatchReply.FromString(data)
        request = self._asked.get((*call, reply.batch_id))
        said, keys = [], []
        for part in reply.replies:
            if not isinstance(request, key_value_pb2.BatchRequest) or part.group >= len(request.groups):
                continue
            group = request.groups[part.group]
            about = [group.keys[at].decode(errors="replace") for at in part.positions or range(len(group.keys))]
            keys += about
            said += [f"{key}: {what}" for key, what in zip(about, self._results(group.kind, part, len(about)), strict=False)]
        return "; ".join(said), keys

    def _results(self, kind: int, part: key_value_pb2.GroupReply, count: int) -> list[str]:
        """What a part of an answer says of each of its keys."""
        if part.HasField("error"):
            return [_error(part.error.code, part.error.message)] * count
        versions = [part.versions[at : at + DOT_BYTES] for at in range(0, len(part.versions), DOT_BYTES)]
        if kind != Kind.GET:
            return [f"ok as {self._names.version(version.hex())}" for version in versions]
        values = iter(part.values)
        found = [[name_of(next(values, b"")) for _ in range(siblings)] for siblings in part.counts or [1] * count]
        return [", ".join(names) or "nothing" for names in found]

    # --- nodes

    def _peer_asks(self, call: tuple[int, int], data: bytes) -> tuple[str, Sequence[str]]:
        request = peer_pb2.PeerRequest.FromString(data)
        self._asked[*call, request.batch_id] = request
        stored, fetched = _keys(request.store_keys), _keys(request.fetch_keys)
        said = [f"store {key} = {self._names.record(record)}" for key, record in zip(stored, request.store_records, strict=False)]
        if fetched:
            said.append(f"compare {', '.join(fetched)}")
        return "; ".join(said), [*stored, *fetched]

    def _peer_answers(self, call: tuple[int, int], data: bytes) -> tuple[str, Sequence[str]]:
        reply = peer_pb2.PeerReply.FromString(data)
        request = self._asked.get((*call, reply.batch_id))
        if not isinstance(request, peer_pb2.PeerRequest):
            return "", ()
        stored, fetched = _keys(request.store_keys), _keys(request.fetch_keys)
        if reply.HasField("error"):
            return _error(reply.error.code, reply.error.message), [*stored, *fetched]
        said = []
        if reply.stored:
            refused = set(reply.refused)
            said += [f"{'refused' if at in refused else 'stored'} {key}" for at, key in enumerate(stored)]
        below = len(fetched) if reply.fetched else reply.fetched_below
        differing = dict(zip(reply.differing, reply.records, strict=False))
        for at, key in enumerate(fetched[:below]):
            held = "is lost here" if at in reply.lost else "is the same here"
            said.append(f"{key} = {self._names.record(differing[at])}" if at in differing else f"{key} {held}")
        return "; ".join(said), [*(stored if reply.stored else []), *fetched[:below]]


def _error(code: int, message: str) -> str:
    return f"error {_CODES.get(code, code)}: {message}"


def _keys(store_keys: Iterable[bytes]) -> list[str]:
    return [store_key[_PREFIX_BYTES:].decode(errors="replace") for store_key in store_keys]
