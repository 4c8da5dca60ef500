"""Disks that are believed too early or too late: rules 3 to 5, and the commit thread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.errors import RecordLost, StorageError
from kvproto.link import Coalescer, Ticket
from kvstore.simulation.disk import SimEngine
from kvstore.storage.commit import Committer
from kvstore.storage.store import Store


@bug("answers-before-durable", "reads answer from records that are not durable yet (safety rule 3)")
def answer_from_the_overlay(patch: Patch) -> None:
    """What was read may be gone after a crash."""

    def read_all(self: Store, store_keys: Sequence[bytes]) -> tuple[list[bytes | None], list[int]]:
        records, lost = durable_all(self, store_keys)
        return [self.pending.get(key) or record for key, record in zip(store_keys, records, strict=True)], lost

    patch.set(Store, "durable", Store.latest)
    durable_all = patch.set(Store, "durable_all", read_all)


@bug("failed-sync-retried", "a write or sync that failed is tried again, and then taken for done (safety rule 4)")
def retry_failed_syncs(patch: Patch) -> None:
    """As after a failed fsync, the second attempt succeeds over pages that the kernel has dropped."""

    def write_until_it_works(self: SimEngine, *args: Any, **named: Any) -> None:
        with suppress(StorageError):
            write(self, *args, **named)

    write = patch.set(SimEngine, "write", write_until_it_works)


@bug("lost-is-absent", "a record that fails its checksum is answered as not found (safety rule 5)")
def answer_absent_for_lost(patch: Patch) -> None:
    """A vote for something that this replica cannot know."""

    def load_or_nothing(self: Store, store_key: bytes) -> bytes | None:
        try:
            found: bytes | None = load(self, store_key)
        except RecordLost:
            return None
        return found

    load = patch.set(Store, "_load", load_or_nothing)


@bug("ack-before-fsync", "a write is acknowledged when it is written, before it is synced")
def skip_syncs(patch: Patch) -> None:
    """A crash loses what was acknowledged."""

    def make(self: Committer, *args: Any, **named: Any) -> None:
        init(self, *args, **{**named, "sync": False})

    init = patch.set(Committer, "__init__", make)


@bug("lost-wakeup", "the commit thread, done with a batch, does not look at what gathered meanwhile")
def lose_wakeups(patch: Patch) -> None:
    """It waits until somebody submits again."""

    def release_quietly(self: Coalescer[Any], ticket: Ticket) -> None:
        if not self.name.startswith("commit@"):
            release(self, ticket)
            return
        self._paused, before = True, self._paused
        try:
            release(self, ticket)
        finally:
            self._paused = before

    release = patch.set(Coalescer, "release", release_quietly)
