"""Finds registers that are not the same at two of their owners, and has their proposer accept them again (safety rule 17).

Whoever missed an accept, was away, or holds what was never chosen has another digest of its group. When that lasts for some looks,
the one of the two whose name comes first compares what both hold, twice, and hands what differed both times to the proposer, who
reads it from a majority and accepts it once more. Nothing that one owner holds is copied to another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kvproto.errors import StorageError
from kvstore.cluster.view import RingHolder
from kvstore.core.register.listing import Listing, decode_listing, differing
from kvstore.core.register.messages import Ask, Reply, Step, decode_reply, encode_ask
from kvstore.repair.horizons import Horizons
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.storage.register_scans import RegisterScans
from kvstore.storage.registers import Registers
from kvstore.telemetry import log
from kvstore.transport.peers import PeerTransport, RegisterChunk

LOOKS = 3
PAUSE_S = 1.0
AT_ONCE = 16
TIMEOUT_S = 5.0
SETTLE_AT_ONCE = 512

Place = tuple[bytes, str]
"""A group, and another owner that holds something else of it."""
Differing = dict[bytes, tuple[int, int]]


class RegisterRepair:
    """One node's, from `start` to `stop`. `settle` has registers accepted again that this node proposes for, `leader_of` says who
    proposes for a group, or None. `found` counts registers that were handed to their proposers."""

    def __init__(
        self,
        *,
        me: str,
        registers: Registers,
        scans: RegisterScans,
        horizons: Horizons,
        settle: Callable[[Sequence[bytes]], None],
        leader_of: Callable[[bytes], str | None],
        peers: PeerTransport,
        ring: RingHolder,
        pace: Pace,
    ) -> None:
        self._me = me
        self._registers = registers
        self._scans = scans
        self._horizons = horizons
        self._settle = settle
        self._leader_of = leader_of
        self._peers = peers
        self._ring = ring
        self._pace = pace
        self._task: asyncio.Task[None] | None = None
        self.found = 0

    def start(self) -> None:
        """Begins to look whether there is something to do."""
        self._task = asyncio.get_running_loop().create_task(self._look_on(), name=f"register-repair@{self._me}")

    def stop(self) -> None:
        """Ends at once."""
        if self._task is not None:
            self._task.cancel()

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(max(PAUSE_S, self._horizons.interval_s))
            places = await self._lasting()
            if places:
                await self._repair(places)

    async def _lasting(self) -> list[Place]:
        """Where another owner is not where we are, at `LOOKS` looks one after the other."""
        places = self._look(1)
        try:
            for looks in range(2, LOOKS + 1):
                if not places:
                    break
                # What others are told to hold is found among what we held since: not at once, for they may be a moment behind.
                self._horizons.look_at(frozenset(group for group, _ in places))
                await asyncio.sleep(PAUSE_S / 4)
                self._horizons.ask()
                await asyncio.sleep(PAUSE_S)
                places = self._look(looks)
        finally:
            self._horizons.look_at(frozenset())
        return places

    def _look(self, looks: int) -> list[Place]:
        groups = self._registers.tracker.groups.items()
        return [(group, node) for group, one in groups for node in one.look(looks) if self._me < node]

    async def _repair(self, places: Sequence[Place]) -> None:
        first = await self._compare_all(places)
        if not first:
            return
        await asyncio.sleep(PAUSE_S / 2)
        second = await self._compare_all(list(first))
        by_leader: dict[str, set[bytes]] = {}
        for place, found in second.items():
            before = first[place]
            leader = self._leader_of(place[0])
            if leader is not None:
                by_leader.setdefault(leader, set()).update(key for key, pair in found.items() if before.get(key) == pair)
        for leader, keys in by_leader.items():
            await self._hand_over(leader, sorted(keys))

    async def _compare_all(self, places: Sequence[Place]) -> dict[Place, Differing]:
        """What differs at each place, where something does."""
        found: dict[Place, Differing] = {}
        for first in range(0, len(places), AT_ONCE):
            some = places[first : first + AT_ONCE]
            all_differs = await asyncio.gather(*(self._compare(*place) for place in some))
            found.update({place: differs for place, differs in zip(some, all_differs, strict=True) if differs})
        return found

    async def _compare(self, group: bytes, node: str) -> Differing:
        found: Differing = {}
        cursor: bytes | None = group
        while cursor is not None and group in self._registers.tracker.groups:
            await self._pace.turn()
            told = Told[tuple[StorageError | None, Listing]]()
            self._scans.listing(cursor, lambda error, listing, told=told: told.take((error, listing)))  # type: ignore[misc]
            reply, (failure, own) = await asyncio.gather(self._ask(node, Ask(Step.LIST, [cursor])), told.answer)
            if reply is None or reply.refused or failure is not None:
                break
            try:
                theirs = decode_listing(reply.states[0], cursor)
            except ValueError as error:
                log.warning("listing_unreadable", node=node, reason=str(error))
                break
            differs, cursor = differing(own, theirs)
            found.update(differs)
            self._pace.charge(0, len(own.keys) + len(theirs.keys))
        return found

    async def _hand_over(self, leader: str, keys: Sequence[bytes]) -> None:
        log.info("registers_differ", node=self._me, proposer=leader, registers=len(keys))
        self.found += len(keys)
        for first in range(0, len(keys), SETTLE_AT_ONCE):
            some = keys[first : first + SETTLE_AT_ONCE]
            await self._pace.turn(operations=len(some))
            if leader == self._me:
                self._settle(some)
            else:
                await self._ask(leader, Ask(Step.SETTLE, some))

    async def _ask(self, node: str, ask: Ask) -> Reply | None:
        told = Told[RegisterChunk]()
        deadline_s = asyncio.get_running_loop().time() + TIMEOUT_S
        self._peers.register(RegisterChunk(node, encode_ask(ask), len(ask.keys), deadline_s, told.take, self._ring.view.ring.hash))
        chunk = await told.answer
        if chunk.error is not None:
            return None
        try:
            return decode_reply(chunk.reply, ask)
        except ValueError as failure:
            log.warning("register_reply_unreadable", node=node, reason=str(failure))
            return None
