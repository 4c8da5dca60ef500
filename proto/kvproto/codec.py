"""Columns to messages and back, for both ends of the client's wire. The only other place that knows these messages is the stubs.

Decoding hands out the protobuf containers themselves where they are only read once: a repeated field is a sequence, and copying it
would cost what columns save.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvproto import PROTOCOL
from kvproto.columns import GroupReply, Kind, Level, OperationGroup, Receipt, ScanPage, ScanQuery, Sloppy
from kvproto.errors import KvError, error_class
from kvproto.large_messages import LargeMessage, repeated_bytes, submessage
from kvproto.v1 import key_value_pb2

_LEVELS = {int(level): level for level in Level}
_SLOPPY = {int(sloppy): sloppy for sloppy in Sloppy}


def _level(value: int) -> Level:
    """A level off the wire; one this version does not know is the preset's."""
    return _LEVELS.get(value, Level.PRESET)


def _sloppy(value: int) -> Sloppy:
    """Likewise."""
    return _SLOPPY.get(value, Sloppy.UNSPECIFIED)


def encode_batch(
    batch_id: int,
    groups: Iterable[OperationGroup],
    *,
    cluster_id: str = "",
    ring_epoch: int = 0,
    hops: int = 0,
    trace_id: bytes = b"",
    sent_ms: int = 0,
    receiver_ms: int = 0,
) -> key_value_pb2.BatchRequest:
    """The message for `groups`. `sent_ms`: by the clock that stamps request ids; `receiver_ms`: by the receiver's; 0: not said."""
    return key_value_pb2.BatchRequest(
        batch_id=batch_id,
        protocol=PROTOCOL,
        cluster_id=cluster_id,
        ring_epoch=ring_epoch,
        hops=hops,
        trace_id=trace_id,
        sent_ms=sent_ms,
        receiver_ms=receiver_ms,
        groups=[_encode_group(group, group.values) for group in groups],
    )


def with_large_groups(
    message: key_value_pb2.BatchRequest, groups: Sequence[OperationGroup]
) -> LargeMessage[key_value_pb2.BatchRequest]:
    """`message`, which has no groups, with `groups`, whose values are large."""
    fields, own = key_value_pb2.BatchRequest, key_value_pb2.OperationGroup
    tail: list[bytes] = []
    for group in groups:
        values = repeated_bytes(own.VALUES_FIELD_NUMBER, group.values)
        tail += submessage(fields.GROUPS_FIELD_NUMBER, _encode_group(group, ()), values)
    return LargeMessage(message, tail)


def _encode_group(group: OperationGroup, values: Sequence[bytes]) -> key_value_pb2.OperationGroup:
    message = key_value_pb2.OperationGroup(
        kind=int(group.kind),  # type: ignore[arg-type]
        namespace=group.namespace,
        keys=group.keys,
        values=values,
        contexts=group.contexts,
        request_ids=group.request_ids,
        ttls_ms=group.ttls_ms,
        timeouts_ms=group.timeouts_ms,
        level=int(group.level),  # type: ignore[arg-type]
        r=group.r,
        w=group.w,
        explain=group.explain,
        attempt=group.attempt,
        fields=group.fields,
        amounts=group.amounts,
    )
    if group.conditions or group.seen or group.bound_ms or group.sloppy:  # seldom, and each costs half a microsecond
        message.conditions.extend(group.conditions)
        message.seen.extend(group.seen)
        message.bound_ms = group.bound_ms
        message.sloppy = int(group.sloppy)  # type: ignore[assignment]
    return message


