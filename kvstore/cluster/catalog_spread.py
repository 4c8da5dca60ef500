"""How committed versions of the catalog reach every node: pushed by who made them, asked for by who hears of a newer one, looked
for by who is asked for a name that it does not know, and now and then read from the register itself.

The last is for a version that nobody spread, because whoever made it ended before. What failure detectors say to each other carries
the number of the sender's version (transport/detector_calls.py), so a node that missed a push hears of it within their interval;
where nothing changes, nothing is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from xxhash import xxh3_64_intdigest

from kvproto.errors import KvError
from kvstore.cluster.catalog_changes import CatalogChanges
from kvstore.cluster.catalog_keeper import CatalogKeeper
from kvstore.core.catalog.encoding import decode_catalog
from kvstore.crash_points import crash_point
from kvstore.telemetry import log

PUSH_TIMEOUT_S = 0.5
"""Whoever makes a namespace waits so long for nodes that do not answer, and no longer."""
ASK_TIMEOUT_S = 1.0
LOOK_TIMEOUT_S = 0.5
LOOK_INTERVAL_S = 0.1
"""Between two looks for unknown names, whoever asks and however many they are."""
AUDIT_S = 60.0

PUSHING = crash_point("catalog.pushing", "this node goes by a version that it has told nobody")
PUSHED = crash_point("catalog.pushed", "those that answered go by the version, and the client has not been told")


class CatalogPeers(Protocol):
    """How other nodes are told, and asked."""

    async def catalog(self, node: str, revision: int, data: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Tells `node` that we go by `revision`, and its bytes unless they are b""; what it goes by then, and the bytes of that if
        it is newer. Raises `KvError`."""

    def reachable(self, node: str) -> bool:
        """Whether the link to `node` is up."""


class CatalogSpread:
    """One node's, from `start` to `stop`."""

    def __init__(
        self,
        me: str,
        others: Sequence[str],
        peers: CatalogPeers,
        *,
        keeper: CatalogKeeper,
        changes: CatalogChanges,
    ) -> None:
        self._me = me
        self._others = sorted(others)
        self._peers = peers
        self._keeper = keeper
        self._changes = changes
        self._auditing: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._next_look: asyncio.Task[None] | None = None
        self._looks: set[asyncio.Task[None]] = set()
        self._looked_s = float("-inf")
        self._newest = 0
        self.looks = 0
        """For names that were not known."""

    def start(self) -> None:
        """Begins to read the register now and then."""
        own_share = 0.75 + 0.5 * xxh3_64_intdigest(self._me.encode()) / 2**64  # not all nodes at one moment
        self._auditing = asyncio.get_running_loop().call_later(AUDIT_S * own_share, self._begin_audit)

    def stop(self) -> None:
        """Ends at once."""
        for task in [self._auditing, *self._asking.values(), *self._looks]:
            if task is not None:
                task.cancel()

    # --- what others say

    def heard(self, node: str, revision: int) -> None:
        """`node` goes by `revision`: it is asked for it if ours is older."""
        self._newest = max(self._newest, revision)
        if revision > self._keeper.current.revision and node in self._others and node not in self._asking:
            task = asyncio.get_running_loop().create_task(self._ask(node), name=f"catalog@{self._me}>{node}")
            self._asking[node] = task
            task.add_done_callback(lambda _: self._asking.pop(node, None))

    @property
    def is_behind(self) -> bool:
        """Whether somebody goes by a newer version than this node."""
        return self._newest > self._keeper.current.revision

    async def caught_up(self) -> None:
        """Returns when whoever is being asked has answered, or cannot."""
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def receive(self, revision: int, data: bytes) -> tuple[int, bytes]:
        """Somebody goes by `revision`, whose bytes are `data` unless it only asks: what we go by now, and its bytes if it is newer.
        Raises `UnreadableCatalog`, `StorageError`."""
        if data and revision > self._keeper.current.revision:
            await self._keeper.adopt(decode_catalog(data))
        ours = self._keeper.current.revision
        return ours, self._keeper.data if ours > revision else b""

    # --- what we say

    async def push(self) -> None:
        """Tells every node what we go by; waits for those that answer soon."""
        revision, data = self._keeper.current.revision, self._keeper.data
        await PUSHING.passed()
        await asyncio.gather(*(self._tell(node, revision, data, PUSH_TIMEOUT_S) for node in self._others))
        await PUSHED.passed()

    async def look(self) -> None:
        """Returns when all that can be reached were asked for a newer version, later than this was called."""
        if not self._others:
            return
        if self._next_look is None:
            task = asyncio.get_running_loop().create_task(self._look(), name=f"catalog-look@{self._me}")
            self._next_look = task
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)
        await asyncio.shield(self._next_look)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._looked_s + LOOK_INTERVAL_S - loop.time()))
        self._looked_s = loop.time()
        self._next_look = None  # whoever comes from here on needs another one
        self.looks += 1
        up = [node for node in self._others if self._peers.reachable(node)]
        asked = [self._tell(node, self._keeper.current.revision, b"", LOOK_TIMEOUT_S) for node in up]
        await asyncio.gather(*asked, self._read(LOOK_TIMEOUT_S))

    def _begin_audit(self) -> None:
        self._auditing = asyncio.get_running_loop().create_task(self._audit(), name=f"catalog@{self._me}")

    async def _audit(self) -> None:
        before = self._keeper.current.revision
        await self._read(ASK_TIMEOUT_S)
        if self._keeper.current.revision > before:
            log.info("catalog_found", node=self._me, revision=self._keeper.current.revision)
            await self.push()
        self.start()

    async def _read(self, timeout_s: float) -> None:
        try:
            await self._changes.read(timeout_s)
        except KvError:
            return  # no majority, or no time: what others go by is all that can be had

    async def _ask(self, node: str) -> None:
        await self._tell(node, self._keeper.current.revision, b"", ASK_TIMEOUT_S)

    async def _tell(self, node: str, revision: int, data: bytes, timeout_s: float) -> None:
        try:
            _, newer = await self._peers.catalog(node, revision, data, timeout_s)
            if newer:
                await self._keeper.adopt(decode_catalog(newer))
        except KvError as error:
            log.info("catalog_not_told", node=self._me, peer=node, reason=error.message)
