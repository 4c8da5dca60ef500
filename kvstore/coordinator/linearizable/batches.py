"""Columns to operations on registers, and answers to columns. Pure.

A version on the wire is that of the value; contexts are empty, because a register has no siblings. A condition that failed is told
with what is there; an increment of what is no number is a `BadRequest`: neither has applied anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import repeat

from kvproto.columns import REQUEST_ID_BYTES, GroupReply, Kind, OperationGroup
from kvproto.conditions import Test, read_condition
from kvproto.errors import BadRequest, ConditionFailed, KvError, RetryWindowPassed
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.outcomes import Emit, receipt
from kvstore.core.register import payload as payloads
from kvstore.core.register.ballot import NO_VERSION
from kvstore.core.register.changes import Answer, Operation, Outcome
from kvstore.runtime import Clock

Answered = tuple[Operation, tuple[str, ...]]


def operations_of(
    sub: SubBatch, owner: object, deadline_s: float, now_ms: int, new_id: bytes, late: Collection[int] = ()
) -> list[Operation]:
    """The operations of a sub-batch. A write that came without a request id gets one that begins with `new_id`, 14 bytes: it may be
    begun again under another ballot. `late`: positions of the sub-batch whose ids are older than the retry window. Raises
    `BadRequest` for conditions that this version does not know."""
    group, at = sub.group, sub.at()
    kind, values, amounts, conditions, ids = int(group.kind), group.values, group.amounts, group.conditions, group.request_ids
    ahead_ms = group.ids_ahead_ms
    expiries = _expiries(sub, now_ms)
    operations = []
    for place, (index, store_key, expires_ms) in enumerate(zip(at, sub.store_keys, expires_or_repeat(expiries, at), strict=False)):
        operation = Operation(kind, store_key, owner=owner, position=place, expires_ms=expires_ms, deadline_s=deadline_s)
        if kind != Kind.GET:
            operation.attempt = group.attempt
            operation.is_late = place in late
            if values:
                operation.value = values[index]
            if amounts:
                operation.amount = amounts[index]
            if conditions and conditions[index]:
                operation.condition = read_condition(conditions[index])
                if operation.condition is not None and operation.condition.test is Test.BETWEEN and kind != Kind.INCREMENT:
                    raise BadRequest("only the result of an increment has bounds", subject="conditions")
            if ids:
                operation.request_id = ids[REQUEST_ID_BYTES * index : REQUEST_ID_BYTES * (index + 1)]
                if ahead_ms is not None:
                    operation.issued_s = (int.from_bytes(operation.request_id[:6], "big") - ahead_ms) / 1000
            else:
                operation.request_id = new_id + place.to_bytes(2, "big")
                operation.is_alone = True
        operations.append(operation)
    return operations


def expires_or_repeat(expiries: Sequence[int] | int, at: Sequence[int]) -> Sequence[int] | repeat[int]:
    """The expiry of each operation."""
    return repeat(expiries, len(at)) if isinstance(expiries, int) else [expiries[index] for index in at]


def _expiries(sub: SubBatch, now_ms: int) -> Sequence[int] | int:
    """When what is put or touched ends: one for all, or one for each operation of the group."""
    group, ttls = sub.group, sub.group.ttls_ms
    if group.kind in (Kind.GET, Kind.DELETE):
        return 0
    if len(ttls) > 1:
        return [now_ms + ttl_ms if ttl_ms else 0 for ttl_ms in ttls]
    ttl_ms = ttls[0] if ttls else sub.space.info.ttl_ms if group.kind is Kind.PUT else 0
    return now_ms + ttl_ms if ttl_ms else 0


def tell(sub: SubBatch, answered: Sequence[Answered], clock: Clock, emit: Emit, elapsed_s: float) -> None:
    """Emits what was answered, `elapsed_s` after it came: one reply for all of the same kind behind which the same acceptors
    stand."""
    told: dict[tuple[Outcome, tuple[str, ...]], list[Operation]] = {}
    for operation, acknowledged in answered:
        assert operation.answer is not None
        outcome = operation.answer.outcome
        key = (Outcome.APPLIED if outcome is Outcome.READ else outcome, acknowledged)
        told.setdefault(key, []).append(operation)
    now_ms = clock.now_ms()
    for (outcome, acknowledged), some in told.items():
        operations = some
        positions = sub.original([operation.position for operation in operations])
        whole = len(operations) == len(sub.store_keys) and sub.positions is None
        if whole:
            operations = sorted(operations, key=_position)
            positions = None
        answers = [operation.answer for operation in operations if operation.answer is not None]
        reply = _reply(sub.group, sub.group_index, outcome, answers)
        reply.positions = positions
        if reply.error is None or outcome is Outcome.FAILED:
            was_read = sub.group.kind is Kind.GET or outcome is Outcome.FAILED
            notes = explain(acknowledged, elapsed_s, was_read=was_read) if sub.group.explain else ()
            reply.receipt = receipt(sub, acknowledged, now_ms=now_ms, durable=True, explanation=notes)
        emit(reply, len(operations))


def explain(acknowledged: Sequence[str], elapsed_s: float, *, was_read: bool) -> list[str]:
    """Who stands behind an answer, and by what: one line an acceptor. A failed condition is a read."""
    did = "confirmed that it has promised no later ballot" if was_read else "accepted it"
    return [f"{node} {did} after {elapsed_s * 1000:.1f} ms" for node in acknowledged]


def _position(operation: Operation) -> int:
    return operation.position


def _reply(group: OperationGroup, index: int, outcome: Outcome, answers: Sequence[Answer]) -> GroupReply:
    if outcome is Outcome.FAILED:
        reply = shown(index, answers)
        reply.error = ConditionFailed("the condition does not hold: nothing was applied", subject=group.namespace)
        return reply
    if outcome is Outcome.NO_NUMBER:
        error: KvError = BadRequest(
            "an increment of what is no decimal number of 64 bits, or beyond them: nothing was applied", subject="value"
        )
        return GroupReply(index, error=error)
    if outcome is Outcome.OVERTAKEN:
        error = RetryWindowPassed(
            "the key had too many writes since the request id was issued: it was not executed", retryable=True
        )
        return GroupReply(index, error=error)
    if outcome is Outcome.FORGOTTEN:
        error = RetryWindowPassed(
            "whether this request was applied is no longer known, so it is not executed again", may_have_applied=True
        )
        return GroupReply(index, error=error)
    if group.kind is Kind.GET:
        return shown(index, answers)
    applied = [answer.outcome is Outcome.APPLIED for answer in answers]
    reply = GroupReply(
        index,
        counts=() if all(applied) else [int(one) for one in applied],  # a touch of nothing
        versions=b"".join([answer.version or NO_VERSION for answer in answers]),
        contexts=[b""] * len(answers),
    )
    if group.kind is Kind.INCREMENT:
        reply.values = [b"%d" % answer.number for answer in answers]
    return reply


def shown(index: int, answers: Sequence[Answer]) -> GroupReply:
    """What there is of each key: count 0 and no version for nothing."""
    held = [None if payloads.absent(answer.payload) else answer.payload for answer in answers]
    there = [payload for payload in held if payload is not None]
    expires_ms = [payloads.expires_ms(payload) for payload in there]
    return GroupReply(
        index,
        counts=() if len(there) == len(held) else [int(payload is not None) for payload in held],
        values=[payloads.value(payload) for payload in there],
        versions=b"".join([payloads.version(payload) for payload in there]),
        contexts=[b""] * len(held),
        expires_ms=expires_ms if any(expires_ms) else (),
    )
