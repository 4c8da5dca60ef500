"""Tells the others of which partitions this node has undelivered hints, and takes down what they tell (safety rule 12).

Each is told when the link to it opens, when it greets us, which it does when it had lost us, and when what there is to tell has
changed. Whoever is not told goes on as if there were something. Hinted handoff looks after it as often as after its targets, until
everybody is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from kvproto.errors import KvError
from kvstore.core.doubts import Doubts
from kvstore.storage.hints import HintTable
from kvstore.transport.peers import PeerTransport

TELL_TIMEOUT_S = 1.0


class Owing:
    """One node's part."""

    def __init__(self, *, me: str, others: Iterable[str], hints: HintTable, peers: PeerTransport, doubts: Doubts) -> None:
        self._me = me
        self._others = tuple(others)
        self._hints = hints
        self._peers = peers
        self._doubts = doubts
        self._told: dict[str, frozenset[int]] = {}
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._due: set[str] = set()
        self._heard = asyncio.Event()
        self._is_closed = False
        self.on_due: Callable[[], None] = lambda: None
        """Somebody is to be told who may not have been reached at once."""

    def linked(self, node: str) -> None:
        """Our link to `node` has opened: it is told at once."""
        self._told.pop(node, None)
        self._due.add(node)
        self._tell(node)
        self.on_due()

    def unlinked(self, node: str) -> None:
        """Our link to `node` broke: from now on it may do what we do not hear of."""
        self._doubts.lost(node)

    def greeted(self, node: str) -> None:
        """`node` dials us, so it could not reach us; and it may have started anew and know nothing of what we told it."""
        self._doubts.lost(node)
        self.linked(node)

    def told(self, node: str, partitions: Iterable[int]) -> None:
        """`node` has undelivered hints of these partitions."""
        self._doubts.told(node, partitions)
        self._heard.set()

    async def heard(self, nodes: Iterable[str], timeout_s: float) -> None:
        """Returns when all of `nodes` that can be reached have told, or after `timeout_s`: until then answers say `degraded`."""
        wanted = list(nodes)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(self._peers.reachable(node) and not self._doubts.knows(node) for node in wanted):
                    self._heard.clear()
                    await self._heard.wait()

    @property
    def is_settled(self) -> bool:
        """Whether everybody has been told how things are now."""
        return all(self._told.get(node) is self._hints.partitions for node in self._others)

    def look(self) -> None:
        """Tells whoever has not been told how things are now."""
        for node in self._others:
            # The table gives the same object until something changes.
            if self._told.get(node) is not self._hints.partitions:
                self._tell(node)

    def stop(self) -> None:
        """Nobody is told any more."""
        self._is_closed = True
        for task in self._telling.values():
            task.cancel()

    def _tell(self, node: str) -> None:
        if self._is_closed or node in self._telling or not self._peers.reachable(node):
            return
        task = self._telling[node] = asyncio.get_running_loop().create_task(self._say(node), name=f"owe@{self._me}>{node}")
        task.add_done_callback(lambda _: self._telling.pop(node, None))

    async def _say(self, node: str) -> None:
        while True:
            self._due.discard(node)
            partitions = self._hints.partitions
            try:
                await self._peers.owe(node, partitions, TELL_TIMEOUT_S)
            except KvError:
                return  # it is told at the next look, or when it is back
            if node not in self._due:  # else it has forgotten meanwhile what it was told
                self._told[node] = partitions
                return
