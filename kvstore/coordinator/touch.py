"""A touch: gives the values of a key another time to live, and makes no write of it (core/versions.py, `touch`).

First our own record is brought up to what as many others hold as makes the two rounds overlap: a value that was put or deleted
before is known here then. The record that comes of it goes to everybody, as a put's does. A delete that comes in between supersedes
the value touched or not. Where nothing is alive nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvproto.columns import GroupReply
from kvproto.errors import KvError, QuorumUnreachable, RecordLost
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.catching_up import CatchingUp
from kvstore.coordinator.minting import Minter
from kvstore.coordinator.outcomes import Emit, receipt
from kvstore.coordinator.put import PutCoordinator
from kvstore.coordinator.replicas import Replicas
from kvstore.coordinator.seats import Seats
from kvstore.core.record import NO_DIGEST, digest
from kvstore.core.versions import DOT_BYTES
from kvstore.runtime import Clock
from kvstore.storage.merging import KEYS_AT_ONCE
from kvstore.storage.store import Store


class TouchCoordinator:
    """Coordinates touches of keys that this node is a home replica of."""

    def __init__(
        self,
        *,
        puts: PutCoordinator,
        minter: Minter,
        catching_up: CatchingUp,
        store: Store,
        replicas: Replicas,
        clock: Clock,
        durable: bool,
    ) -> None:
        self._catching_up = catching_up
        self._puts = puts
        self._minter = minter
        self._store = store
        self._replicas = replicas
        self._clock = clock
        self._durable = durable

    async def run(self, sub: SubBatch, deadline_s: float, emit: Emit) -> None:
        """Answers every operation of the sub-batch, some keys at a time: a few bytes may touch a large value. The count of an
        answer is how many values were touched, the version that of the first; 0 and zeros where there is none."""
        for first in range(0, len(sub.store_keys), KEYS_AT_ONCE):
            wanted = range(first, min(first + KEYS_AT_ONCE, len(sub.store_keys)))
            await self._touch(sub, wanted, deadline_s, emit)

    async def _touch(self, sub: SubBatch, wanted: Sequence[int], deadline_s: float, emit: Emit) -> None:
        seats = self._replicas.seats(sub)
        try:
            refusal = self._puts.why_not(sub, seats)
            if refusal is not None:
                raise refusal
            heard, unheard = await self._catch_up(sub, wanted, seats, deadline_s)
            minted = self._minter.touch(sub, [position for position in wanted if position not in unheard])
        except KvError as error:
            emit(GroupReply(sub.group_index, positions=sub.original(wanted), error=error), len(wanted))
            return
        for position, reason in minted.refused:
            emit(GroupReply(sub.group_index, positions=sub.original([position]), error=reason), 1)
        if minted.absent:
            emit(self._nothing_there(sub, minted.absent, heard), len(minted.absent))
        if minted.keys:
            await self._puts.replicate(sub, minted, seats, deadline_s, emit)
        if unheard:  # what others hold of them was too much to be fetched at once
            await self._touch(sub, sorted(unheard), deadline_s, emit)

    async def _catch_up(self, sub: SubBatch, wanted: Sequence[int], seats: Seats, deadline_s: float) -> tuple[list[str], set[int]]:
        """Merges what others hold differently into our own records. Who was heard, ourselves included, and the positions of which
        somebody has told nothing."""
        keys, enough = [sub.store_keys[position] for position in wanted], _enough(sub)
        digests = b"".join(map(self._digest, keys))
        heard = await self._catching_up.hear(
            sub, keys, digests, seats, deadline_s, is_enough=lambda nodes: len(nodes) + 1 >= enough
        )
        return [self._replicas.me, *heard.nodes], set(wanted[heard.end :])

    def _digest(self, store_key: bytes) -> bytes:
        try:
            record = self._store.durable(store_key)
        except RecordLost:
            record = None  # minting will say so
        return NO_DIGEST if record is None else digest(record)

    def _nothing_there(self, sub: SubBatch, positions: Sequence[int], heard: Sequence[str]) -> GroupReply:
        """Too few to overlap with whoever wrote last cannot say that there is nothing, whatever the preset would settle for."""
        count, enough = len(positions), _enough(sub)
        if len(heard) < enough:
            error = QuorumUnreachable(
                f"{len(heard)} of the {enough} replicas needed to say that there is nothing have answered: nothing was touched",
                needed=enough,
                received=len(heard),
                contacted=len(sub.owners.nodes),
            )
            return GroupReply(sub.group_index, positions=sub.original(positions), error=error)
        return GroupReply(
            sub.group_index,
            positions=sub.original(positions),
            counts=[0] * count,
            versions=bytes(DOT_BYTES * count),
            contexts=[b""] * count,
            receipt=receipt(sub, heard, now_ms=self._clock.now_ms(), durable=self._durable),
        )


def _enough(sub: SubBatch) -> int:
    """Replicas, ourselves included, of which one has every write of this level and above; at least as many as the level takes."""
    return max(sub.need, len(sub.owners.nodes) - sub.need + 1)
