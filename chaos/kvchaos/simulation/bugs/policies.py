"""Policies that do not keep their rules: increments counted again, resolutions that are minted, stamps of a local clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.coordinator import policy_minting
from kvstore.coordinator.read_repair import ReadRepair
from kvstore.core.merkle.tree import items_of
from kvstore.core.policies import plain
from kvstore.core.policies.operations import Event
from kvstore.core.policies.retrying import Verdict
from kvstore.core.record import decode
from kvstore.core.record_writes import mint
from kvstore.core.versions import OVERWRITE, Record, Sibling
from kvstore.local_node import LocalNode


@bug("increment-retried-elsewhere", "an increment is executed by whichever node is asked next (safety rule 8)", scenario="counters")
def count_again(patch: Patch) -> None:
    """Where the first node's answer was lost, it is counted twice."""

    def decide(base: Record, request_id: bytes, *, attempt: int) -> Verdict:
        return decide_before(base, request_id, attempt=0 * attempt)  # type: ignore[no-any-return]

    decide_before = patch.set(policy_minting, "decide_increment", decide)


@bug("resolution-stored-with-new-dots", "who reads siblings stores what it makes of them as a write of its own (safety rule 13)")
def store_resolutions(patch: Patch) -> None:
    """What it makes of them supersedes writes that nobody has read, and two readers resolve each other's resolutions for ever."""

    def begin(self: LocalNode, *args: Any, **named: Any) -> None:
        begin_before(self, *args, **named)
        self.serving.read_repair.ledger = self.ledger  # type: ignore[attr-defined]

    def submit(self: Any, sub: Any, held: Any, others: Any, lost: Any, tally: Any, seats: Any) -> None:
        submit_before(self, sub, held, others, lost, tally, seats)
        for position in others:
            base = self._store.latest(sub.store_keys[position]) if position not in lost else None
            if base is None or len(decode(base).siblings) < 2:
                continue
            newest = max(decode(base).siblings, key=lambda sibling: (sibling.hlc, sibling.dot))
            dot = self.ledger.actor + self.ledger.reserve(1).to_bytes(8, "big")
            write = Sibling(dot, newest.request_id, newest.hlc + 1, newest.expires_ms, newest.tombstone, newest.value)
            record = mint(base, write, OVERWRITE, cutoff_ms=0, retries_max=32).record
            self._store.stage(sub.store_keys[position], record)
            key = sub.store_keys[position]
            self._store.commit([(key, record)], lambda error: None, before=items_of([key], [base]))

    begin_before = patch.set(LocalNode, "__init__", begin)
    submit_before = patch.set(ReadRepair, "submit", submit)


@bug(
    "lww-by-local-clock",
    "a write of lww is stamped by its coordinator's clock alone, whatever it is written over",
    scenario="last-writer",
)
def stamp_locally(patch: Patch) -> None:
    """Under the write of a fast clock later ones are buried."""

    def stamped(event: Event, held: Iterable[Sibling]) -> Event:
        return stamped_before(event, tuple(held)[:0])  # type: ignore[no-any-return]

    stamped_before = patch.set(plain, "stamped", stamped)
