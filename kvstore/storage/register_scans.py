"""Looks through the registers of a group, off the event loop: for the digest of what is held, and for what another owner compares.

A page is read behind everything that was decided before it was asked for (storage/commit.py). What is damaged has a digest of its
own, so that no two owners are the same where one of them has lost something.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kvproto.errors import StorageError
from kvstore.core.register import payload as payloads
from kvstore.core.register.ballot import GROUP_BYTES
from kvstore.core.register.held import accepted, verify
from kvstore.core.register.listing import Listing, read_listing
from kvstore.core.register.tracker import Tracker
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.layout import prefix_successor

KEYS_AT_ONCE = 512


class Tombstones(NamedTuple):
    """Store keys of tombstones, and behind which key there may be more; None: nowhere."""

    keys: list[bytes]
    behind: bytes | None


class RegisterScans:
    """One node's. `lost_seed`: 64 random bits of this process (`read_listing`); `on_damaged` is told store keys whose registers
    cannot be read."""

    def __init__(
        self, engine: Engine, committer: Committer, tracker: Tracker, *, lost_seed: int, on_damaged: Callable[[bytes], None]
    ) -> None:
        self._engine = engine
        self._committer = committer
        self._tracker = tracker
        self._lost_seed = lost_seed
        self._on_damaged = on_damaged

    def listing(self, cursor: bytes, told: Callable[[StorageError | None, Listing], None]) -> None:
        """What lies here behind `cursor`, of its group; or why nobody knows."""
        found: list[Listing] = []
        failed: list[StorageError] = []
        damaged: list[bytes] = []

        def look() -> None:
            try:
                found.append(self._read(cursor, damaged))
            except StorageError as error:
                failed.append(error)

        def done(error: StorageError | None) -> None:
            for store_key in damaged:
                self._on_damaged(store_key)
            told(error or (failed[0] if failed else None), found[0] if found else Listing(False, [], []))

        self._committer.submit(Commit((), 0, done, look=look))

    def _read(self, cursor: bytes, damaged: list[bytes]) -> Listing:
        pairs = []
        for store_key, held in self._engine.scan(cursor, prefix_successor(cursor[:GROUP_BYTES])):
            if not verify(held):
                damaged.append(store_key)
            pairs.append((store_key, held))
            if len(pairs) > KEYS_AT_ONCE + 1:
                break
        return read_listing(pairs, cursor, KEYS_AT_ONCE, self._lost_seed)

    def tombstones(self, cursor: bytes, before_ms: int, told: Callable[[StorageError | None, Tombstones], None]) -> None:
        """Tombstones behind `cursor`, of its group, of which every request was issued before `before_ms`."""
        found: list[Tombstones] = []
        failed: list[StorageError] = []

        def look() -> None:
            keys: list[bytes] = []
            looked = 0
            try:
                for store_key, held in self._engine.scan(cursor, prefix_successor(cursor[:GROUP_BYTES])):
                    if store_key == cursor or not verify(held):
                        continue
                    payload = accepted(held)
                    if payloads.is_tombstone(payload) and payloads.requests_ms(payload) < before_ms:
                        keys.append(store_key)
                    looked += 1
                    if looked >= KEYS_AT_ONCE:
                        found.append(Tombstones(keys, store_key))
                        return
            except StorageError as error:
                failed.append(error)
            found.append(Tombstones(keys, None))

        nothing = Tombstones([], None)
        self._committer.submit(
            Commit((), 0, lambda error: told(error or (failed[0] if failed else None), found[0] if found else nothing), look=look)
        )

    def go_on(self, group: bytes, done: Callable[[StorageError | None], None]) -> None:
        """Reads the next page of a group of which it is not known what is held; with the last page it is."""
        tracker, progress = self._tracker, self._tracker.groups[group]
        scan = progress.scans

        def told(error: StorageError | None, listing: Listing) -> None:
            if error is None:
                end = listing.keys[-1] if listing.more else None
                marks = tracker.scanned(group, scan, zip(listing.keys, listing.digests, strict=True), end)
                if marks:
                    # Told when what was decided while it was looked at is durable as well.
                    self._committer.submit(Commit((), 0, lambda error: None if error else tracker.became_durable(marks)))
            done(error)

        self.listing(progress.scanned_to or group, told)
