"""What an operation makes of a register: the change functions of CASPaxos, pure and idempotent by request id.

`decide` is given what the register holds and says what it holds afterwards, and what the operation is answered; the proposer
decides when that may be told. An expired value must have been replaced by its tombstone before (safety rule 10): `expire`.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import NamedTuple

from kvproto.conditions import INT64_MAX, INT64_MIN, Condition
from kvstore.core.register import payload as payloads
from kvstore.core.register.payload import successor
from kvstore.core.register.remembered import EPOCH, Memory

DIGITS_MAX = 20


class Kind(IntEnum):
    """What operations do; the numbers are those of `kvproto.columns.Kind`. SETTLE is none of a client's: what there is is accepted
    once more, because it is not the same everywhere (safety rule 17)."""

    SETTLE = 0
    GET = 1
    PUT = 2
    DELETE = 3
    TOUCH = 80
    INCREMENT = 90


class Outcome(Enum):
    """What an operation is answered."""

    APPLIED = "applied"
    """It changed the register, now or when it was executed before: `version` and `number` say to what."""
    READ = "read"
    """It changed nothing: `payload` is what was there."""
    FAILED = "failed"
    """Its condition did not hold of `payload`."""
    NO_NUMBER = "no number"
    """An increment of what is no number, or beyond 64 bits."""
    FORGOTTEN = "forgotten"
    """Whether it was executed before is no longer known, so it is not executed again (safety rule 8)."""
    OVERTAKEN = "overtaken"
    """The same of a first attempt: a later one may have been executed before it. This one certainly was not."""


SETTLE, GET, PUT = Kind.SETTLE, Kind.GET, Kind.PUT
APPLIED, READ = Outcome.APPLIED, Outcome.READ
"""Those of nearly all operations: to look a member up in its enumeration takes five times as long."""


class Operation:
    """One operation on one key. `expires_ms`: when the value that it puts or touches ends, 0: never. `attempt`: above 0 it may have
    been executed before; `is_late`: its id was issued before the retry window; `issued_s`: no earlier than that it was issued, by
    this node's clock, `EPOCH` where that is not known; `is_alone`: its id was made here, so there is no other attempt. `owner` and
    `position` are the caller's. The rest is the proposer's."""

    __slots__ = (
        "amount",
        "answer",
        "attempt",
        "condition",
        "confirmed_by",
        "deadline_s",
        "done",
        "expires_ms",
        "is_alone",
        "is_late",
        "issued_s",
        "kind",
        "needs",
        "number",
        "owner",
        "position",
        "request_id",
        "store_key",
        "value",
        "was_sent",
    )

    def __init__(
        self,
        kind: int,
        store_key: bytes,
        *,
        owner: object = None,
        position: int = 0,
        value: bytes = b"",
        condition: Condition | None = None,
        amount: int = 0,
        expires_ms: int = 0,
        request_id: bytes = b"",
        attempt: int = 0,
        is_late: bool = False,
        is_alone: bool = False,
        issued_s: float = EPOCH,
        deadline_s: float = float("inf"),
    ) -> None:
        self.kind = kind
        self.store_key = store_key
        self.owner = owner
        self.position = position
        self.value = value
        self.condition = condition
        self.amount = amount
        self.expires_ms = expires_ms
        self.request_id = request_id
        self.attempt = attempt
        self.is_late = is_late
        self.is_alone = is_alone
        self.issued_s = issued_s
        self.deadline_s = deadline_s
        self.number = 0  # the order in which operations came
        self.answer: Answer | None = None
        self.done = False
        self.confirmed_by: tuple[str, ...] = ()  # who has confirmed the ballot since it came
        self.needs = 0  # so many things have to happen before `answer` may be told
        self.was_sent = False  # somebody was asked to accept it, under this ballot or another


class Answer(NamedTuple):
    """`payload`: what there was (READ, FAILED), None: nothing. `version` and `number` are of what was applied: an increment's
    result, a touch's expiry."""

    outcome: Outcome
    payload: bytes | None = None
    version: bytes = b""
    number: int = 0


def expire(held: bytes, version: bytes, cutoff_ms: int) -> bytes:
    """The tombstone of a value that has ended."""
    return successor(held, version, b"", tombstone=True, cutoff_ms=cutoff_ms)


