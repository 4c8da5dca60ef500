"""Writes to namespaces in memory are answered when every home replica has them or is owed them, durably (ADR 25).

What w replicas have in memory may be evicted, or lost with their processes, and nobody would be left to say that another replica
has missed it: what it had superseded would be read there again. On disk the record itself says so. So the reply is held back a
little longer than the level asks for, until the others have answered as well; for those that have not by then, hints are made
durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvproto.columns import GroupReply
from kvproto.errors import DeadlineExceeded, KvError
from kvstore.coordinator.outcomes import Emit
from kvstore.coordinator.replicas import Answer, Arrivals
from kvstore.coordinator.seats import Seats
from kvstore.storage.hints import HintTable
from kvstore.storage.store import Store

SETTLE_S = 0.1
"""So long after its level was met a write waits for the other replicas: longer than they take, and no longer than people notice."""


class Remembering:
    """One sub-batch's replies, held back."""

    def __init__(self, me: str, seats: Seats, keys: Sequence[bytes]) -> None:
        self._keys = keys
        self._held: list[tuple[GroupReply, int]] = []
        self._seats = seats
        self._missing = set(seats.homes) - {me} - set(seats.absent)
        self._has_absent = bool(seats.absent)

    def hold(self, reply: GroupReply, count: int) -> None:
        """As `Emit`: kept for `let_go`."""
        self._held.append((reply, count))

    def note(self, answer: Answer) -> None:
        """An answer came: whoever has stored all of it is missing nothing."""
        if answer.error is None and not answer.refused:  # type: ignore[union-attr]
            self._missing.discard(self._seats.home_of(answer.node))

    async def let_go(self, arrivals: Arrivals, hints: HintTable, store: Store, emit: Emit) -> None:
        """Waits for who is missing, has it noted durably what they miss, and answers."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SETTLE_S
        while self._missing and (answer := await arrivals.next(until_s)) is not None:
            self.note(answer)
        error = await self._noted(hints, store, arrivals.deadline_s) if self._missing or self._has_absent else None
        for reply, count in self._held:
            failed = error is not None and reply.error is None
            emit(GroupReply(reply.group, positions=reply.positions, error=error) if failed else reply, count)

    async def _noted(self, hints: HintTable, store: Store, deadline_s: float) -> KvError | None:
        """Once it is durable who is owed these keys, also where that was noted a moment ago. Why it could not be, or not in
        time."""
        loop = asyncio.get_running_loop()
        pointers = [pointer for home in sorted(self._missing) for pointer in hints.owe(home, self._keys)]
        noted: asyncio.Future[KvError | None] = loop.create_future()

        def done(error: KvError | None) -> None:
            if not noted.done():
                noted.set_result(error)

        try:
            store.admit(len(pointers), sum([len(key) + len(value) for key, value in pointers]))
        except KvError as refusal:
            refusal.may_have_applied = True
            return refusal
        store.commit([], done, pointers, before=[])
        late = "it was not noted before the deadline which replicas have missed this write"
        timer = loop.call_at(deadline_s, done, DeadlineExceeded(late, may_have_applied=True))
        try:
            return await noted
        finally:
            timer.cancel()
