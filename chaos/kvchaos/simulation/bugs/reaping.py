"""Tombstones that go too early, messages that come too late, values that expire without a trace: rules 9 and 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.errors import RecordLost
from kvstore.core.reaping import Found, Grace
from kvstore.repair import absence, reaping
from kvstore.repair.reap_votes import ReapVotes
from kvstore.repair.reaping import Reaper
from kvstore.storage.freshness import Freshness
from kvstore.storage.hints import HintTable
from kvstore.storage.tombstones import Slice


@bug("reap-early", "a tombstone is reaped as soon as all owners have it, without waiting for what is still under way")
def ignore_the_grace(patch: Patch) -> None:
    """The two looks follow each other at once."""
    patch.set(Grace, "wait_s", property(lambda self: 0.0))
    patch.set(Grace, "age_s", property(lambda self: 0.0))


@bug("reap-without-all-owners", "a tombstone is reaped when those agree that can be asked, whatever the others hold or are owed")
def ask_some(patch: Patch) -> None:
    """Who was away brings back what the tombstone had superseded."""

    def agreed_by_some(found: Sequence[Found], _members: Sequence[str], against: Mapping[str, Sequence[int]]) -> list[Found]:
        agreed: list[Found] = agreed_by_all(found, list(against), against)
        return agreed

    async def look(self: Reaper, *args: Any) -> Any:
        peers = self._peers
        self._peers = _AllReachable(peers)
        try:
            return await look_at_all(self, *args)
        finally:
            self._peers = peers

    def against(self: ReapVotes, keys: Sequence[bytes], digests: bytes) -> set[int]:
        hints, self._hints = self._hints, HintTable(self._clock)
        try:
            objected: set[int] = against_all(self, keys, digests)
            return objected
        finally:
            self._hints = hints

    agreed_by_all = patch.set(reaping, "agreed_by_all", agreed_by_some)
    look_at_all = patch.set(Reaper, "_look", look)
    against_all = patch.set(ReapVotes, "_against", against)


class _AllReachable:
    """Peers of which each is taken for reachable."""

    def __init__(self, peers: Any) -> None:
        self._peers = peers

    def reachable(self, node: str) -> bool:
        """Always."""
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peers, name)


@bug("late-write-accepted", "a record is taken however old its message is (safety rule 9)")
def take_late_messages(patch: Patch) -> None:
    """What was on its way for longer than the grace comes back."""
    patch.set(Freshness, "why_late", lambda self, since_ms, count: None)


@bug("absent-node-pushes", "a node whose disk is older than the grace gives the others what it has (consistency, section 5)")
def believe_any_disk(patch: Patch) -> None:
    """What was deleted, and its tombstone reaped, is back."""
    patch.set(absence, "is_absent", lambda mark_ms, told, grace: False)


@bug("expiry-drops-record", "what has expired is dropped, where it should become a tombstone (safety rule 10)")
def drop_expired(patch: Patch) -> None:
    """A replica that missed it brings back what it had superseded."""

    async def end_expired(self: Reaper, found: Slice) -> None:
        held = []
        for key in found.expired:
            with suppress(RecordLost):
                record = self._store.latest(key)
                if record is not None:
                    held.append((key, record))
        self._store.admit(len(held), 0)
        self._store.discard(held, (), lambda error: None)

    patch.set(Reaper, "_end_expired", end_expired)
