"""Of which groups this node's acceptor votes, after its disk was lost (safety rule 15).

    0xFF x 6 . "n" . "registers-lost"               which loss this is, u64: this disk is not the one that promised
    0xFF x 6 . "n" . "registers-admitted/" . group  the loss after which the group was copied from the others: it votes again

A group's row is written in one batch with the last page that was copied; when all groups have theirs, all rows go with the loss
itself. A later loss has another number: what was admitted before it does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.core.register.ballot import GROUP_BYTES
from kvstore.core.register.messages import Ask
from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key, system_name_range

LOST_KEY = system_key(b"registers-lost")
_ADMITTED = b"registers-admitted/"


class Admission:
    """One node's. `loss`: 0 while nothing is lost; `admitted`: the groups that vote again since."""

    def __init__(self, engine: Engine) -> None:
        self.loss = int.from_bytes(engine.get(LOST_KEY) or b"", "big")
        start = len(system_key(_ADMITTED))
        rows = engine.scan(*system_name_range(_ADMITTED)) if self.loss else ()
        self.admitted = {key[start:] for key, row in rows if int.from_bytes(row, "big") == self.loss}

    def lose(self) -> list[tuple[bytes, bytes]]:
        """Nothing votes from now on; what has to be written."""
        if self.loss and not self.admitted:
            return []
        self.loss += 1
        self.admitted = set()
        return [(LOST_KEY, self.loss.to_bytes(8, "big"))]

    def row(self, group: bytes) -> tuple[bytes, bytes]:
        """What says, once it is durable, that `group` is admitted after this loss."""
        return system_key(_ADMITTED + group), self.loss.to_bytes(8, "big")

    def rows_to_end(self) -> list[bytes]:
        """What has to be deleted, as one, when every group is admitted."""
        return [LOST_KEY, *(system_key(_ADMITTED + group) for group in sorted(self.admitted))]

    def end(self) -> None:
        """They are deleted."""
        self.loss, self.admitted = 0, set()

    def positions(self, ask: Ask) -> Sequence[int]:
        """The entries of `ask` that may be answered."""
        return [at for at, key in enumerate(ask.keys) if key[:GROUP_BYTES] in self.admitted]
