"""When this node was last alive, as its own disk knows: noted every now and then, and by a clean stop (repair/absence.py).

In the engine beside the records, so that whatever puts back an older copy of them puts back this as well: then the node has been
away since that copy, whoever has answered in its name meanwhile.
"""

from __future__ import annotations

from kvstore.runtime import Clock
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key

ALIVE_KEY = system_key(b"alive")


class AliveMark:
    """`last_ms` is what the earlier lives have left, 0 for nothing: a directory that is new, or of a version without it. Times are
    this node's wall time."""

    def __init__(self, engine: Engine, committer: Committer, clock: Clock) -> None:
        self._engine = engine
        self._committer = committer
        self._clock = clock
        self.last_ms = int.from_bytes(engine.get(ALIVE_KEY) or b"", "big")

    def row(self) -> tuple[bytes, bytes]:
        """Says that we are alive."""
        return ALIVE_KEY, self._clock.now_ms().to_bytes(8, "big")

    def note(self) -> None:
        """Queues it."""
        if self._committer.failure is None:
            self._committer.submit(Commit([self.row()], 64, lambda error: None))

    def note_end(self) -> None:
        """The last write of a life, once nothing is queued any more. Raises `StorageError`."""
        self._engine.write([self.row()], sync=True)
