"""With whom this node has to compare its records because a crash may have taken hints (ADR 24).

A write is answered once enough have it, and who of the rest has missed it turns out later. A process that ends in between takes
that with it: enough nodes hold the record, and nobody knows who does not. So a node whose last life did not end cleanly compares
with every other one, whatever the interval, until a round of all of them in a row has found nothing that it had to repair: the
record itself may come from the first one and be missing at the second. So does one that was rebuilt: its hints are gone with its
disk. That it has to is durable, for a clean stop in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvstore.crash_points import crash_point
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key
from kvstore.telemetry import log

OPEN_KEY = system_key(b"hints-lost")

COMPARED = crash_point(
    "missed-write.compared", "this node has compared with one peer since a crash, and with all of them it is noted"
)


class Unnoted:
    """One node's. `open`: the peers that it has not been found equal to since it was last found to differ from one."""

    def __init__(self, engine: Engine, committer: Committer, others: Iterable[str], *, may_have_lost: bool) -> None:
        """`may_have_lost`: the last life did not end cleanly."""
        self._committer = committer
        self._others = frozenset(others)
        was_open = engine.get(OPEN_KEY) is not None
        self._is_new = may_have_lost and not was_open
        self.open = set(self._others) if may_have_lost or was_open else set()

    def begin(self) -> None:
        """From here on it outlives a clean stop; a stop that is not clean says it by itself."""
        if self._is_new and self.open:
            self._is_new = False
            self._write([(OPEN_KEY, b"")], [])

    def begin_again(self) -> None:
        """What this node had lost it has again, but not what it knew of others' losses."""
        self.open = set(self._others)
        self._write([(OPEN_KEY, b"")], [])

    def compared(self, peer: str, *, differed: bool) -> None:
        """An exchange with `peer` has come to its end and left nothing; `differed`: it had something to repair."""
        if not self.open:
            return
        if differed:
            self.open = set(self._others)
            return
        self.open.discard(peer)
        if not self.open:
            log.info("compared_after_crash", peers=len(self._others))
            self._write([], [OPEN_KEY])

    def _write(self, pairs: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        if self._committer.failure is None:
            self._committer.submit(Commit(pairs, len(OPEN_KEY), lambda error: None, deletes))
