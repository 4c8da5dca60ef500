"""What an atomic read does before it answers: makes a majority hold what it is about to show (safety rule 12).

A read that was answered by one replica that has a write and others that have not may be followed by one that meets only the others.
So the merge of what was found goes to those that answered with less, and the answer leaves when as many as the level takes hold it
durably (Attiya, Bar-Noy and Dolev, "Sharing Memory Robustly in Message-Passing Systems", 1995). Usually they hold the same, and
nothing is sent. Only who counted in the read counts here: a replica that is being rebuilt does not. Called by get.py.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence

from kvproto.errors import KvError
from kvstore.coordinator.read_round import ReadRound
from kvstore.coordinator.replicas import Arrivals, LocalAnswer, Replicas
from kvstore.storage.freshness import Freshness
from kvstore.storage.store import Store
from kvstore.transport.peers import StoreChunk

Rows = list[tuple[int, bytes]]
"""Positions, and the records that are to be held there."""


class WriteBack:
    """One node's."""

    def __init__(self, store: Store, replicas: Replicas, freshness: Freshness) -> None:
        self._store = store
        self._replicas = replicas
        self._freshness = freshness

    async def run(
        self, round_: ReadRound, positions: Sequence[int], deadline_s: float, since_ms: int
    ) -> tuple[list[int], list[int]]:
        """Of `positions`, read from `since_ms` on: those that enough replicas hold now, and those where they do not."""
        missing: dict[int, int] = {}
        stale: defaultdict[str, Rows] = defaultdict(list)
        for position in positions:
            merged = round_.merged(position)
            if merged is None:
                continue
            answered = [round_.seats.holders[home] for home in round_.tally.answered_for(position)]
            behind = [node for node in answered if round_.held_by(node, position) != merged]
            missing[position] = round_.sub.need - (len(answered) - len(behind))
            if missing[position] > 0:
                for node in behind:
                    stale[node].append((position, merged))
        if stale and self._freshness.why_late(since_ms, len(missing)) is None:
            arrivals = Arrivals(asyncio.get_running_loop(), deadline_s)
            for node, rows in stale.items():
                self._send(round_, node, rows, since_ms, arrivals)
            await self._collect(round_, stale, missing, arrivals)
        failed = {position for position, count in missing.items() if count > 0}
        return [position for position in positions if position not in failed], sorted(failed)

    def _send(self, round_: ReadRound, node: str, rows: Rows, since_ms: int, arrivals: Arrivals) -> None:
        sub = round_.sub
        keys, records = [sub.store_keys[position] for position, _ in rows], [record for _, record in rows]
        size_bytes = sum(map(len, keys)) + sum(map(len, records))
        if node != self._replicas.me:
            until_s, ring_hash = arrivals.deadline_s, sub.view.ring.hash
            chunk = StoreChunk(node, keys, records, size_bytes, until_s, arrivals.add, ring_hash, sub.trace, since_ms=since_ms)
            arrivals.asked.append(chunk)
            self._replicas.peers.store(chunk)
            return
        try:
            self._store.admit(len(keys), size_bytes)
        except KvError as error:
            arrivals.add(LocalAnswer(node, error))
        else:
            self._store.merge(keys, records, lambda error, refused: arrivals.add(LocalAnswer(node, error, refused)))

    async def _collect(self, round_: ReadRound, stale: Mapping[str, Rows], missing: dict[int, int], arrivals: Arrivals) -> None:
        """Counts down `missing`, until nothing is missing or nobody is left to wait for."""
        for _ in range(len(stale)):
            answer = await arrivals.next()
            if answer is None:
                break
            if answer.error is None:
                refused = set(answer.refused)  # type: ignore[union-attr]
                for at, (position, merged) in enumerate(stale[answer.node]):
                    if at not in refused:
                        missing[position] -= 1
                        if answer.node != self._replicas.me:
                            round_.others.setdefault(position, {})[answer.node] = merged  # nothing is left to repair there
            if all(count <= 0 for count in missing.values()):
                break
        arrivals.close()
