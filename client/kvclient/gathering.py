"""Through how few nodes a client sends what it has under way: few operations through one, more through two, many through all.

What a batch costs is mostly its number, not its operations (docs/performance.md), and each batch of writes becomes one to every
other replica. Sixty callers whose keys have three coordinators make three small batches of what can be one. Any home replica can
coordinate a key, so a client that has little under way gives all it can to the owner that it ranks first, each client by a ranking
of its own; the more it has, the more owners share its partitions, and with plenty every key has the coordinator that all agree on.

Reads may go anywhere. A write may not: of two writes of a key without a context, at the same time through two coordinators, neither
replaces the other, and the key has siblings. So writes are gathered

- only while the nodes say that nobody else writes (kvstore/core/writers.py); else all clients use the coordinator by convention;
- never from one coordinator to another while a write is under way: new ones are held until those before are answered, which is what
  changing costs, once in a while, and never while nothing is out.

While a node is away writes go by convention: who coordinates them owes them to that node, and the fewer do, the more it will have
to hand over. Reads go on being gathered, because whoever coordinates one asks those first who owe something (core/doubts.py).

How much is under way is looked at when batches leave: the most of the last moments counts, so that a burst spreads at once and a
lull changes nothing at once. What nodes say of who writes comes with the answers to writes, and holds for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from kvclient.bulk import BulkPiece
from kvclient.operations import Single
from kvproto.link import Coalescer, Ticket

if TYPE_CHECKING:
    from kvclient.membership import Membership
    from kvclient.node_link import NodeLink

FULL = 96
"""So many operations under way are enough for one coordinator; three times as many for two, and so on: a coordinator more has to be
worth its messages."""
WEIGHT_BYTES = 4096
"""So much more to send is one operation more."""
LOOK_S = 0.005
LULL_S = 0.25
"""Less for so long is less."""
TOLD_S = 2.0
"""What a node said of who writes holds for so long: by then others may have begun."""
HOLD_S_MAX = 0.1
"""Writes are not held for longer: what is still out then is slow, and a sibling the least of its troubles."""

Works = Sequence[Single | BulkPiece]


def width_for(under_way: float, owners: int) -> int:
    """How many of a key's `owners` share the work."""
    width, enough = 1, float(FULL)
    while width < owners and under_way > enough:
        width, enough = width + 1, enough * 3
    return width


class Gathering:
    """Of one client. `again` sends operations that were queued or held to where they belong now."""

    def __init__(self, membership: Membership, loop: asyncio.AbstractEventLoop, again: Callable[[Works], None]) -> None:
        self._membership = membership
        self._loop = loop
        self._again = again
        self._looked_s = 0.0
        self._peak = self._before = 0.0  # since `_window_s`, and in the LULL_S before that
        self._window_s = 0.0
        self._wanted = 0
        self._held: Coalescer[Single | BulkPiece] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._lapse: asyncio.TimerHandle | None = None

    def look(self, now_s: float, coming: int = 0) -> None:
        """A batch has left, or so many operations are `coming` at once: whether others should take part from now on, or fewer. Does
        nothing when it was called a moment ago."""
        if now_s - self._looked_s < LOOK_S and coming < FULL:
            return
        self._looked_s = now_s
        router = self._membership.router
        links = router.links
        under_way = sum([link.load for link in links]) + coming
        if now_s - self._window_s >= LULL_S:
            self._before, self._peak, self._window_s = self._peak, 0.0, now_s
        self._peak = max(self._peak, under_way)
        owners = router.owners_max
        width = width_for(max(self._before, self._peak), owners)
        before, router.read_width = router.read_width, width
        if width > before and (queued := self._take_queued(writes=False)):
            self._again(queued)
        if self._held is not None:
            self._held.shed()
            return
        if width < owners and not (is_alone(links, now_s) and all(link.up for link in links)):
            width = owners
        if router.write_width != width:
            self._change(width)

    def ended(self) -> None:
        """A batch got the last of its answer: it may be the one that held writes wait for."""
        if self._held is not None and not self._writes_out():
            self._finish()

    def close(self) -> None:
        """Sends what is held, to links that say that the client is closed."""
        if self._held is not None:
            self._finish()
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None

    def _change(self, width: int) -> None:
        """Has writes take the new way, once none is under way on the old one."""
        router = self._membership.router
        held: Coalescer[Single | BulkPiece] = Coalescer(_never, name="writes that change their way", loop=self._loop)
        held.pause()
        for work in self._take_queued(writes=True):
            held.push(work)
        # It takes what is submitted as a link does, and nothing else is asked of it.
        self._wanted, self._held, router.held = width, held, cast("NodeLink", held)
        if not self._writes_out():
            self._finish()
        else:
            self._patience = self._loop.call_later(HOLD_S_MAX, self._finish)

    def _finish(self) -> None:
        held, self._held = self._held, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        router = self._membership.router
        router.write_width, router.held = min(self._wanted, router.owners_max), None
        if router.write_width < router.owners_max and self._lapse is None:
            self._lapse = self._loop.call_later(TOLD_S, self._go_by_what_was_told)
        if held is not None and (works := held.drain()):
            self._again(works)

    def _go_by_what_was_told(self) -> None:
        """Who has not written for a while begins by convention: it has not been told since whether others do."""
        self._lapse = None
        router, now_s = self._membership.router, self._loop.time()
        if router.write_width == router.owners_max:
            return
        if is_alone(router.links, now_s) or self._held is not None:
            self._lapse = self._loop.call_later(TOLD_S, self._go_by_what_was_told)
        else:
            self._change(router.owners_max)

    def _take_queued(self, *, writes: bool) -> list[Single | BulkPiece]:
        """What has not left yet of what is gathered."""
        router = self._membership.router

        def is_wanted(work: Single | BulkPiece) -> bool:
            return work.shape.writes is writes and not work.shape.is_hedge and router.is_gathered(work.shape)

        return [work for link in router.links for work in link.take_queued(is_wanted)]

    def _writes_out(self) -> bool:
        is_gathered = self._membership.router.is_gathered
        return any(
            part.open_count and part.shape.writes and is_gathered(part.shape)
            for link in self._membership.all_links()
            for flight in link.flights
            for part in flight.parts
        )


def is_alone(links: Sequence[NodeLink], now_s: float) -> bool:
    """Whether nodes have said lately that nobody else writes, and none that somebody does."""
    said = [link.alone for link in links if link.up and now_s - link.alone_s < TOLD_S]
    return bool(said) and all(said)


def _never(_works: list[Single | BulkPiece], _ticket: Ticket) -> None:
    raise AssertionError("what is held does not leave by itself")
