"""A *_many call: one future, columns, and pieces of bounded size that travel as groups of their own.

Pieces are capped so that a large call leaves room for others on each link, and only a few are out at a time so that memory and
queues stay bounded however many keys the caller brings. Failed keys are gathered and sent again, or end up in `errors`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kvclient.errors import KvError, copy_error
from kvclient.operations import OVERHEAD_BYTES, History, deadline_error
from kvclient.shapes import Shape

if TYPE_CHECKING:
    from asyncio import Future

PIECE_KEYS_MAX = 1024
PIECE_BYTES_MAX = 256 * 1024
PIECES_OUT_MAX = 12


class BulkCall:
    """The keys of one call and what became of each. `indices` everywhere are positions in `keys`. `context` None: what this client
    remembers of each key. `seen`: what a session has seen of each."""

    __slots__ = (
        "_open",
        "amounts",
        "context",
        "deadline_s",
        "errors",
        "fields",
        "future",
        "histories",
        "keys",
        "more",
        "request_ids",
        "results",
        "seen",
        "shape",
        "ttl_ms",
        "values",
        "waiting",
    )

    def __init__(
        self,
        shape: Shape,
        keys: Sequence[bytes],
        *,
        deadline_s: float,
        future: Future[None],
        values: Sequence[bytes] = (),
        ttl_ms: int = 0,
        fields: Sequence[bytes] = (),
        amounts: Sequence[int] = (),
        context: bytes | None = None,
        seen: Sequence[bytes] = (),
    ) -> None:
        self.seen = seen
        self.fields = fields
        self.amounts = amounts
        self.context = context
        self.shape = shape
        self.keys = keys
        self.values = values
        self.ttl_ms = ttl_ms
        self.deadline_s = deadline_s
        self.future = future
        self.results: list[Any] = [None] * len(keys)
        self.errors: dict[int, KvError] = {}
        self.histories: dict[int, History] = {}
        self.request_ids: list[bytes] = [b""] * len(keys) if shape.writes else []
        self.waiting: deque[list[int]] = deque()
        self.more: Callable[[BulkCall], None] | None = None
        self._open = len(keys)

    def settle(self, indices: Sequence[int], results: Sequence[Any]) -> None:
        """These keys are done."""
        for index, result in zip(indices, results, strict=True):
            self.results[index] = result
        self._close(len(indices))

    def fail(self, indices: Sequence[int], error: KvError) -> None:
        """These keys ended with `error`."""
        for index in indices:
            history = self.histories.get(index)
            maybe = error.may_have_applied or (history is not None and history.maybe_applied)
            self.errors[index] = copy_error(error, may_have_applied=maybe and self.shape.writes)
        self._close(len(indices))

    def history(self, index: int) -> History:
        """The history of a key that failed once; made on first use."""
        return self.histories.setdefault(index, History())

    def size_bytes(self, index: int) -> int:
        """About what the key costs on the wire."""
        return len(self.keys[index]) + (len(self.values[index]) if self.values else 0) + OVERHEAD_BYTES

    def fail_waiting(self, error: KvError) -> None:
        """No piece that has not left yet will: each of its keys ends with `error`."""
        waiting = [index for indices in self.waiting for index in indices]
        self.waiting.clear()
        if waiting:
            self.fail(waiting, error)

    def _close(self, count: int) -> None:
        self._open -= count
        if self._open <= 0 and not self.future.done():
            self.future.set_result(None)


class BulkPiece:
    """Some keys of a call on one link. Leaves as one unit; its answers may come in parts.

    While its keys are asked for a second time elsewhere, `race` holds those that neither has answered: each key is settled by who
    comes first, and counts as answered of the piece that was first to leave.
    """

    __slots__ = ("_origin", "call", "count", "deadline_s", "future", "indices", "open_count", "race", "shape", "size_bytes")

    def __init__(self, call: BulkCall, shape: Shape, indices: list[int], size_bytes: int) -> None:
        self.call = call
        self.shape = shape
        self.indices = indices
        self.count = self.open_count = len(indices)
        self.size_bytes = size_bytes
        self.deadline_s = call.deadline_s
        self.future = call.future
        self.race: set[int] | None = None
        self._origin = self

    def raced(self, indices: list[int]) -> BulkPiece:
        """A second question for `indices`, which are open."""
        if self.race is None:
            self.race = set()
        self.race.update(indices)
        again = BulkPiece(self.call, self.shape.hedged(), indices, sum(self.call.size_bytes(index) for index in indices))
        again.race, again._origin = self.race, self
        return again

    def take(self, indices: Sequence[int]) -> Sequence[int]:
        """Those of `indices` that are not answered yet, answered from now on."""
        race = self.race
        if race is None:
            return indices
        fresh = [index for index in indices if index in race]
        race.difference_update(fresh)
        return fresh

    def expire(self) -> None:
        """The deadline passed while it waited to be sent."""
        self.fail(self.indices, deadline_error(None, was_sent=False))

    def settle(self, indices: Sequence[int], results: Sequence[Any]) -> int:
        """Some of its keys were answered; how many of them for the first time."""
        if self.race is not None:
            by_index = dict(zip(indices, results, strict=True))
            indices = self.take(indices)
            results = [by_index[index] for index in indices]
        self.closed(len(indices))
        self.call.settle(indices, results)
        return len(indices)

    def fail(self, indices: Sequence[int], error: KvError) -> None:
        """Some of its keys ended with `error`."""
        indices = self.take(indices)
        self.call.fail(indices, error)
        self.closed(len(indices))

    def closed(self, count: int) -> None:
        """`count` of its keys are off this piece; when all are, the call's next piece may leave."""
        if self._origin is not self:
            self._origin.closed(count)
            return
        self.open_count -= count
        if count and self.open_count <= 0 and self.call.waiting and self.call.more is not None:
            self.call.more(self.call)


def cut(call: BulkCall, indices: Sequence[int]) -> list[list[int]]:
    """`indices` cut into pieces of bounded keys and bytes, in order."""
    pieces: list[list[int]] = []
    size_bytes = 0
    for index in indices:
        more = call.size_bytes(index)
        if not pieces or len(pieces[-1]) >= PIECE_KEYS_MAX or size_bytes + more > PIECE_BYTES_MAX:
            pieces.append([])
            size_bytes = 0
        pieces[-1].append(index)
        size_bytes += more
    return pieces
