"""How much clients may have under way at a node, in bytes and in operations, shared fairly between their connections.

Whatever a call makes the node hold is charged here: a batch from when it was read until it is answered (its bytes, and a fixed
price for each operation), an answer until it was written, what a read has loaded meanwhile, a scan's pages. A connection may hold
as much as is still free, so that one alone gets half of it all, two get a third each, and something is always left for the next
(Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998); and a small part of it all even
when nothing is free, so that whoever asks for little is never kept waiting by those who took much. Past that a stream is not read
any further; what arrived all the same and finds no room is refused with `Overloaded`. When the disk is behind, only those who hold
little are read.

How many operations are under way follows from how long they take (core/admission.py). Whoever holds less than an equal part of that
limit is taken on although it is reached, so that what one client has too much of is refused to that client; and a batch is refused
as a whole, before any of it was looked at. Namespaces that have a quota are asked for it (quotas.py). Called by api/key_value.py
only; belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from kvproto.errors import Overloaded
from kvstore.config import NodeLimits
from kvstore.coordinator.turns import Line, Turns
from kvstore.core.admission import AdmissionLimit, Aim

FOREVER = float("inf")
RETRY_AFTER_S = 0.05
REFUSED_RETRY_AFTER_S = 1.0
LIMIT_MIN, LIMIT_FIRST, UNLIMITED = 32, 4096, 1 << 30


class Connection:
    """One client's connection while it has calls, and what they hold together."""

    __slots__ = ("calls", "held_bytes", "line", "operations", "peer")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.calls = 0
        self.held_bytes = 0
        self.operations = 0
        self.line = Line()


class Call:
    """What one call of a client makes the node hold. Ends with `end`, which lets go of whatever is left."""

    __slots__ = ("_connection", "_has_ended", "_has_waited", "_intake", "held_bytes", "operations")

    def __init__(self, intake: Intake, connection: Connection) -> None:
        self._intake = intake
        self._connection = connection
        self._has_ended = False
        self._has_waited = False
        self.held_bytes = 0
        self.operations = 0

    @property
    def has_room(self) -> bool:
        """Whether its connection may hold more now."""
        held_bytes, intake = self._connection.held_bytes, self._intake
        return held_bytes < intake.free_bytes or held_bytes < intake.share_bytes_min

    def admit(self, size_bytes: int, operations: int) -> int:
        """Takes a batch on: charges it, and returns what to `release` for it; its operations are under way until `finish`. Raises
        `Overloaded` if there is no room, or too much under way: nothing was charged."""
        intake, connection = self._intake, self._connection
        if intake.operations >= intake.limit.limit and connection.operations + operations > intake.share_of(connection):
            intake.shed += operations
            raise intake.too_much()
        cost_bytes = min(size_bytes + operations * intake.operation_bytes, intake.bytes_max // 2)
        if cost_bytes > intake.free_bytes and connection.held_bytes + cost_bytes > intake.share_bytes_min:
            intake.refused += operations
            raise intake.overload()
        if self._has_waited and not intake.is_behind():
            self._has_waited = False
        self.charge(cost_bytes)
        self.operations += operations
        intake.count(connection, operations)
        return cost_bytes

    def finish(self, operations: int) -> None:
        """So many are not under way any more. After the end of the call this was done already."""
        operations = min(operations, self.operations)
        self.operations -= operations
        self._intake.count(self._connection, -operations)

    def answered(self, writes: bool, operations: int, latency_s: float, now_s: float) -> None:
        """A batch of so many operations had its first answer, `latency_s` after it came."""
        intake = self._intake
        intake.limit.answered(writes, operations, latency_s, intake.operations, now_s)

    def charge(self, size_bytes: int) -> None:
        """`size_bytes` more are held; by nobody any more if the call has ended, and what it began is only about to."""
        if self._has_ended:
            return
        self.held_bytes += size_bytes
        self._connection.held_bytes += size_bytes
        self._intake.free_bytes -= size_bytes

    def release(self, size_bytes: int) -> None:
        """They are not held any more. After the end of the call this was done already."""
        size_bytes = min(size_bytes, self.held_bytes)
        self.held_bytes -= size_bytes
        self._connection.held_bytes -= size_bytes
        self._intake.let_go(size_bytes)

    def check_room(self) -> None:
        """Raises `Overloaded` if its connection may not hold more now."""
        if not self.has_room:
            self._intake.refused += 1
            raise self._intake.overload()

    async def room(self) -> None:
        """Waits until its connection may hold more."""
        while not self.has_room:
            await self._intake.changed()

    @property
    def may_read(self) -> bool:
        """Whether its connection may send more now: as `has_room`, and the disk is not behind because of it."""
        return self.has_room and (self._connection.held_bytes < self._intake.share_bytes_min or not self._intake.is_behind())

    async def until_may_read(self) -> None:
        """Waits for `may_read`: what the disk is behind with ends with something being let go of. For room as long as it takes; for
        the disk only so long as a queue may stand, once until it has caught up. What is sent after that is read, and refused if too
        much is under way: in the client's window it would grow old without being told."""
        intake, loop = self._intake, asyncio.get_running_loop()
        until_s = loop.time() + (intake.limit.aim.target_s or FOREVER)
        while not self.may_read:
            if not self.has_room:
                await intake.changed()
                continue
            if self._has_waited or loop.time() >= until_s:
                self._has_waited = True
                return
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until_s if until_s < FOREVER else None):
                    await intake.changed()

    async def turn(self, operations: int) -> None:
        """Returns when it is this connection's turn to begin so many operations (turns.py)."""
        turns, line = self._intake.turns, self._connection.line
        if not turns.begins_now(line, operations):
            await turns.wait(line, operations)

    def end(self) -> None:
        """Nothing of it is held any more, and what it still releases was released already."""
        self.release(self.held_bytes)
        self.finish(self.operations)
        self._has_ended = True
        self._intake.leave(self._connection)


