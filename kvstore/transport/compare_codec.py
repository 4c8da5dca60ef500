"""Questions and answers of anti-entropy to protobuf messages and back."""

from __future__ import annotations

from kvproto.codec import decode_error
from kvproto.errors import BadRequest
from kvproto.v1 import peer_pb2
from kvstore.core.merkle.exchange import Answer, Ask
from kvstore.core.merkle.questions import Held, Leaves, Nodes, Question, Records, Reply, Roots, Summary


def encode_question(
    question: Question, *, epoch: int, ring_hash: int, sent_ms: int, asker: str, urgent: bool
) -> peer_pb2.CompareRequest:
    """One question as a message."""
    message = peer_pb2.CompareRequest(ring_epoch=epoch, ring_hash=ring_hash, sent_ms=sent_ms, asker=asker, urgent=urgent)
    match question:
        case Roots(prefixes):
            message.roots.prefixes.extend(prefixes)
        case Nodes(prefix, ask):
            nodes = peer_pb2.NodesQuestion(prefix=prefix, depth=ask.depth, levels=ask.levels, nodes=ask.nodes)
            message.nodes.CopyFrom(nodes)
        case Leaves(prefix, depth, leaves):
            message.leaves.CopyFrom(peer_pb2.LeavesQuestion(prefix=prefix, depth=depth, leaves=leaves))
        case Records(prefix, hashes, start):
            message.records.CopyFrom(peer_pb2.RecordsQuestion(prefix=prefix, hashes=hashes, start=start))
    return message


def decode_question(message: peer_pb2.CompareRequest) -> Question:
    """The question of a message. Raises `BadRequest` for one that this version does not know."""
    if message.HasField("roots"):
        return Roots(list(message.roots.prefixes))
    if message.HasField("nodes"):
        nodes = message.nodes
        return Nodes(nodes.prefix, Ask(nodes.depth, tuple(nodes.nodes), nodes.levels))
    if message.HasField("leaves"):
        return Leaves(message.leaves.prefix, message.leaves.depth, list(message.leaves.leaves))
    if message.HasField("records"):
        return Records(message.records.prefix, list(message.records.hashes), message.records.start)
    raise BadRequest("a question that this version does not know", subject="question")


def encode_reply(reply: Reply) -> peer_pb2.CompareReply:
    """The answer to a question as a message."""
    message = peer_pb2.CompareReply()
    match reply:
        case Summary(roots, unsure):
            message.roots = roots
            message.unsure.extend(unsure)
        case bytes():
            message.rows = reply
        case Answer(depth, nodes):
            message.nodes.CopyFrom(peer_pb2.NodesAnswer(depth=depth, nodes=nodes))
        case Held(store_keys, records, more_from):
            message.records.CopyFrom(peer_pb2.RecordsAnswer(store_keys=store_keys, records=records, more_from=more_from))
        case None:
            message.nodes.CopyFrom(peer_pb2.NodesAnswer(unknown=True))
    return message


def decode_reply(question: Question, message: peer_pb2.CompareReply) -> Reply:
    """The answer of a message. Raises the peer's error, or `BadRequest` for an answer to something else."""
    if message.HasField("error"):
        raise decode_error(message.error)
    match question:
        case Roots() if message.HasField("roots"):
            return Summary(message.roots, list(message.unsure))
        case Nodes() if message.HasField("nodes"):
            return None if message.nodes.unknown else Answer(message.nodes.depth, list(message.nodes.nodes))
        case Leaves() if message.HasField("rows"):
            return message.rows
        case Records() if message.HasField("records") and len(message.records.store_keys) == len(message.records.records):
            held = message.records
            return Held(list(held.store_keys), list(held.records), held.more_from)
    raise BadRequest("an answer to another question", subject="answer")