def decide(operation: Operation, held: bytes | None, version: bytes, cutoff_ms: int, memory: Memory) -> tuple[bytes | None, Answer]:
    """What the register holds after `operation` (None: nothing changes), and what it is answered. `version` is the one that a new
    value gets. Requests issued up to `cutoff_ms` are dropped from the payload; `memory` has those that were."""
    kind = operation.kind
    if kind == GET:
        return None, Answer(READ, held)
    if kind == SETTLE:
        return _settle(held, version, cutoff_ms), Answer(APPLIED)
    request_id = operation.request_id
    if request_id:
        known = (held is not None and payloads.request(held, request_id)) or memory.request(request_id)
        if known:
            return None, Answer(Outcome.APPLIED, None, *known)
        may_be_second = operation.attempt or operation.was_sent
        if may_be_second or not operation.is_alone:
            is_forgotten = memory.may_have_forgotten(request_id, operation.issued_s)
            if is_forgotten or (operation.is_late and may_be_second):
                return None, Answer(Outcome.FORGOTTEN if may_be_second else Outcome.OVERTAKEN)
    condition = operation.condition
    if condition is not None and not condition.holds(*_seen(held)):
        return None, Answer(Outcome.FAILED, held)
    if kind == PUT:
        new = successor(held, version, operation.value, ends_ms=operation.expires_ms, request_id=request_id, cutoff_ms=cutoff_ms)
        return new, Answer(APPLIED, None, version)
    if kind == Kind.DELETE:
        new = successor(held, version, b"", tombstone=True, request_id=request_id, cutoff_ms=cutoff_ms)
        return new, Answer(Outcome.APPLIED, None, version)
    if kind == Kind.TOUCH:
        return _touch(operation, held, cutoff_ms)
    assert kind == Kind.INCREMENT, kind
    return _increment(operation, held, version, cutoff_ms)


def _seen(held: bytes | None) -> tuple[bytes | None, bytes | None]:
    if held is None or held[0] == payloads.TOMBSTONE:
        return None, None
    return payloads.version(held), payloads.value(held)


def _settle(held: bytes | None, version: bytes, cutoff_ms: int) -> bytes:
    """What is there, unchanged. Where a majority holds nothing something else may hold what was never chosen, or was reaped: a
    tombstone is put over that, which answers retries as nothing would."""
    return payloads.encode(version, b"", tombstone=True, forgotten_ms=max(0, cutoff_ms)) if held is None else held


def _touch(operation: Operation, held: bytes | None, cutoff_ms: int) -> tuple[bytes | None, Answer]:
    if held is None or payloads.is_tombstone(held):
        return None, Answer(Outcome.READ, held)
    version, ends_ms = payloads.version(held), operation.expires_ms
    new = _renamed(operation, held, version, payloads.value(held), ends_ms, ends_ms, cutoff_ms)
    return new, Answer(Outcome.APPLIED, None, version, ends_ms)


def _increment(operation: Operation, held: bytes | None, version: bytes, cutoff_ms: int) -> tuple[bytes | None, Answer]:
    number, ends_ms = 0, operation.expires_ms
    if held is not None and not payloads.is_tombstone(held):
        before = _number(payloads.value(held))
        if before is None:
            return None, Answer(Outcome.NO_NUMBER, held)
        number, ends_ms = before, operation.expires_ms or payloads.expires_ms(held)
    number += operation.amount
    if not INT64_MIN <= number <= INT64_MAX:
        return None, Answer(Outcome.NO_NUMBER, held)
    if operation.condition is not None and not operation.condition.allows(number):
        return None, Answer(Outcome.FAILED, held)
    new = _renamed(operation, held, version, b"%d" % number, ends_ms, number, cutoff_ms)
    return new, Answer(Outcome.APPLIED, None, version, number)


def _renamed(
    operation: Operation, held: bytes | None, version: bytes, value: bytes, ends_ms: int, number: int, cutoff_ms: int
) -> bytes:
    request_id = operation.request_id
    return successor(held, version, value, ends_ms=ends_ms, request_id=request_id, number=number, cutoff_ms=cutoff_ms)


def _number(value: bytes) -> int | None:
    """The number that `value` holds in decimal digits; None if it holds none."""
    digits = value[1:] if value.startswith(b"-") else value
    if not digits.isdigit() or len(digits) > DIGITS_MAX:
        return None
    return int(value)
