"""Asks the other nodes how far they are with all groups of registers, so that home replicas can answer alone (docs/adr/0021).

What is asked and what that proves is core/register/tracker.py's. This keeps the time: every quarter of the bound while there is a
namespace of preset pc-el, or somebody has asked for timeline or bounded reads lately; else as often as records are
compared, to find what differs. Only groups of such namespaces are watched, and those that repair is looking at: the others are
spared the history of their digests. It looks through what is held once for each group, after which every change is counted.
"""

from __future__ import annotations

import asyncio

from kvproto.errors import StorageError
from kvstore.cluster.view import RingHolder, RingView
from kvstore.core.register.messages import Ask, Step, decode_reply, encode_ask
from kvstore.core.register.tracker import Tracker, decode_horizon, encode_since
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.runtime import Clock
from kvstore.storage.register_scans import RegisterScans
from kvstore.storage.registers import Registers
from kvstore.telemetry import log
from kvstore.transport.peers import PeerTransport, RegisterChunk

ROUNDS_A_BOUND = 4
LINGER_BOUNDS = 60
"""For so many times the bound reads are answered alone after somebody has asked for one."""
TIMEOUT_S = 2.0


class Horizons:
    """One node's, from `start` to `stop`. `bound_s`: of reads that name none; `idle_s`: between rounds that nobody's reads need, 0:
    there are none. `rounds` counts those that were answered."""

    def __init__(
        self,
        *,
        me: str,
        registers: Registers,
        scans: RegisterScans,
        peers: PeerTransport,
        ring: RingHolder,
        pace: Pace,
        clock: Clock,
        bound_s: float,
        idle_s: float,
    ) -> None:
        self._me = me
        self._registers = registers
        self._tracker: Tracker = registers.tracker
        self._scans = scans
        self._peers = peers
        self._ring = ring
        self._pace = pace
        self._clock = clock
        self._round_s = bound_s / ROUNDS_A_BOUND
        self._linger_s = bound_s * LINGER_BOUNDS
        self._idle_s = idle_s
        self._view: RingView | None = None
        self._others: tuple[str, ...] = ()
        self._groups: dict[int, list[bytes]] = {}
        """By the namespace."""
        self._always: frozenset[int] = frozenset()
        self._wanted_until_s: dict[int, float] = {}
        self._looked_at: frozenset[bytes] = frozenset()
        self._wake = asyncio.Event()
        self._may_scan = asyncio.Event()
        self._open: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.rounds = 0

    def start(self) -> None:
        """Begins to ask, and to look through what is held."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._ask_on(), name=f"horizons@{self._me}"),
            loop.create_task(self._scan_on(), name=f"register-scans@{self._me}"),
        ]

    def stop(self) -> None:
        """Ends at once."""
        for task in self._tasks:
            task.cancel()

    def want(self, namespace: int) -> None:
        """Somebody asks for reads of it that may be answered here alone: from now on, for a while, it is proven that they may."""
        was_wanted = namespace in self._wanted_until_s or namespace in self._always
        self._wanted_until_s[namespace] = self._clock.since_boot_s() + self._linger_s
        if not was_wanted:
            self._watch()
            self._wake.set()

    @property
    def is_wanted(self) -> bool:
        """Whether reads are to be answered alone."""
        return bool(self._always or self._wanted_until_s)

    def look_at(self, groups: frozenset[bytes]) -> None:
        """Repair compares these groups with others', and no others any more."""
        if groups != self._looked_at:
            self._looked_at = groups
            self._watch()

    def _watch(self) -> None:
        wanted = {group for space in (*self._always, *self._wanted_until_s) for group in self._groups.get(space, ())}
        self._registers.watch(self._looked_at.union(wanted))

    @property
    def interval_s(self) -> float:
        """Between two rounds."""
        return self._round_s if self.is_wanted else self._idle_s or self._linger_s

    def follow(self) -> None:
        """Tracks what the ring and the namespaces make of this node."""
        view = self._ring.view
        if view is self._view:
            return
        self._view = view
        spaces = [space for space in view.spaces.values() if space.info.mode == "linearizable"]
        owners: dict[bytes, tuple[str, ...]] = {}
        self._groups = {}
        for space in spaces:
            mine = {
                prefix: homes
                for prefix, nodes in zip(space.prefixes, view.preference, strict=True)
                if self._me in (homes := tuple(nodes[: space.info.n]))
            }
            owners.update(mine)
            self._groups[space.info.id] = list(mine)
        self._always = frozenset(space.info.id for space in spaces if space.info.preset == "pc-el")
        self._others = tuple(sorted({node for homes in owners.values() for node in homes} - {self._me}))
        self._tracker.track(owners)
        self._watch()

    def ask(self) -> None:
        """One round: each other node is asked, unless it owes an answer still."""
        ring_hash, loop = self._ring.view.ring.hash, asyncio.get_running_loop()
        for node in self._others:
            if node in self._open or not self._peers.reachable(node):
                continue
            self._open.add(node)
            since = self._tracker.since(node)
            asked_s = self._clock.since_boot_s()
            ask = Ask(Step.HORIZON, [encode_since(since)])

            def heard(chunk: RegisterChunk, ask: Ask = ask, since: tuple[int, int] = since, asked_s: float = asked_s) -> None:
                self._open.discard(chunk.node)
                if chunk.error is not None:
                    return
                try:
                    horizon = decode_horizon(decode_reply(chunk.reply, ask).states[0])
                except (ValueError, IndexError) as failure:
                    log.warning("horizon_unreadable", node=chunk.node, reason=str(failure))
                    return
                self._tracker.hear(chunk.node, asked_s, since, horizon)
                self.rounds += 1

            self._peers.register(RegisterChunk(node, encode_ask(ask), 1, loop.time() + TIMEOUT_S, heard, ring_hash))

    async def _ask_on(self) -> None:
        while True:
            self.follow()
            self._let_go()
            if self._others and (self.is_wanted or self._idle_s):
                self.ask()
                self._may_scan.set()
            self._wake.clear()
            try:
                async with asyncio.timeout(self.interval_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _let_go(self) -> None:
        """Of what nobody has asked for lately."""
        now_s = self._clock.since_boot_s()
        if late := [space for space, until_s in self._wanted_until_s.items() if until_s <= now_s]:
            for space in late:
                del self._wanted_until_s[space]
            self._watch()

    async def _scan_on(self) -> None:
        while True:
            await self._may_scan.wait()
            self._may_scan.clear()
            if not await self.scan():
                await asyncio.sleep(TIMEOUT_S)

    async def scan(self) -> bool:
        """Looks through groups of which it is not known what is held; whether all could be."""
        could = True
        for group in self._tracker.unknown(self._registers.votes_on):
            progress = self._tracker.groups.get(group)
            while progress is not None and not progress.is_known and self._tracker.groups.get(group) is progress:
                await self._pace.turn()
                told = Told[StorageError | None]()
                self._scans.go_on(group, told.take)
                failure = await told.answer
                if failure is not None:
                    log.warning("registers_not_scanned", node=self._me, group=group.hex(), reason=failure.message)
                    could = False
                    break
        return could
