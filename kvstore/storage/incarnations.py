"""Which incarnations this node may have used, durably: the next life begins above them all (core/membership/incarnation.py).

One row beside the actor's, so that whatever wipes or restores the directory takes both: a node without it begins at 0 and is told
by the others what they remember of it, which it refutes.
"""

from __future__ import annotations

from collections.abc import Callable

from kvproto.errors import StorageError
from kvstore.core.membership.incarnation import LEASE
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key

INCARNATION_KEY = system_key(b"incarnation")


class IncarnationLedger:
    """`first` is where this life begins; nothing may be used from `reserved` on, which is `first` before there is a lease."""

    def __init__(self, engine: Engine, committer: Committer) -> None:
        row = engine.get(INCARNATION_KEY)
        self.first = 0 if row is None else int.from_bytes(row, "big")
        self.reserved = self.first  # durably ours are all below it
        self._committer = committer

    def lease(self, done: Callable[[int], None]) -> None:
        """Reserves what this life begins with; as `reserve`."""
        self.reserve(self.first + LEASE, done)

    def reserve(self, up_to: int, done: Callable[[int], None]) -> None:
        """Calls `done` with the bound below which all are durably ours: `up_to`, or what it was before if storage has failed."""

        def committed(error: StorageError | None) -> None:
            if error is None:
                self.reserved = max(self.reserved, up_to)
            done(self.reserved)

        row = (INCARNATION_KEY, up_to.to_bytes(8, "big"))
        self._committer.submit(Commit([row], len(row[0]) + len(row[1]), committed))
