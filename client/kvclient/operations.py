"""One operation on its way: what a link queues, what a batch is made of, what a retry carries over.

Slotted and with as little to set as possible, since each costs a part of the budget of an operation. What only a failed attempt
needs hangs from `history`, which is None in the usual case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvclient.errors import DeadlineExceeded, KvError, copy_error
from kvclient.shapes import Shape

if TYPE_CHECKING:
    from asyncio import Future

OVERHEAD_BYTES = 48
"""What a key costs on the wire beside its own bytes: versions, contexts, ids and tags, roughly."""


class History:
    """What became of the earlier attempts of one operation. `avoid` is the link that failed last."""

    __slots__ = ("avoid", "error", "maybe_applied")

    def __init__(self) -> None:
        self.avoid: object = None
        self.error: KvError | None = None
        self.maybe_applied = False

    def note(self, error: KvError, link: object) -> None:
        """An attempt through `link` ended with `error`."""
        self.avoid = link
        self.error = error
        self.maybe_applied = self.maybe_applied or error.may_have_applied


class Single:
    """A get, and what a put or delete has in common with it. `deadline_s` is of the loop's clock."""

    __slots__ = ("deadline_s", "future", "history", "key", "shape", "size_bytes")

    count = 1

    def __init__(self, shape: Shape, key: bytes, deadline_s: float, future: Future[Any]) -> None:
        self.shape = shape
        self.key = key
        self.deadline_s = deadline_s
        self.future = future
        self.history: History | None = None
        self.size_bytes = len(key) + OVERHEAD_BYTES

    def again(self) -> Single:
        """The same question, asked a second time while the first is open."""
        return Single(self.shape.hedged(), self.key, self.deadline_s, self.future)

    def expire(self) -> None:
        """The deadline passed while it waited to be sent."""
        self.fail(deadline_error(self.history.error if self.history else None, was_sent=False))

    def note(self, error: KvError, link: object) -> None:
        """An attempt through `link` ended with `error`, another will follow."""
        if self.history is None:
            self.history = History()
        self.history.note(error, link)

    def fail(self, error: KvError) -> None:
        """Ends it with `error`; an earlier attempt that may have been applied makes the outcome unknown."""
        if self.future.done():
            return
        maybe = self.shape.writes and (error.may_have_applied or (self.history is not None and self.history.maybe_applied))
        raised = copy_error(error, may_have_applied=maybe)
        raised.__cause__ = error.__cause__
        self.future.set_exception(raised)


class SessionRead(Single):
    """A get of a session: `seen` is what it has seen of the key, which the answer must not be older than."""

    __slots__ = ("seen",)

    def __init__(self, shape: Shape, key: bytes, deadline_s: float, future: Future[Any], seen: bytes) -> None:
        super().__init__(shape, key, deadline_s, future)
        self.seen = seen

    def again(self) -> Single:
        """See `Single.again`."""
        return SessionRead(self.shape.hedged(), self.key, self.deadline_s, self.future, self.seen)


class Write(Single):
    """A put or a delete. `context` None: what this client remembers; the id is issued when it is first sent."""

    __slots__ = ("context", "request_id", "ttl_ms", "value")

    def __init__(
        self,
        shape: Shape,
        key: bytes,
        deadline_s: float,
        future: Future[Any],
        *,
        value: bytes,
        context: bytes | None,
        ttl_ms: int = 0,
    ) -> None:
        self.shape = shape
        self.key = key
        self.deadline_s = deadline_s
        self.future = future
        self.history = None
        self.size_bytes = len(key) + len(value) + OVERHEAD_BYTES
        self.value = value
        self.context = context
        self.ttl_ms = ttl_ms
        self.request_id = b""


class Change(Write):
    """A write to a counter, a set or a field of a map."""

    __slots__ = ("amount", "field")

    def __init__(
        self,
        shape: Shape,
        key: bytes,
        deadline_s: float,
        future: Future[Any],
        *,
        value: bytes,
        context: bytes | None,
        ttl_ms: int,
        field: bytes,
        amount: int,
    ) -> None:
        super().__init__(shape, key, deadline_s, future, value=value, context=context, ttl_ms=ttl_ms)
        self.field = field
        self.amount = amount
        self.size_bytes += len(field)


class Conditional(Change):
    """A write that has a condition, whatever else it does."""

    __slots__ = ("condition",)

    def __init__(
        self,
        shape: Shape,
        key: bytes,
        deadline_s: float,
        future: Future[Any],
        *,
        value: bytes,
        context: bytes | None,
        ttl_ms: int,
        field: bytes,
        amount: int,
        condition: bytes,
    ) -> None:
        super().__init__(shape, key, deadline_s, future, value=value, context=context, ttl_ms=ttl_ms, field=field, amount=amount)
        self.condition = condition
        self.size_bytes += len(condition)


def deadline_error(last: KvError | None, *, was_sent: bool, may_have_applied: bool = False) -> DeadlineExceeded:
    """The deadline passed; `last` is what the attempt before met, if there was one."""
    said = "sent, but not answered in time" if was_sent else "not sent in time"
    error = DeadlineExceeded(
        f"the deadline passed: {said}{f' ({last.message})' if last else ''}", may_have_applied=may_have_applied
    )
    error.__cause__ = last
    return error
