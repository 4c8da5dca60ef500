"""What a link has taken becomes groups of columns, and parts of replies become results again.

`form_batch` is called at flush time with the works of one batch and returns one `Part` for each group: single operations of one
shape together, pieces of *_many calls of one shape together. A part knows which positions are still open, so that whatever ends a
batch (an answer, an error, a broken connection) settles each operation exactly once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from kvclient.bulk import BulkPiece
from kvclient.decoding import decode_entries, decode_results
from kvclient.errors import Code, ConditionFailed, KvError
from kvclient.operations import Change, Conditional, SessionRead, Single, Write, deadline_error
from kvclient.request_ids import RequestIds
from kvclient.shapes import Shape
from kvclient.values import Entry
from kvproto.columns import GroupReply, Kind, OperationGroup

_TIMEOUT_SPREAD = 0.05
"""Deadlines this near to each other (as a share of what is left) travel as one number, the latest: each side checks its own."""

OnFailed = Callable[["Part", Sequence[int], KvError], None]


_KEYS_ALONE = frozenset((Kind.DELETE, Kind.TOUCH))
"""Writes that say nothing but which keys."""


class Part(ABC):
    """One group in flight. Positions are indices into the group's columns."""

    __slots__ = ("_answered", "deadline_s", "group", "on_failed", "open_count", "shape", "won")

    def __init__(self, shape: Shape, group: OperationGroup, deadline_s: float, on_failed: OnFailed) -> None:
        self.shape = shape
        self.group = group
        self.deadline_s = deadline_s
        self.open_count = len(group.keys)
        self.on_failed = on_failed
        self.won = 0  # of a hedge: operations that it answered first
        self._answered: bytearray | None = None

    def deliver(self, reply: GroupReply) -> None:
        """Settles the positions `reply` is about. Raises `KvError` for a reply that makes no sense; nothing of it was taken."""
        positions = reply.positions
        if self.open_count == 0:  # said already
            return
        if reply.error is not None:
            if reply.error.code is Code.CONDITION_FAILED:
                self._fail_conditions(reply)
            else:
                self.fail(self._take(positions), reply.error)
            return
        if positions is None and self._answered is None:
            results = self._decode(self.group.keys, reply)
            self.open_count = 0
            self._settle_all(results)
            return
        keys = self.group.keys
        chosen = self._chosen(reply)
        results = self._decode([keys[at] for at in chosen], reply)
        fresh = set(self._take(chosen))
        pairs = [(at, result) for at, result in zip(chosen, results, strict=True) if at in fresh]
        self._settle([at for at, _ in pairs], [result for _, result in pairs])

    def _chosen(self, reply: GroupReply) -> Sequence[int]:
        """What a reply is about; some of it may have run out of time meanwhile."""
        count, positions = len(self.group.keys), reply.positions
        chosen = range(count) if positions is None else list(positions)
        if any(at >= count for at in chosen):
            raise KvError("a reply names positions its group does not have", limit=count, actual=max(chosen))
        return chosen

    def _fail_conditions(self, reply: GroupReply) -> None:
        """Each of these operations ends with an error of its own, which has what is there instead."""
        keys, chosen = self.group.keys, self._chosen(reply)
        entries = decode_entries([keys[at] for at in chosen], reply)
        fresh = set(self._take(chosen))
        for at, entry in zip(chosen, entries, strict=True):
            if at in fresh and reply.error is not None:
                self.fail([at], condition_failed(reply.error, entry))

    def fail(self, positions: Sequence[int], error: KvError) -> None:
        """These positions, taken before, ended with `error`."""
        if positions:
            self.on_failed(self, positions, error)

    def fail_open(self, error: KvError) -> None:
        """Every position that is still open ended with `error`."""
        self.fail(self._take(None), error)

    @abstractmethod
    def expire(self, now_s: float) -> None:
        """Ends what is open and past its deadline; the outcome of a write is unknown."""

    @abstractmethod
    def _settle(self, positions: Sequence[int], results: Sequence[Any]) -> None:
        """These positions are done."""

    @abstractmethod
    def _settle_all(self, results: Sequence[Any]) -> None:
        """Every position is done, nothing was answered before."""

    def _decode(self, keys: Sequence[bytes], reply: GroupReply) -> Sequence[Any]:
        return decode_results(keys, reply, self.shape.contexts) if self.shape.writes else decode_entries(keys, reply)

    def _open(self) -> list[int]:
        if self.open_count == 0:
            return []
        answered = self._answered
        return [at for at in range(len(self.group.keys)) if answered is None or not answered[at]]

    def _take(self, positions: Sequence[int] | None) -> list[int]:
        """The open ones among `positions` (None: all), no longer open from now on."""
        if self._answered is None:
            self._answered = bytearray(len(self.group.keys)) if self.open_count else bytearray(b"\x01") * len(self.group.keys)
        answered = self._answered
        taken = []
        for at in range(len(answered)) if positions is None else positions:
            if at < len(answered) and not answered[at]:
                answered[at] = 1
                taken.append(at)
        self.open_count -= len(taken)
        return taken


