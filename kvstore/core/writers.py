"""Whether somebody is the only one who writes here.

A key's writes without a context are put in order by the one node that coordinates them all. A client that goes elsewhere with them,
to have fewer and larger batches (kvclient/gathering.py), may do so as long as nobody else writes: else two writes at the same time
would be siblings where one of them would have replaced the other. A home replica gets every write of its keys, whoever coordinates
it, so it knows. Who writes is named by the first half of a batch's trace id, which a client draws once for itself.

Pure; times are seconds of a clock that never steps. Called once a batch or message. Registers do not count: their writes are not
gathered, and are in order whoever coordinates them.
"""

from __future__ import annotations

WRITER_BYTES = 8
SOMEBODY = b""
"""A writer who cannot be told from others."""

ALONE_AFTER_S = 2.0
"""So long nobody else has written."""


class Writers:
    """Who writes here, as far as it matters: one, since when, or more than one."""

    __slots__ = ("_last", "_since_s")

    def __init__(self) -> None:
        self._last = SOMEBODY  # who wrote before this node's life is not known
        self._since_s = 0.0

    def wrote(self, writer: bytes, now_s: float) -> None:
        """`writer` wrote something."""
        if writer != self._last or writer == SOMEBODY:
            self._last, self._since_s = writer, now_s

    def is_alone(self, writer: bytes, now_s: float) -> bool:
        """Whether nobody but `writer` has written for long enough."""
        return writer == self._last and writer != SOMEBODY and now_s - self._since_s >= ALONE_AFTER_S
