"""One node as the client uses it: the link that batches, the batches in flight, and the opinion whether it can be reached.

A link never decides what becomes of a failed operation: it hands each back to its owner (`dispatcher`). Its own decisions are
when a batch's place is free again, and when silence is worth a question: a node that has answered nothing for a while is probed,
and only when the probe fails as well is what it holds taken elsewhere. So a slow key never costs a link, and a stalled node only
a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from kvclient.batches import Part, form_batch
from kvclient.bulk import BulkPiece
from kvclient.errors import KvError, NodeUnreachable
from kvclient.gathering import WEIGHT_BYTES
from kvclient.hedging import Hedging
from kvclient.latencies import NEVER
from kvclient.operations import Single
from kvclient.request_ids import RequestIds
from kvclient.send_window import SendWindow
from kvclient.shapes import Shape
from kvclient.slow_nodes import SlowNodes
from kvclient.transport import Transport
from kvproto.columns import ClusterInfo, GroupReply, Kind
from kvproto.link import Coalescer, LinkBounds, Ticket

SLOT_HOLD_S = 0.05
"""A batch none of whose operations is decided after this long no longer holds up the next one, within the window."""
STALL_S = 0.5
PROBE_TIMEOUT_S = 0.5
PROBE_INTERVAL_S = 0.05
PROBE_INTERVAL_MAX_S = 1.0

BOUNDS = LinkBounds(wait_share_max=0.2)
"""What would spend more than a fifth of its time in our queue is refused at once."""

Works = Sequence[Single | BulkPiece]


class LinkOwner(Protocol):
    """What a link needs of the dispatcher."""

    ids: RequestIds
    hedging: Hedging
    slow_nodes: SlowNodes

    def attempt_failed(self, link: NodeLink, part: Part, positions: Sequence[int], error: KvError) -> None:
        """These positions ended with `error`: retry them or fail them."""

    def never_sent(self, link: NodeLink, works: Works, error: KvError) -> None:
        """These were still queued when the link went down: they go elsewhere."""

    def sent(self, flight: Flight, now_s: float) -> None:
        """A batch left."""

    def ended(self) -> None:
        """A batch got the last of its answer."""

    def is_gathered(self, shape: Shape) -> bool:
        """Whether such operations may go through few of the owners (gathering.py)."""

    def learn(self, info: ClusterInfo, sent_s: float, received_s: float) -> None:
        """A probe brought the ring."""


class Flight:
    """One batch on its way. `late_s`, `silent_s`: see `hedging`."""

    __slots__ = ("closed", "count", "deadline_s", "heard", "late_s", "link", "parts", "sent_s", "silent_s", "ticket")

    def __init__(self, link: NodeLink, parts: list[Part], ticket: Ticket, sent_s: float) -> None:
        self.link = link
        self.parts = parts
        self.ticket = ticket
        self.sent_s = sent_s
        self.late_s = self.silent_s = NEVER
        self.deadline_s = min(part.deadline_s for part in parts)
        self.count = sum([part.open_count for part in parts])
        self.heard = False
        self.closed = False

    def on_reply(self, replies: list[GroupReply], last: bool) -> None:
        """One part of the answer; after `close` nothing it says counts."""
        if self.closed:
            return
        broken = self.link.heard(self, replies)
        for reply in replies:
            if reply.group >= len(self.parts):
                continue
            part = self.parts[reply.group]
            try:
                part.deliver(reply)
            except KvError as error:
                error.may_have_applied = part.shape.writes
                part.fail_open(error)
            if part.shape.is_hedge and reply.error is None:
                self.link.judge(part)
        if not self.heard:
            self.heard = True
            self.link.first_heard(self)
            self.link.free(self.ticket)
        if broken is not None:
            self.link.mark_down(broken)
        if last:
            self.close(KvError("the node ended a batch without answering all of it", may_have_applied=True))

    def close(self, error: KvError) -> None:
        """Nothing more is expected: what is open ended with `error`. Idempotent."""
        if self.closed:
            return
        self.closed = True
        if not self.heard:
            self.link.first_heard(self)
        self.link.ended(self)
        self.link.free(self.ticket)
        for part in self.parts:
            if part.open_count:
                part.fail_open(error)

    def sweep(self, now_s: float) -> None:
        """Deadlines, and the place of a batch that takes long."""
        if not self.heard and now_s - self.sent_s >= SLOT_HOLD_S:
            self.link.yield_slot(self.ticket)
        if now_s < self.deadline_s:
            return
        for part in self.parts:
            if part.deadline_s <= now_s:
                part.expire(now_s)
        self.deadline_s = min(part.deadline_s for part in self.parts)
        if not any(part.open_count for part in self.parts):
            self.close(KvError("every operation's deadline passed"))


class NodeLink:
    """The link to one node. `up` is an opinion: a link that is down is used only when there is no other.

    `late`: it owes an answer for longer than is usual; `silent`: for so much longer that reads go to another owner (`hedging`).
    `slow`: its answers have taken far longer than those of other nodes for a while (`slow_nodes`). `alone`: whether it said,
    at `alone_s`, that nobody but this client writes what it holds.
    """

    def __init__(
        self, node_id: str, address: str, transport: Transport, owner: LinkOwner, *, bounds: LinkBounds | None = None
    ) -> None:
        self.node_id = node_id
        self.address = address
        self.transport = transport
        self.up = True
        self.late = self.silent = self.slow = False
        self.near = True
        self.alone, self.alone_s = False, -NEVER
        self.closed = False
        self.flights: dict[Flight, None] = {}
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._link: Coalescer[Single | BulkPiece] = Coalescer(
            self._send, name=f"link to {address}", bounds=bounds or BOUNDS, loop=self._loop
        )
        self.submit = self._link.submit
        self.yield_slot = self._link.yield_slot
        self._window = SendWindow(self._link.window_bytes)
        self._heard_s = self._loop.time()
        self._unheard_count = 0
        self._probe: asyncio.Task[None] | None = None

    @property
    def load(self) -> float:
        """Operations that wait here or for the first answer, much to send counting as more of them."""
        link = self._link
        return link.queued_count + self._unheard_count + (link.queued_bytes + link.in_flight_bytes) / WEIGHT_BYTES

    @property
    def busy(self) -> bool:
        """Whether anything is queued or in flight."""
        return bool(self.flights or self._link.queued_count)

    def heard(self, flight: Flight, replies: Sequence[GroupReply]) -> NodeUnreachable | None:
        """A reply came. An error that says "cannot be reached" is returned, and the link is down: what failed goes elsewhere.

        The caller hands the batch's operations back first and calls `mark_down` then, so that they stay ahead of those queued.
        """
        for reply in replies:
            if isinstance(reply.error, NodeUnreachable):
                self.up = False
                return reply.error
        self._heard_s = now_s = self._loop.time()
        self.up = not self.closed
        self.late = self.silent = False
        if not flight.heard:
            self._owner.slow_nodes.answered(self.node_id, now_s - flight.sent_s, now_s)
        for reply in replies:
            if reply.error is None and reply.group < len(flight.parts):
                shape = flight.parts[reply.group].shape
                if (shape.kind is Kind.PUT or shape.kind is Kind.DELETE) and self._owner.is_gathered(shape):
                    self.alone, self.alone_s = reply.alone, now_s
        self._owner.hedging.heard(flight, replies, now_s)
        return None

    def owing_s(self, now_s: float) -> float:
        """How long the oldest batch has been without any answer; 0 if there is none."""
        return next((now_s - flight.sent_s for flight in self.flights if not flight.heard), 0.0)

    def measure(self, took: Callable[[float], None]) -> None:
        """Asks the node for the ring, and calls `took` with the seconds until it answered; not while it is asked already."""
        if self._probe is None and self.up:
            self._probe = self._loop.create_task(self._measure(took), name=f"measure {self.address}")

    def first_heard(self, flight: Flight) -> None:
        """The first part of an answer has come, or none will."""
        self._unheard_count -= flight.count
        self._window.heard(self._loop.time() - flight.sent_s)
        self._link.window_bytes = self._window.size_bytes

    def judge(self, part: Part) -> None:
        """`part` is of second questions, and was answered."""
        self._owner.hedging.judge(part)

    def ended(self, flight: Flight) -> None:
        """Nothing more is expected of `flight`."""
        self.flights.pop(flight, None)
        if self.late and all(other.heard for other in self.flights):
            self.late = self.silent = False
        self._owner.ended()

    def take_queued(self, wanted: Callable[[Single | BulkPiece], bool]) -> Works:
        """Takes those back that have not left and are `wanted`: they were certainly not executed."""
        return self._link.take(wanted)

    def free(self, ticket: Ticket) -> None:
        """The batch's place is free, as of the next turn.

        By then those who were just answered have queued what they do next, and it leaves as one batch instead of two.
        """
        if not ticket.released:
            self._loop.call_soon(self._link.release, ticket)

    def mark_down(self, error: KvError) -> None:
        """Takes what is queued elsewhere and asks the node until it answers again."""
        self.up = False
        waiting = self._link.drain()
        if waiting:
            self._owner.never_sent(self, waiting, error)
        if self._probe is None and not self.closed:
            self._probe = self._loop.create_task(self._probe_until_up(), name=f"probe {self.address}")

    def sweep(self, now_s: float) -> None:
        """Deadlines of everything here; asks a silent node whether it is alive."""
        self._link.shed()
        for flight in list(self.flights):
            flight.sweep(now_s)
        if self._probe is None and self.up and any(not flight.heard for flight in self.flights):
            silent_since_s = max(self._heard_s, min(flight.sent_s for flight in self.flights if not flight.heard))
            if now_s - silent_since_s >= STALL_S:
                self._probe = self._loop.create_task(self._probe_once(), name=f"probe {self.address}")

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._link.check()
        assert all(not flight.closed for flight in self.flights), "a batch that has ended is still counted as in flight"
        assert self._unheard_count == sum(flight.count for flight in self.flights if not flight.heard)

    async def close(self, error: KvError) -> None:
        """Ends everything here with `error`."""
        self.closed = True
        self.up = False
        if self._probe is not None:
            self._probe.cancel()
        for flight in list(self.flights):
            flight.close(error)
        waiting = self._link.drain()
        if waiting:
            self._owner.never_sent(self, waiting, error)
        await self.transport.close()

    def _send(self, works: list[Single | BulkPiece], ticket: Ticket) -> None:
        now_s = self._loop.time()
        parts = form_batch(works, now_s, self._owner.ids, self._failed)
        if not parts:
            self._link.release(ticket)
            return
        flight = Flight(self, parts, ticket, now_s)
        self.flights[flight] = None
        self._unheard_count += flight.count
        self._owner.sent(flight, now_s)
        self.transport.exchange([part.group for part in parts], flight.on_reply)

    def _failed(self, part: Part, positions: Sequence[int], error: KvError) -> None:
        self._owner.attempt_failed(self, part, positions, error)

    async def _ask(self) -> bool:
        """Whether the node answers in time; what it says of the ring is passed on."""
        ids = self._owner.ids
        sent_s = ids.clock_s()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                info = await self.transport.describe()
        except (KvError, TimeoutError, ValueError):  # ValueError: what it says cannot be decoded
            return False
        self._owner.learn(info, sent_s, ids.clock_s())
        return True

    async def _measure(self, took: Callable[[float], None]) -> None:
        began_s = self._loop.time()
        answered = await self._ask()
        self._probe = None
        if answered:
            took(self._loop.time() - began_s)

    async def _probe_once(self) -> None:
        """The node has been silent for a while with work in flight. Slow work is its right; not answering at all is not."""
        alive = await self._ask()
        self._probe = None
        if alive or self.closed:
            self._heard_s = self._loop.time()
            return
        error = NodeUnreachable(f"{self.address} has stopped answering", may_have_applied=True, subject=self.address)
        self.up = False
        for flight in list(self.flights):
            flight.close(error)
        self.mark_down(error)

    async def _probe_until_up(self) -> None:
        interval_s = PROBE_INTERVAL_S
        while not await self._ask():
            await asyncio.sleep(interval_s)
            interval_s = min(PROBE_INTERVAL_MAX_S, interval_s * 2)
        self._probe = None
        self._heard_s = self._loop.time()
        self.up = not self.closed