def decode_groups(message: key_value_pb2.BatchRequest) -> list[OperationGroup]:
    """The groups of a request. Raises `ValueError` for a kind this version does not know."""
    # Both of one moment: what lies between the two clocks, however long the message was on its way.
    ahead_ms = message.sent_ms - message.receiver_ms if message.sent_ms and message.receiver_ms else None
    return [
        OperationGroup(
            kind=Kind(group.kind),
            namespace=group.namespace,
            # As lists: a message makes each anew whenever it is looked at.
            keys=list(group.keys),
            values=list(group.values),
            contexts=group.contexts,
            request_ids=group.request_ids,
            ttls_ms=group.ttls_ms,
            timeouts_ms=group.timeouts_ms,
            level=_level(group.level),
            r=group.r,
            w=group.w,
            explain=group.explain,
            attempt=group.attempt,
            fields=group.fields,
            amounts=group.amounts,
            conditions=group.conditions,
            seen=group.seen,
            bound_ms=group.bound_ms,
            sloppy=_sloppy(group.sloppy),
            ids_ahead_ms=ahead_ms,
        )
        for group in message.groups
    ]


def encode_error(error: KvError, trace_id: bytes = b"") -> key_value_pb2.Error:
    """The numbers and text of `error`, which answers the request `trace_id`."""
    return key_value_pb2.Error(
        code=int(error.code),  # type: ignore[arg-type]
        message=error.message,
        retryable=error.retryable,
        may_have_applied=error.may_have_applied,
        needed=error.needed,
        received=error.received,
        contacted=error.contacted,
        retry_after_ms=int(error.retry_after_s * 1000),
        limit=error.limit,
        actual=error.actual,
        subject=error.subject,
        trace_id=trace_id,
    )


def decode_error(message: key_value_pb2.Error) -> KvError:
    """The typed error; a code from a newer peer becomes a plain `KvError` that keeps its flags."""
    return error_class(message.code)(
        message.message,
        retryable=message.retryable,
        may_have_applied=message.may_have_applied,
        needed=message.needed,
        received=message.received,
        contacted=message.contacted,
        retry_after_s=message.retry_after_ms / 1000,
        limit=message.limit,
        actual=message.actual,
        subject=message.subject,
        trace_id=message.trace_id.hex(),
    )


def encode_receipt(receipt: Receipt) -> key_value_pb2.Receipt:
    """The receipt's message."""
    return key_value_pb2.Receipt(
        level=int(receipt.level),  # type: ignore[arg-type]
        needed=receipt.needed,
        n=receipt.n,
        n_asked=receipt.n_asked,
        acknowledged=receipt.acknowledged,
        zones=receipt.zones,
        durable=receipt.durable,
        degraded=receipt.degraded,
        hinted=receipt.hinted,
        hedged=receipt.hedged,
        ring_epoch=receipt.ring_epoch,
        coordinator=receipt.coordinator,
        server_time_ms=receipt.server_time_ms,
        explanation=receipt.explanation,
    )


def decode_receipt(message: key_value_pb2.Receipt) -> Receipt:
    """The receipt of a message."""
    return Receipt(
        level=_level(message.level),
        needed=message.needed,
        n=message.n,
        n_asked=message.n_asked,
        acknowledged=tuple(message.acknowledged),
        zones=tuple(message.zones),
        durable=message.durable,
        degraded=message.degraded,
        hinted=message.hinted,
        hedged=message.hedged,
        ring_epoch=message.ring_epoch,
        coordinator=message.coordinator,
        server_time_ms=message.server_time_ms,
        explanation=tuple(message.explanation),
    )


def encode_replies(
    batch_id: int, replies: Iterable[GroupReply], *, last: bool, ring_epoch: int, trace_id: bytes = b"", now_ms: int = 0
) -> key_value_pb2.BatchReply:
    """One part of the answer to the batch `trace_id`. `now_ms`: by the node's clock that never steps."""
    message = key_value_pb2.BatchReply(batch_id=batch_id, last=last, ring_epoch=ring_epoch, now_ms=now_ms)
    for reply in replies:
        message.replies.append(_encode_reply(reply, reply.values, trace_id))
    return message


def with_large_replies(
    message: key_value_pb2.BatchReply, replies: Iterable[GroupReply], trace_id: bytes
) -> LargeMessage[key_value_pb2.BatchReply]:
    """`message`, which has no replies, with `replies`, whose values are large."""
    fields, own = key_value_pb2.BatchReply, key_value_pb2.GroupReply
    tail: list[bytes] = []
    for reply in replies:
        values = repeated_bytes(own.VALUES_FIELD_NUMBER, reply.values)
        tail += submessage(fields.REPLIES_FIELD_NUMBER, _encode_reply(reply, (), trace_id), values)
    return LargeMessage(message, tail)


