"""Reads that must not be older than what a session has seen (safety rule 20): who else is asked, and for how long.

A read is decided by as many replicas as its level takes; where what they hold has not seen what the session has, everybody within
reach is asked, stand-ins too, and again a little later, for what is on its way may come. Called by get.py; what nobody has by then
is `BehindSession`, which costs a session its availability across a cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kvproto.errors import BadRequest, RecordLost
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.read_round import ReadRound
from kvstore.coordinator.replicas import Arrivals, Replicas
from kvstore.core.record import (
    NO_DIGEST,
    decode_context,
    digest,
)
from kvstore.core.versions import Context
from kvstore.storage.store import Store
from kvstore.transport.peers import FetchChunk

WAIT_S = 0.5
"""How long a session waits for what it has seen; hints are handed over within a fifth of a second of their target's return."""
PAUSE_S = 0.02


def seen_by(sub: SubBatch) -> dict[int, Context]:
    """What sessions have seen of the sub-batch's keys, by position. Raises `BadRequest` for what is no context."""
    seen = sub.group.seen
    try:
        return {position: decode_context(seen[at]) for position, at in enumerate(sub.at()) if seen[at]} if seen else {}
    except ValueError as error:
        raise BadRequest(str(error), subject="seen") from error


class SessionReads:
    """One node's."""

    def __init__(self, store: Store, replicas: Replicas) -> None:
        self._store = store
        self._replicas = replicas

    async def catch_up(self, round_: ReadRound, deadline_s: float, found: Callable[[Sequence[int]], None]) -> None:
        """Looks for what `round_.behind` lacks; `found` is told of positions that are new enough now: they are no longer there."""
        loop = asyncio.get_running_loop()
        until_s, pause_s = min(deadline_s, loop.time() + WAIT_S), PAUSE_S
        while True:
            await self._ask_all(round_, until_s, found)
            if not round_.behind or loop.time() + pause_s >= until_s:
                return
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _ask_all(self, round_: ReadRound, until_s: float, found: Callable[[Sequence[int]], None]) -> None:
        sub, me, positions = round_.sub, self._replicas.me, sorted(round_.behind)
        for position in positions:
            self._read_again(round_, position)
        self._tell(round_, found)
        nodes = [node for node in (*sub.owners.nodes, *sub.owners.stand_ins) if node != me and self._replicas.peers.reachable(node)]
        arrivals = Arrivals(asyncio.get_running_loop(), until_s)
        keys = [sub.store_keys[position] for position in positions]
        digests = b"".join([self._digest(round_.records[position]) for position in positions])
        self._replicas.fetch_from(nodes, keys, digests, until_s, arrivals, sub.view.ring.hash, sub.trace)
        heard = set() if round_.lost or round_.rebuilding else {me}
        for _ in nodes:
            answer = await arrivals.next() if round_.behind else None
            if answer is None:
                break
            if answer.error is None:
                assert isinstance(answer, FetchChunk)
                if not (answer.rebuilding or answer.lost or answer.answered_below < answer.count):
                    heard.add(answer.node)
                for at, record in zip(answer.differing, answer.records, strict=True):
                    round_.note(positions[at], answer.node, record)
                self._tell(round_, found)
        arrivals.close()
        if heard.issuperset(sub.owners.nodes):
            # All home replicas have nothing of these, not even that it was deleted: what was seen has been forgotten since.
            forgotten = [position for position in sorted(round_.behind) if round_.merged(position) is None]
            round_.behind.difference_update(forgotten)
            if forgotten:
                found(forgotten)

    @staticmethod
    def _tell(round_: ReadRound, found: Callable[[Sequence[int]], None]) -> None:
        now = [position for position in sorted(round_.behind) if not round_.is_behind(position)]
        round_.behind.difference_update(now)
        if now:
            found(now)

    def _read_again(self, round_: ReadRound, position: int) -> None:
        """What others have told us since is in our own record."""
        try:
            record = self._store.durable(round_.sub.store_keys[position])
        except RecordLost:
            return
        if record is not None and record != round_.records[position]:
            round_.note(position, self._replicas.me, record)

    @staticmethod
    def _digest(record: bytes | None) -> bytes:
        return NO_DIGEST if record is None else digest(record)
