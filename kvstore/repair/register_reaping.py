"""Ends tombstones of registers, as the node that proposes for them: all owners forget what all hold (consistency.md, section 5).

Sweeps over what lies here, page by page, for tombstones that are older than the grace. Each is read through the proposer, which
makes it committed, and is reaped if nothing was applied to it for a retry window and all owners then say that they hold it
(core/register/reaping.py). While an owner is away
nothing is: the next sweep tries again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from kvproto.errors import StorageError
from kvstore.cluster.view import RingHolder
from kvstore.core.register.ballot import GROUP_BYTES
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.runtime import Clock
from kvstore.storage.register_scans import RegisterScans, Tombstones
from kvstore.storage.registers import Registers
from kvstore.telemetry import log
from kvstore.transport.peers import PeerTransport

SWEEP_S_MIN, SWEEP_S_MAX = 1.0, 3600.0
SWEEPS_A_GRACE = 4
SLACK_S = 0.1
KEYS_AT_ONCE, KEYS_MAX = 512, 100_000


class RegisterReaper:
    """One node's, from `start` to `stop`. `leader_of` says who proposes for a group; `read` reads registers that this
    node proposes for, `reap` has them reaped when they were read `window_s` ago. `asked` counts tombstones that it was told of."""

    def __init__(
        self,
        *,
        me: str,
        registers: Registers,
        scans: RegisterScans,
        leader_of: Callable[[bytes], str | None],
        read: Callable[[Sequence[bytes]], Awaitable[None]],
        reap: Callable[[Sequence[bytes]], None],
        peers: PeerTransport,
        ring: RingHolder,
        pace: Pace,
        clock: Clock,
        grace_s: float,
        window_s: float,
    ) -> None:
        self._me = me
        self._registers = registers
        self._scans = scans
        self._leader_of = leader_of
        self._read = read
        self._reap = reap
        self._window_s = window_s
        self._peers = peers
        self._ring = ring
        self._pace = pace
        self._clock = clock
        self._grace_ms = int(grace_s * 1000)
        self._sweep_s = min(SWEEP_S_MAX, max(SWEEP_S_MIN, grace_s / SWEEPS_A_GRACE))
        self._task: asyncio.Task[None] | None = None
        self.asked = 0
        self.sweeps = 0

    def start(self) -> None:
        """Begins to sweep."""
        self._task = asyncio.get_running_loop().create_task(self._sweep_on(), name=f"register-reaping@{self._me}")

    def stop(self) -> None:
        """Ends at once."""
        if self._task is not None:
            self._task.cancel()

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            await self.sweep()
            self.sweeps += 1

    async def sweep(self) -> None:
        """Once over all groups: what is found is read, and reaped a retry window later."""
        found: list[bytes] = []
        for group in list(self._registers.tracker.groups):
            if len(found) < KEYS_MAX and self._may_reap(group):
                found += await self._find(group)
        if found:
            await asyncio.sleep(self._window_s + SLACK_S)
            for first in range(0, len(found), KEYS_AT_ONCE):
                self._reap([key for key in found[first : first + KEYS_AT_ONCE] if self._may_reap(key[:GROUP_BYTES])])
                await self._pace.turn(operations=KEYS_AT_ONCE)

    def _may_reap(self, group: bytes) -> bool:
        """Whether we propose for it, and there may be an end to its tombstones."""
        return self._leader_of(group) == self._me and self._registers.votes_on(group) and self.all_are_there(group)

    def all_are_there(self, group: bytes) -> bool:
        """Whether all owners can be asked."""
        return all(node == self._me or self._peers.reachable(node) for node in self._ring.view.homes_of(group))

    async def _find(self, group: bytes) -> list[bytes]:
        """Old tombstones of a group, read by its proposer."""
        read: list[bytes] = []
        cursor: bytes | None = group
        while cursor is not None:
            await self._pace.turn()
            told = Told[tuple[StorageError | None, Tombstones]]()
            before_ms = self._clock.now_ms() - self._grace_ms
            self._scans.tombstones(cursor, before_ms, lambda error, found, told=told: told.take((error, found)))  # type: ignore[misc]
            failure, found = await told.answer
            if failure is not None:
                log.warning("registers_not_swept", node=self._me, group=group.hex(), reason=failure.message)
                return read
            if found.keys:
                self.asked += len(found.keys)
                self._pace.charge(0, len(found.keys))
                await self._read(found.keys)
                read += found.keys
            cursor = found.behind
        return read
