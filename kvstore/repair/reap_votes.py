"""A node's say in the end of tombstones: what it holds against it, what it makes durable before it agrees, and the end itself.

Asked by the first home replica of a partition (repair/reaping.py, core/reaping.py has the protocol), of every node: an owner
objects while it holds another record, or one that it cannot read; every other node while it holds any; and anybody while it owes
somebody the key. What is not durable yet counts: no answer rests on what may still change (safety rule 3).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvproto.errors import BadRequest, KvError, RecordLost
from kvstore.cluster.view import RingHolder
from kvstore.core.record import DIGEST_BYTES, digest
from kvstore.crash_points import crash_point
from kvstore.repair.told import Told
from kvstore.runtime import Clock
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import NAMESPACE_AT
from kvstore.storage.store import Store
from kvstore.storage.tombstones import ReapStamps, partitions_of
from kvstore.transport.peers import ReapAnswer, ReapQuestion, ReapStep

KEYS_MAX = 512
"""Of one question."""

VOTING = crash_point("reap.voting", "a stamp that says what this node agrees to is being written")
VOTED = crash_point("reap.voted", "what this node agrees to is durable, and nobody knows yet that it agrees")
ENDING = crash_point("reap.ending", "tombstones are being deleted, behind the stamp that says so")
ENDED = crash_point("reap.ended", "tombstones are gone here, and nobody knows yet")


class ReapVotes:
    """Answers for one node; `reaped` counts the tombstones that were forgotten here."""

    def __init__(self, *, me: str, store: Store, hints: HintTable, stamps: ReapStamps, ring: RingHolder, clock: Clock) -> None:
        self._me = me
        self._store = store
        self._hints = hints
        self._stamps = stamps
        self._ring = ring
        self._clock = clock
        self.reaped = 0

    def highest(self, keys: Sequence[bytes]) -> int:
        """The highest stamp remembered here of the partitions of `keys`."""
        return self._stamps.highest(partitions_of(keys))

    async def answer(self, question: ReapQuestion) -> ReapAnswer:
        """The answer, once what it rests on is durable. Raises `KvError`; then nothing was agreed to."""
        keys = question.store_keys
        if len(keys) > KEYS_MAX or len(question.digests) != DIGEST_BYTES * len(keys):
            raise BadRequest(f"{len(keys)} keys with {len(question.digests)} bytes of digests", limit=KEYS_MAX, actual=len(keys))
        against = self._against(keys, question.digests)
        agreed = [key for position, key in enumerate(keys) if position not in against]
        partitions = partitions_of(agreed)
        before = self._stamps.highest(partitions_of(keys))
        if question.step is ReapStep.PREPARE and agreed:
            noted = self._write([*self._stamps.note(partitions, question.stamp, reaped=False), *self._unsynced(agreed)])
            await VOTING.passed()
            await self._durable(noted)
            await VOTED.passed()
        elif question.step is ReapStep.REAP and agreed:
            await self._reap(agreed, partitions, question.stamp)
        return ReapAnswer(sorted(against), self._clock.now_ms(), before)

    def _against(self, keys: Sequence[bytes], digests: bytes) -> set[int]:
        if self._store.is_rebuilding:  # what is not held here is no evidence
            return set(range(len(keys)))
        view = self._ring.view
        against: set[int] = set()
        for position, key in enumerate(keys):
            if self._store.is_pending(key) or self._hints.is_owed(key) or self._store.is_unsure_of(key[NAMESPACE_AT]):
                against.add(position)
                continue
            try:
                record = self._store.durable(key)
            except RecordLost:  # it may be anything
                against.add(position)
                continue
            asked = digests[DIGEST_BYTES * position : DIGEST_BYTES * (position + 1)]
            if record is not None and (digest(record) != asked or not view.is_home(key, self._me)):
                against.add(position)
        return against

    def _unsynced(self, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """The tombstones among them that may be in the operating system's memory alone, to be written with the stamp and synced:
        once they are forgotten elsewhere, the value that lies before them on our disk must not be there again after a power cut."""
        unsynced = self._store.unsynced
        held = [(key, self._store.durable(key)) for key in keys if key[NAMESPACE_AT] in unsynced] if unsynced else []
        return [(key, record) for key, record in held if record is not None]

    async def _reap(self, keys: Sequence[bytes], partitions: set[int], stamp: int) -> None:
        """Forgets the records of `keys`, which were just seen to be what was asked about: nothing is waited for in between. The
        stamp goes first: whoever is without one of them must be told from those who never had it."""
        held = [(key, record) for key in keys if (record := self._store.durable(key)) is not None]
        self._store.admit(len(held) + len(partitions), sum([len(key) for key, _ in held]))
        stamped = self._write(self._stamps.note(partitions, stamp, reaped=True))
        gone = Told[KvError | None]()
        self._store.discard(held, (), gone.take)
        await ENDING.passed()
        await self._durable(stamped, gone)
        await ENDED.passed()
        self.reaped += len(held)

    def _write(self, pairs: list[tuple[bytes, bytes]]) -> Told[KvError | None]:
        self._store.admit(len(pairs), sum([len(key) + len(value) for key, value in pairs]))
        told = Told[KvError | None]()
        self._store.commit([], told.take, pairs, before=[])
        return told

    @staticmethod
    async def _durable(*commits: Told[KvError | None]) -> None:
        for told in commits:
            error = await told.answer
            if error is not None:
                raise error
