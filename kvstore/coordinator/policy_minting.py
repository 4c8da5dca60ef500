"""Mints where a policy has the say: counters, sets, maps and lww. `minting` calls it in place of its own loop.

Nothing here waits either. Every operation is one event of the policy on the record that is held (`Policy.apply`), and what comes
out is a whole record like any other. An increment is executed once or refused as unknown, never executed again (safety rule 8).
"""

from __future__ import annotations

from kvproto.columns import OperationGroup
from kvproto.errors import QuorumUnreachable, RetryWindowPassed, TooLarge
from kvstore.coordinator.too_late import forgotten, too_late
from kvstore.core.policies import counters
from kvstore.core.policies.items import decode_item, decode_total, encode_item, encode_total
from kvstore.core.policies.operations import Event, Increment, Kind, Operation, Policy
from kvstore.core.policies.plain import LWW
from kvstore.core.policies.retrying import Verdict, decide_increment
from kvstore.core.policies.typed import COUNTER
from kvstore.core.record import (
    decode,
    decode_context,
    encode,
    encode_context,
    own_context,
    usual_sibling,
)
from kvstore.core.record_writes import (
    Minted,
    first_record,
    is_blind,
    overwrite,
)
from kvstore.core.versions import ACTOR_BYTES, EMPTY, Context, Record, covers, issued_ms, unseen_dots


class PutAside(Exception):
    """The operation's context names writes that have to be fetched first."""


class Renamed(Exception):
    """The record covers the dot that was to be minted: the actor has to go on under a new epoch."""


class PolicyMinted(Minted):
    """`Minted`, and of an increment the value that its counter has then, which may be beyond 64 bits."""

    __slots__ = ("total",)

    def __init__(self, record: bytes, dot: bytes, context: bytes, *, fresh: bool, total: int = 0) -> None:
        super().__init__(record, dot, context, 1, fresh)
        self.total = total


class PolicyMint:
    """The minting of one batch, of operations of `group`. `bytes_max`: of the whole record of a key, past which nothing makes it
    longer."""

    def __init__(
        self,
        policy: Policy,
        *,
        group: OperationGroup,
        hlc: int,
        cutoff_ms: int,
        window_ms: int,
        retries_max: int,
        bytes_max: int,
        caught_up: bool,
    ) -> None:
        self._policy = policy
        self._group = group
        self._attempt = group.attempt
        self._window_ms = window_ms
        self._hlc = hlc
        self._cutoff_ms = cutoff_ms
        self._cutoff = cutoff_ms.to_bytes(6, "big")
        self._retries_max = retries_max
        self._bytes_max = bytes_max
        self._caught_up = caught_up

    def mint(
        self, base: bytes | None, dot: bytes, request_id: bytes, expires_ms: int, token: bytes, operation: Operation
    ) -> PolicyMinted:
        """The record after `operation` on `base`; for an id that is known, as it stands.

        Raises `KvError` where it is refused, `ValueError` for a context that was never handed out, `PutAside`, `Renamed`.
        """
        if request_id < self._cutoff:
            raise too_late(self._group, self._window_ms)
        quick = self._overwrite(base, dot, request_id, expires_ms, operation)
        if quick is not None:
            return quick
        held = EMPTY if base is None else decode(base)
        known = held.known(request_id)
        if isinstance(operation, Increment):
            if decide_increment(held, request_id, attempt=self._attempt) is Verdict.UNKNOWN:
                raise _not_counted_again()
        elif known is None and self._attempt and issued_ms(request_id) <= held.floor_ms:
            raise forgotten()
        if known is not None:
            return _minted(base or b"", held, known, operation, fresh=False)
        context = self._context(held, base, token)
        if covers(held.vector, dot):
            raise Renamed
        event = Event(dot, request_id, self._hlc, expires_ms, self._cutoff_ms, self._retries_max)
        record = self._policy.apply(held, operation, event, context)
        encoded = encode(record)
        if len(encoded) > self._bytes_max and len(encoded) > len(base or b""):
            raise _too_long(len(encoded), self._bytes_max)
        return _minted(encoded, record, dot, operation, fresh=True)

    def _overwrite(
        self, base: bytes | None, dot: bytes, request_id: bytes, expires_ms: int, operation: Operation
    ) -> PolicyMinted | None:
        """The usual write of lww, later than the only value held, and the usual increment, of a counter that nobody else has
        incremented: without leaving the bytes. None: something else, which the policy has to say."""
        total = 0
        if self._policy is LWW:
            value: bytes | None = getattr(operation, "value", None)
            if base is None:
                record = first_record(dot, request_id, self._hlc, expires_ms, value)
                return PolicyMinted(record, dot, own_context(dot), fresh=True)
            usual = usual_sibling(base)
            if usual is None or usual[0] >= self._hlc:
                return None
        elif self._policy is COUNTER and base is not None and isinstance(operation, Increment) and not self._attempt:
            usual = usual_sibling(base)
            if usual is None or usual[1] is None:
                return None
            total = decode_total(decode_item(usual[1]).payload) + operation.amount
            value = encode_item(Kind.COUNTER, b"", encode_total(total))
        else:
            return None
        if base[17:29] != dot[:ACTOR_BYTES]:
            return None  # of another coordinator: what it counted stays
        grown = overwrite(base, dot, request_id, self._hlc, expires_ms, value, self._cutoff, self._retries_max)
        return None if grown is None else PolicyMinted(grown, dot, own_context(dot), fresh=True, total=total)

    def _context(self, held: Record, base: bytes | None, token: bytes) -> Context:
        """What the operation has seen. It chooses among what is held, so what it names beyond has to be here first."""
        context = decode_context(token)
        if self._policy is LWW or not token:
            return context
        if is_blind(base, context) or any(unseen_dots(held, context)):
            if not self._caught_up:
                raise PutAside
            raise QuorumUnreachable(
                "the context names writes that no replica within reach holds: what they brought could not be removed",
                subject="context",
            )
        return context


def _minted(encoded: bytes, record: Record, dot: bytes, operation: Operation, *, fresh: bool) -> PolicyMinted:
    total = counters.values(record).get(operation.field, (0, b""))[0] if isinstance(operation, Increment) else 0
    return PolicyMinted(encoded, dot, encode_context(Context(record.vector)), fresh=fresh, total=total)


def _not_counted_again() -> RetryWindowPassed:
    return RetryWindowPassed(
        "an earlier attempt of this increment may have been counted, and this node does not know: it is not counted again; "
        "read the counter to see what it holds",
        may_have_applied=True,
        subject="increment",
    )


def _too_long(size_bytes: int, limit: int) -> TooLarge:
    return TooLarge(
        f"with this the key would take {size_bytes} bytes, at most {limit} are allowed: spread it over several keys",
        limit=limit,
        actual=size_bytes,
        subject="items",
    )