class SinglesPart(Part):
    """A group of single operations: position i is the i-th."""

    __slots__ = ("operations",)

    def __init__(
        self, shape: Shape, group: OperationGroup, deadline_s: float, on_failed: OnFailed, operations: Sequence[Single]
    ) -> None:
        super().__init__(shape, group, deadline_s, on_failed)
        self.operations = operations

    def open_operations(self) -> list[Single]:
        """Those that somebody still waits for."""
        return [operation for at in self._open() if not (operation := self.operations[at]).future.done()]

    def expire(self, now_s: float) -> None:
        """Ends what is open and past its deadline; the outcome of a write is unknown."""
        due = [at for at in self._open() if self.operations[at].deadline_s <= now_s]
        for at in self._take(due):
            self.operations[at].fail(deadline_error(None, was_sent=True, may_have_applied=self.shape.writes))
        self.deadline_s = min((self.operations[at].deadline_s for at in self._open()), default=float("inf"))

    def _settle(self, positions: Sequence[int], results: Sequence[Any]) -> None:
        operations = self.operations
        self._resolve([operations[at] for at in positions], results)

    def _settle_all(self, results: Sequence[Any]) -> None:
        self._resolve(self.operations, results)

    def _resolve(self, operations: Sequence[Single], results: Sequence[Any]) -> None:
        if self.shape.is_hedge:
            self.won += sum(not operation.future.done() for operation in operations)
        _resolve(operations, results)


def _resolve(operations: Sequence[Single], results: Sequence[Any]) -> None:
    """The last step of the hot path: each waiting caller gets its result."""
    for operation, result in zip(operations, results, strict=True):
        future = operation.future
        if not future.done():
            future.set_result(result)


class BulkPart(Part):
    """A group of pieces, one after the other: `starts` holds the first position of each."""

    __slots__ = ("pieces", "starts")

    def __init__(
        self, shape: Shape, group: OperationGroup, deadline_s: float, on_failed: OnFailed, pieces: Sequence[BulkPiece]
    ) -> None:
        super().__init__(shape, group, deadline_s, on_failed)
        self.pieces = pieces
        self.starts = [0]
        for piece in pieces:
            self.starts.append(self.starts[-1] + len(piece.indices))

    def by_piece(self, positions: Sequence[int]) -> list[tuple[BulkPiece, list[int], list[int]]]:
        """`positions` by the piece they belong to: piece, the keys' indices in its call, and where among `positions` each stood."""
        found: dict[int, tuple[BulkPiece, list[int], list[int]]] = {}
        for rank, at in enumerate(positions):
            which = bisect_right(self.starts, at) - 1
            _, indices, ranks = found.setdefault(which, (self.pieces[which], [], []))
            indices.append(self.pieces[which].indices[at - self.starts[which]])
            ranks.append(rank)
        return list(found.values())

    def open_pieces(self) -> list[tuple[BulkPiece, list[int]]]:
        """The pieces that somebody still waits for, with the open indices of each."""
        return [(piece, indices) for piece, indices, _ in self.by_piece(self._open()) if not piece.future.done()]

    def expire(self, now_s: float) -> None:
        """Ends what is open and past its deadline; the outcome of a write is unknown."""
        due = [at for at in self._open() if self.pieces[bisect_right(self.starts, at) - 1].deadline_s <= now_s]
        for piece, indices, _ in self.by_piece(self._take(due)):
            piece.fail(indices, deadline_error(None, was_sent=True, may_have_applied=self.shape.writes))
        still = {bisect_right(self.starts, at) - 1 for at in self._open()}
        self.deadline_s = min((self.pieces[which].deadline_s for which in still), default=float("inf"))

    def _settle(self, positions: Sequence[int], results: Sequence[Any]) -> None:
        for piece, indices, ranks in self.by_piece(positions):
            self._settle_piece(piece, indices, [results[rank] for rank in ranks])

    def _settle_all(self, results: Sequence[Any]) -> None:
        for piece, start in zip(self.pieces, self.starts, strict=False):
            self._settle_piece(piece, piece.indices, results[start : start + len(piece.indices)])

    def _settle_piece(self, piece: BulkPiece, indices: Sequence[int], results: Sequence[Any]) -> None:
        first = piece.settle(indices, results)
        if self.shape.is_hedge:
            self.won += first


def condition_failed(error: KvError, entry: Entry) -> ConditionFailed:
    """A node's error as a caller gets it."""
    return ConditionFailed(error.message, subject=error.subject, trace_id=error.trace_id).with_entry(entry)