def _encode_reply(reply: GroupReply, values: Sequence[bytes], trace_id: bytes) -> key_value_pb2.GroupReply:
    return key_value_pb2.GroupReply(
        group=reply.group,
        positions=reply.positions or (),
        counts=reply.counts,
        values=values,
        versions=reply.versions,
        contexts=reply.contexts,
        expires_ms=reply.expires_ms,
        receipt=None if reply.receipt is None else encode_receipt(reply.receipt),
        error=None if reply.error is None else encode_error(reply.error, trace_id),
        kinds=reply.kinds,
        fields=reply.fields,
        alone=reply.alone,
    )


def decode_replies(message: key_value_pb2.BatchReply) -> list[GroupReply]:
    """The parts of one reply message."""
    return [
        GroupReply(
            group=reply.group,
            positions=reply.positions or None,
            counts=reply.counts,
            values=reply.values,
            versions=reply.versions,
            contexts=reply.contexts,
            expires_ms=reply.expires_ms,
            receipt=decode_receipt(reply.receipt) if reply.HasField("receipt") else None,
            error=decode_error(reply.error) if reply.HasField("error") else None,
            kinds=reply.kinds,
            fields=reply.fields,
            alone=reply.alone,
        )
        for reply in message.replies
    ]


def encode_scan(query: ScanQuery, *, cluster_id: str = "", ring_epoch: int = 0, trace_id: bytes = b"") -> key_value_pb2.ScanRequest:
    """The message for a scan."""
    return key_value_pb2.ScanRequest(
        namespace=query.namespace,
        prefix=query.prefix,
        start=query.start,
        end=query.end,
        after=query.after,
        limit=query.limit,
        level=int(query.level),  # type: ignore[arg-type]
        r=query.r,
        timeout_ms=query.timeout_ms,
        cluster_id=cluster_id,
        protocol=PROTOCOL,
        ring_epoch=ring_epoch,
        keys_only=query.keys_only,
        trace_id=trace_id,
        bound_ms=query.bound_ms,
        sloppy=int(query.sloppy),  # type: ignore[arg-type]
    )


def decode_scan(message: key_value_pb2.ScanRequest) -> ScanQuery:
    """The scan of a message."""
    return ScanQuery(
        namespace=message.namespace,
        prefix=message.prefix,
        start=message.start,
        end=message.end,
        after=message.after,
        limit=message.limit,
        level=_level(message.level),
        r=message.r,
        timeout_ms=message.timeout_ms or 5000,
        keys_only=message.keys_only,
        bound_ms=message.bound_ms,
        sloppy=_sloppy(message.sloppy),
    )


def encode_page(page: ScanPage, trace_id: bytes = b"") -> key_value_pb2.ScanReply:
    """One message of the stream that answers the scan `trace_id`."""
    return key_value_pb2.ScanReply(
        keys=page.keys,
        counts=page.counts,
        values=page.values,
        versions=page.versions,
        contexts=page.contexts,
        expires_ms=page.expires_ms,
        receipt=None if page.receipt is None else encode_receipt(page.receipt),
        error=None if page.error is None else encode_error(page.error, trace_id),
        kinds=page.kinds,
        fields=page.fields,
    )


def decode_page(message: key_value_pb2.ScanReply) -> ScanPage:
    """One page off a scan's stream."""
    return ScanPage(
        keys=message.keys,
        counts=message.counts,
        values=message.values,
        versions=message.versions,
        contexts=message.contexts,
        expires_ms=message.expires_ms,
        receipt=decode_receipt(message.receipt) if message.HasField("receipt") else None,
        error=decode_error(message.error) if message.HasField("error") else None,
        kinds=message.kinds,
        fields=message.fields,
    )
