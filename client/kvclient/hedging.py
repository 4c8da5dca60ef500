"""A read whose answer is late is asked once more, of another owner; the first answer wins (Dean and Barroso, "The Tail at Scale",
CACM 2013).

Late is later than 95 of 100 reads of that level were lately (`latencies`), and up to four times that while second answers seldom
come first. What a second question may cost is bounded: every read
pays a twentieth of a token in, every second question takes one.

- The reads in a late batch are hedged, as far as there are tokens and another owner that is up and owes no late answer itself.
- A node that is silent for four times as long is passed over by new reads until it answers something, and reads that were queued
  behind the late batch go elsewhere: they had not left, so that costs nothing. Not sooner, because one batch in twenty is late on
  a node that is well, and whoever avoids the one that is busiest at the moment only makes another that.

Nothing of this while nodes say that they are overloaded, and writes are never asked twice. One timer for the whole client, set to
the moment at which the next batch becomes late; it looks at batches, not at operations. Called by `node_link` for each batch and
each part of an answer; `dispatcher` owns it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kvclient.batches import BulkPart, Part, SinglesPart
from kvclient.bulk import BulkPiece
from kvclient.errors import Overloaded
from kvclient.latencies import NEVER, RecentLatency
from kvclient.operations import Single
from kvclient.shapes import Shape
from kvclient.stats import ClientStats
from kvproto.columns import GroupReply, Level

if TYPE_CHECKING:
    from kvclient.membership import Membership
    from kvclient.node_link import Flight, NodeLink

BUDGET_SHARE = 0.05
BUDGET_TOKENS_MAX = 1024.0
DELAY_MIN_S = 0.001
"""Timers of an event loop are no finer."""
PATIENCE_MAX = 4.0
"""How much later than usual an answer may be before it is late, where fewer than a third of the second answers come first: on nodes
that are merely busy the first answer is about to come, and the second question only makes them busier."""
SILENT_FACTOR = 4.0
SILENT_MIN_S = 0.01
BLOCKED_S = 0.005
"""A timer that fires so late says that the event loop stood still: the answers may be here already, unread."""
OVERLOAD_PAUSE_S = 1.0

Move = Callable[["NodeLink", Sequence[Single | BulkPiece]], None]


class HedgeBudget:
    """A token bucket that starts empty: never more than `share` of what was paid in has been taken out."""

    __slots__ = ("_share", "_tokens", "_tokens_max")

    def __init__(self, *, share: float = BUDGET_SHARE, tokens_max: float = BUDGET_TOKENS_MAX) -> None:
        self._share = share
        self._tokens_max = tokens_max
        self._tokens = 0.0

    def pay_in(self, reads: int) -> None:
        """`reads` were sent for the first time."""
        self._tokens = min(self._tokens_max, self._tokens + reads * self._share)

    def take(self, reads: int) -> bool:
        """Takes a token for each of `reads`, all or none."""
        if self._tokens < reads:
            return False
        self._tokens -= reads
        return True


class Hedging:
    """The late reads of one client. `is_on` False only counts."""

    def __init__(
        self, membership: Membership, loop: asyncio.AbstractEventLoop, stats: ClientStats, move: Move, *, is_on: bool
    ) -> None:
        self._membership = membership
        self._loop = loop
        self._stats = stats
        self._move = move
        self._is_on = is_on
        self._budget = HedgeBudget()
        self._patience = 1.0
        self._latencies: dict[tuple[str, Level, int, bool], RecentLatency] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = NEVER
        self._overloaded_s = -NEVER

    def sent(self, flight: Flight, now_s: float) -> None:
        """A batch has left: its reads pay in, and it has a time by which they should be answered."""
        reads = 0
        delay_s = NEVER
        for part in flight.parts:
            if _is_first_read(part.shape):
                reads += part.open_count
                delay_s = min(delay_s, self._latency(part.shape).p95_s)
        if not reads:
            return
        self._stats.reads += reads
        self._budget.pay_in(reads)
        if self._is_on and delay_s < NEVER and len(self._membership.all_links()) > 1:
            flight.late_s = now_s + max(delay_s * self._patience, DELAY_MIN_S)
            flight.silent_s = now_s + max(delay_s * SILENT_FACTOR, SILENT_MIN_S)
            self._arm(min(flight.late_s, flight.silent_s))

    def heard(self, flight: Flight, replies: Sequence[GroupReply], now_s: float) -> None:
        """Part of an answer came: how long it took is what the next ones are measured by."""
        for reply in replies:
            if isinstance(reply.error, Overloaded):
                self._overloaded_s = now_s
            elif reply.error is None and reply.group < len(flight.parts):
                part = flight.parts[reply.group]
                if not part.shape.writes:
                    count = len(part.group.keys) if reply.positions is None else len(reply.positions)
                    self._latency(part.shape).record(now_s - flight.sent_s, count, now_s)

    def judge(self, part: Part) -> None:
        """Second questions were answered, `part.won` of them first: where few are, the next have more patience."""
        won, part.won = part.won, 0
        self._stats.hedges_won += won
        share = won / len(part.group.keys)
        self._patience = min(PATIENCE_MAX, max(1.0, self._patience * 0.9**share * 1.05 ** (1.0 - share)))

    def close(self) -> None:
        """Asks nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._is_on = False

    def _latency(self, shape: Shape) -> RecentLatency:
        """Of reads like this one: *_many calls and single reads differ, and what the preset means is the namespace's."""
        like = (shape.namespace, shape.level, shape.r, shape.is_bulk)
        found = self._latencies.get(like)
        if found is None:
            found = self._latencies[like] = RecentLatency(self._loop.time())
        return found

    # When a batch is late.

    def _arm(self, at_s: float) -> None:
        if self._timer is not None:
            if self._due_s <= at_s:
                return
            self._timer.cancel()
        self._due_s = at_s  # a timer of uvloop that is due at once cannot tell when
        self._timer = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        """Some batch may be late: what is done about it, and when to look again."""
        self._timer = None
        now_s = self._loop.time()
        if now_s - self._due_s > BLOCKED_S:
            self._arm(now_s + DELAY_MIN_S)
            return
        late: list[tuple[NodeLink, Flight]] = []
        silent: list[NodeLink] = []
        next_s = NEVER
        for link in self._membership.all_links():
            for flight in link.flights:
                # All of them are marked before any is helped: nobody is sent to a node that is in the same trouble.
                if flight.late_s <= now_s:
                    flight.late_s = NEVER
                    late.append((link, flight))
                    link.late = link.late or not flight.heard
                if flight.silent_s <= now_s:
                    flight.silent_s = NEVER
                    if not flight.heard:
                        link.late = link.silent = True
                        silent.append(link)
                next_s = min(next_s, flight.late_s, flight.silent_s)
        if now_s - self._overloaded_s >= OVERLOAD_PAUSE_S:
            for link, flight in late:
                for part in list(flight.parts):
                    if _is_first_read(part.shape):
                        self._hedge(link, part)
            for link in silent:
                self._take_queued_elsewhere(link)
        if next_s < NEVER:
            self._arm(next_s)

    def _hedge(self, link: NodeLink, part: Part) -> None:
        """Asks once more for what is open in `part`, as far as the budget goes."""
        if isinstance(part, SinglesPart):
            for operation in part.open_operations():
                other = self._membership.router.other_owner(operation.key, link)
                if other is None or not self._budget.take(1):
                    continue
                self._submit(other, operation.again())
        elif isinstance(part, BulkPart):
            for piece, indices in part.open_pieces():
                self._hedge_piece(link, piece, indices)

    def _hedge_piece(self, link: NodeLink, piece: BulkPiece, indices: Sequence[int]) -> None:
        by_link: dict[NodeLink, list[int]] = {}
        for index in indices:
            other = self._membership.router.other_owner(piece.call.keys[index], link)
            if other is not None:
                by_link.setdefault(other, []).append(index)
        # A part of the keys would not let the call return sooner.
        if sum(map(len, by_link.values())) < len(indices) or not self._budget.take(len(indices)):
            return
        for other, chosen in by_link.items():
            self._submit(other, piece.raced(chosen))

    def _submit(self, link: NodeLink, again: Single | BulkPiece) -> None:
        try:
            link.submit(again)
        except Overloaded:
            self._overloaded_s = self._loop.time()
        else:
            self._stats.hedges += again.count

    def _take_queued_elsewhere(self, link: NodeLink) -> None:
        """What waits behind a late batch: reads that another owner can answer leave through that one instead."""
        other_owner = self._membership.router.other_owner

        def can_go(work: Single | BulkPiece) -> bool:
            return not work.shape.writes and all(other_owner(key, link) is not None for key in _keys_of(work))

        reads = link.take_queued(can_go)
        if reads:
            self._stats.reads_moved += sum(work.count for work in reads)
            self._move(link, reads)


def _keys_of(work: Single | BulkPiece) -> Sequence[bytes]:
    return [work.key] if isinstance(work, Single) else [work.call.keys[index] for index in work.indices]


def _is_first_read(shape: Shape) -> bool:
    return not shape.writes and shape.attempt == 0 and not shape.is_hedge
