"""Whether this node was away for so long that tombstones may have been reaped without it: decided at its start, before it serves.

A disk is a message from its own past, and safety rule 9 holds for it as for any other: what was read too long ago may have been
superseded, and what superseded it forgotten. While a node is merely away nothing is reaped, but it cannot tell that from a disk
that was put back to an older copy. So it notes on its disk when it was alive, and asks its peers at the start how far they have
lived beyond that (core/reaping.py, `is_absent`). One that was away for too long sets aside everything it has (set_aside.py) and
gets from the others what they have.

While its own clock says that it may be so nobody is answered, and it waits for the first peer that is there. If none comes it
serves what it has: it may be the only one whose disk is left, and while it was merely away nothing was reaped. What that risks is a
delete that comes back from a disk that was put back to a copy older than the grace and started alone.
"""

from __future__ import annotations

import asyncio

from kvproto.errors import AvailabilityError, ClusterError
from kvstore.core.reaping import Grace, is_absent
from kvstore.repair.rebuilding import ABSENT, Rebuilding
from kvstore.repair.set_aside import SetAside
from kvstore.runtime import Clock
from kvstore.storage.alive import AliveMark
from kvstore.storage.replica import Replica
from kvstore.telemetry import log


class Absence:
    """One node's, from its start to `stop`."""

    def __init__(
        self,
        *,
        me: str,
        mark: AliveMark,
        aside: SetAside,
        replica: Replica,
        rebuilding: Rebuilding,
        grace: Grace,
        clock: Clock,
        has_peers: bool,
    ) -> None:
        self._me = me
        self._mark = mark
        self._aside = aside
        self._replica = replica
        self._grace = grace
        self._clock = clock
        self._rebuilding = rebuilding
        self._has_peers = has_peers
        self._is_settled = False
        self._serves_since_ms = 0
        self._told: dict[str, tuple[int, int]] = {}
        self._marking: asyncio.Task[None] | None = None

    def suspect(self) -> None:
        """Before anybody can reach us: if we may have been away for too long, no peer is answered until `settle` returns."""
        if self._may_be_absent() or self._aside.is_moving:
            self._replica.closed = AvailabilityError(f"{self._me} was away for long and asks its peers how long", subject=self._me)

    @property
    def must_ask(self) -> bool:
        """Whether to wait for a peer: nothing but its answer tells us how long we were away."""
        return self._may_be_absent() and not self._told and not self._aside.is_moving

    def heard(self, node: str, now_ms: int, lived_ms: int) -> None:
        """`node` has answered us: its time, and `lived_ms` there; of an earlier version both are 0, which says nothing."""
        self._told[node] = (now_ms or self._clock.now_ms(), lived_ms)

    @property
    def lived_ms(self) -> int:
        """When this node is known to have been alive, its wall time: a life that is too young to have reaped anything does not
        count. 0: nothing is known."""
        now_ms = self._clock.now_ms()
        is_young = not self._is_settled or now_ms - self._serves_since_ms < 1000 * self._grace.wait_s
        return self._mark.last_ms if is_young else now_ms

    async def settle(self) -> None:
        """Once those peers were asked that are there. If they say that we were absent, everything that we had is set aside,
        durably. Raises `ClusterError` if the peers' clocks say so and ours denies it, and `KvError` if it cannot be set aside."""
        is_late = bool(self._mark.last_ms) and is_absent(self._mark.last_ms, list(self._told.values()), self._grace)
        if is_late and self._replica.closed is None:
            raise ClusterError(
                f"the clocks of its peers say that {self._me} was away for longer than {self._grace.absent_s:g} s, and its own says"
                " not: set the clocks right, then start it again",
                subject=self._me,
            )
        if self.must_ask:
            log.warning("nobody_to_ask", node=self._me, last_alive_ms=self._mark.last_ms)
        is_late = is_late or self._aside.is_moving
        if is_late:
            # First: a crash after the move must not leave a node that has nothing and takes itself for whole.
            self._rebuilding.begin(ABSENT)
            await self._rebuilding.noted()
            log.warning("absent", node=self._me, last_alive_ms=self._mark.last_ms)
            await self._aside.move(self._mark)
        self._replica.closed, self._is_settled = None, True
        self._serves_since_ms = self._clock.now_ms()

    def start(self) -> None:
        """From here on it is noted that we are alive, where there is anybody to be away from."""
        if not self._has_peers:
            return
        self._marking = asyncio.get_running_loop().create_task(self._keep_marking(), name=f"alive@{self._me}")

    def stop(self) -> None:
        """Notes no more."""
        if self._marking is not None:
            self._marking.cancel()

    def note_end(self) -> None:
        """The last write of a clean stop; not of one that came before anybody knew how long we were away. Raises `StorageError`."""
        if self._is_settled and self._has_peers:
            self._mark.note_end()

    def _may_be_absent(self) -> bool:
        """By our own clock, with what it may differ from others' by."""
        away_ms = self._clock.now_ms() - self._mark.last_ms
        return self._has_peers and bool(self._mark.last_ms) and away_ms >= 1000 * (self._grace.absent_s - self._grace.clocks_s)

    async def _keep_marking(self) -> None:
        if self._mark.last_ms and self._clock.now_ms() - self._mark.last_ms > 1000 * self._grace.marks_s:
            self._mark.note()
        while True:
            await asyncio.sleep(self._grace.marks_s)
            self._mark.note()
