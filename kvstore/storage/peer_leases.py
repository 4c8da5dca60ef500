"""What this node remembers of its peers: under which actor each has minted last, and how far it had leased (safety rule 2).

In the data directory, so that a peer that has lost its own finds out also from those that were restarted since. A row is queued
before any record that comes later, so whoever still has the record still has the row.
"""

from __future__ import annotations

from kvstore.core.versions import ACTOR_BYTES
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key, system_name_range

_NAME = b"lease/"


class PeerLeases:
    """The rows of one directory."""

    def __init__(self, engine: Engine, committer: Committer) -> None:
        self._engine = engine
        self._committer = committer

    def load(self) -> dict[str, tuple[bytes, int]]:
        """By peer: actor and lease. Raises `StorageError`."""
        start = len(system_key(_NAME))
        return {
            name[start:].decode(): (row[:ACTOR_BYTES], int.from_bytes(row[ACTOR_BYTES:], "big"))
            for name, row in self._engine.scan(*system_name_range(_NAME))
        }

    def remember(self, node: str, actor: bytes, lease: int) -> None:
        """`node` has told us so; queued."""
        if self._committer.failure is None:
            row = (system_key(_NAME + node.encode()), actor + lease.to_bytes(8, "big"))
            self._committer.submit(Commit([row], 64, lambda error: None))