class Intake:
    """The budget of a node. `operation_bytes` is the price of an operation beside its bytes, `share_bytes_min` what each connection
    may hold in any case."""

    def __init__(
        self,
        me: str = "",
        *,
        bytes_max: int,
        operations_max: int,
        connections_max: int,
        target_s: float = 0.0,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        """`target_s`: how long operations may wait before fewer are taken on; 0: that is no reason (`operations_max` is
        the coordinator's to keep, too). `is_behind`: whether
        what was taken in waits for the disk already."""
        self.me = me
        self.is_behind = is_behind
        self.turns = Turns()
        self.bytes_max = bytes_max
        self.operation_bytes = max(1, bytes_max // operations_max)
        self.share_bytes_min = max(1, bytes_max // connections_max)
        self.connections_max = connections_max
        self.free_bytes = bytes_max
        most, first, least = operations_max, LIMIT_FIRST, LIMIT_MIN
        if not target_s:
            most = first = least = UNLIMITED
        aim = Aim(target_s=target_s, limit_min=min(least, most), limit_first=min(first, most), limit_max=most)
        self.limit = AdmissionLimit(aim)
        self.operations = 0
        self.busy = 0
        """Connections with operations under way."""
        self.refused = 0
        self.shed = 0
        self.expired = 0
        """Operations: for want of room, because too much was under way, because their time was over before their turn."""
        self._connections: dict[str, Connection] = {}
        self._change: asyncio.Future[None] | None = None

    @property
    def held_bytes(self) -> int:
        """What is held now."""
        return self.bytes_max - self.free_bytes

    @property
    def connections(self) -> int:
        """How many connections have calls now."""
        return len(self._connections)

    def join(self, peer: str) -> Call:
        """A call came in over the connection from `peer`. Raises `Overloaded` if too many connections have calls already."""
        connection = self._connections.get(peer)
        if connection is None:
            if len(self._connections) >= self.connections_max:
                self.refused += 1
                raise Overloaded(
                    f"{self.me} serves {len(self._connections)} connections, and takes no more than {self.connections_max}",
                    retry_after_s=REFUSED_RETRY_AFTER_S,
                    limit=self.connections_max,
                    actual=len(self._connections),
                    subject="connections",
                )
            connection = self._connections[peer] = Connection(peer)
        connection.calls += 1
        return Call(self, connection)

    def count(self, connection: Connection, operations: int) -> None:
        """So many more of `connection` are under way."""
        before = connection.operations
        connection.operations += operations
        self.operations += operations
        self.busy += (connection.operations > 0) - (before > 0)

    def share_of(self, connection: Connection) -> int:
        """The operations that are an equal part of the limit, `connection` among those with any."""
        return self.limit.limit // (self.busy + (not connection.operations))

    @property
    def load(self) -> float:
        """How much of what may be under way is, or how late answers are: 0 for idle, 1 and more for enough."""
        return max(self.operations / self.limit.limit, self.limit.pressure if self.operations else 0.0)

    def leave(self, connection: Connection) -> None:
        """A call of `connection` has ended; with its last one it is forgotten."""
        connection.calls -= 1
        if not connection.calls:
            del self._connections[connection.peer]

    def let_go(self, size_bytes: int) -> None:
        """`size_bytes` are free again."""
        self.free_bytes += size_bytes
        change = self._change
        if change is not None:
            self._change = None
            change.set_result(None)

    async def changed(self) -> None:
        """Returns when something was let go of."""
        if self._change is None:
            self._change = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._change)

    def overload(self) -> Overloaded:
        """The refusal of more work."""
        return Overloaded(
            f"{self.me} holds {self.held_bytes} bytes for requests under way, at most {self.bytes_max} are taken",
            retry_after_s=RETRY_AFTER_S,
            limit=self.bytes_max,
            actual=self.held_bytes,
            subject=self.me,
        )

    def too_much(self) -> Overloaded:
        """The refusal of more operations; to come again once those under way were answered."""
        limit = self.limit
        return Overloaded(
            f"{self.me} has {self.operations} operations under way, answered after {limit.latency_s:.3f} s: no more than "
            f"{limit.limit} are taken on",
            retry_after_s=min(REFUSED_RETRY_AFTER_S, max(RETRY_AFTER_S, limit.latency_s)),
            limit=limit.limit,
            actual=self.operations,
            subject=self.me,
        )

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.limit.check()
        assert sum(connection.operations for connection in self._connections.values()) == self.operations >= 0
        assert sum(connection.operations > 0 for connection in self._connections.values()) == self.busy
        assert sum(connection.held_bytes for connection in self._connections.values()) == self.held_bytes
        assert all(connection.calls > 0 for connection in self._connections.values())


def make_intake(me: str, limits: NodeLimits, is_behind: Callable[[], bool] = lambda: False) -> Intake:
    """The intake that `limits` ask for."""
    return Intake(
        me,
        bytes_max=limits.in_flight_bytes_max,
        operations_max=limits.in_flight_max,
        connections_max=limits.connections_max,
        target_s=limits.latency_target_ms / 1000,
        is_behind=is_behind,
    )