def form_batch(works: Sequence[Single | BulkPiece], now_s: float, ids: RequestIds, on_failed: OnFailed) -> list[Part]:
    """The parts of one batch, in the order of their first work. Works nobody waits for any more are left out."""
    by_shape: dict[Shape, list[Any]] = {}
    for work in works:
        if work.future.done():
            continue
        members = by_shape.get(work.shape)
        if members is None:
            by_shape[work.shape] = [work]
        else:
            members.append(work)
    parts: list[Part] = []
    for shape, members in by_shape.items():
        deadlines = [work.deadline_s for work in members]
        earliest_s = min(deadlines)
        group = _bulk_group(shape, members) if shape.is_bulk else _singles_group(shape, members, ids)
        group.timeouts_ms = _timeouts(members, deadlines, earliest_s, now_s)
        make: Any = BulkPart if shape.is_bulk else SinglesPart
        parts.append(make(shape, group, earliest_s, on_failed, members))
    return parts


def _singles_group(shape: Shape, operations: Sequence[Any], ids: RequestIds) -> OperationGroup:
    group = _empty_group(shape, [operation.key for operation in operations])
    if shape.writes:
        writes: Sequence[Write] = operations
        token = shape.contexts.token
        if shape.tells_context:
            contexts = [token(write.key) if write.context is None else write.context for write in writes]
        else:
            contexts = [write.context or b"" for write in writes]
        group.contexts = contexts if any(contexts) else ()
        if shape.kind is Kind.PUT:
            group.values = [write.value for write in writes]
        elif shape.kind not in _KEYS_ALONE:
            changes: Sequence[Change] = operations
            fields = [change.field for change in changes]
            _add_columns(group, [change.value for change in changes], fields, [change.amount for change in changes])
        group.ttls_ms = [write.ttl_ms for write in writes] if shape.has_ttl else ()
        group.request_ids = _issue(writes, ids)
        if shape.is_conditional:
            conditional: Sequence[Conditional] = operations
            group.conditions = [write.condition for write in conditional]
    elif shape.tells_seen:
        reads: Sequence[SessionRead] = operations
        group.seen = [read.seen for read in reads]
    return group


def _issue(writes: Sequence[Write], ids: RequestIds) -> bytes:
    """The ids of `writes`; one that was sent before keeps the id it had."""
    fresh = [write for write in writes if not write.request_id]
    for write, issued in zip(fresh, ids.issue(len(fresh)), strict=True):
        write.request_id = issued
    return b"".join([write.request_id for write in writes])


def _bulk_group(shape: Shape, pieces: Sequence[BulkPiece]) -> OperationGroup:
    group = _empty_group(shape, [piece.call.keys[index] for piece in pieces for index in piece.indices])
    if shape.writes:
        token = shape.contexts.token
        given = [piece.call.context for piece in pieces for _ in piece.indices]
        if shape.tells_context:
            contexts = [token(key) if own is None else own for key, own in zip(group.keys, given, strict=True)]
        else:
            contexts = [own or b"" for own in given]
        group.contexts = contexts if any(contexts) else ()
        at = [(piece.call, index) for piece in pieces for index in piece.indices]
        if shape.kind is Kind.PUT:
            group.values = [call.values[index] for call, index in at]
        elif shape.kind not in _KEYS_ALONE:
            values = [call.values[index] if call.values else b"" for call, index in at]
            fields = [call.fields[index] if call.fields else b"" for call, index in at]
            _add_columns(group, values, fields, [call.amounts[index] if call.amounts else 0 for call, index in at])
        group.ttls_ms = [call.ttl_ms for call, _ in at] if shape.has_ttl else ()
        group.request_ids = b"".join([piece.call.request_ids[index] for piece in pieces for index in piece.indices])
    elif shape.tells_seen:
        group.seen = [piece.call.seen[index] for piece in pieces for index in piece.indices]
    return group


def _empty_group(shape: Shape, keys: Sequence[bytes]) -> OperationGroup:
    return OperationGroup(
        kind=shape.kind,
        namespace=shape.namespace,
        keys=keys,
        level=shape.level,
        r=shape.r,
        w=shape.w,
        explain=shape.explain,
        attempt=shape.attempt_told,
        bound_ms=shape.bound_ms,
        sloppy=shape.sloppy,
    )


def _add_columns(group: OperationGroup, values: Sequence[bytes], fields: Sequence[bytes], amounts: Sequence[int]) -> None:
    """What a group on counters, sets or maps has beside its keys."""
    if group.kind is Kind.INCREMENT:
        group.amounts = amounts
    elif group.kind is not Kind.DISCARD:
        group.values = values
    if any(fields):
        group.fields = fields


def _timeouts(members: Sequence[Single | BulkPiece], deadlines: Sequence[float], earliest_s: float, now_s: float) -> Sequence[int]:
    """What is left of each deadline; one number where they are about the same."""
    latest_s = max(deadlines)
    if latest_s - earliest_s <= _TIMEOUT_SPREAD * (latest_s - now_s):
        return (_left_ms(latest_s, now_s),)
    return [_left_ms(work.deadline_s, now_s) for work in members for _ in range(work.count)]


def _left_ms(deadline_s: float, now_s: float) -> int:
    return max(1, int((deadline_s - now_s) * 1000) + 1)
