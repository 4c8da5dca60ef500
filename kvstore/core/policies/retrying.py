"""Whether an increment may be executed, or may have been before (safety rule 8).

Puts and adds may be executed twice: the second execution is superseded or the same. An increment may not. So it is executed by the
first attempt alone. Every later one, wherever it goes, is answered from what the record remembers of the id, or refused as unknown;
the coordinator that minted it remembers best, which is why clients ask there first. Since no later attempt executes anything, it
does not matter which of them arrives first, nor whether the id has been forgotten meanwhile.
"""

from __future__ import annotations

from enum import Enum

from kvstore.core.versions import Record


class Verdict(Enum):
    """What the coordinator does with an increment."""

    EXECUTE = "execute"
    ANSWER = "answer"  # it was executed: base.known has the dot
    UNKNOWN = "unknown"  # refuse, RetryWindowPassed: it may have been executed


def decide_increment(base: Record, request_id: bytes, *, attempt: int) -> Verdict:
    """What becomes of an increment at a coordinator that holds `base`. `attempt`: how many attempts before this one may have been
    executed; one that certainly was not, because it was refused or never sent, does not count."""
    if base.known(request_id) is not None:
        return Verdict.ANSWER
    return Verdict.UNKNOWN if attempt else Verdict.EXECUTE
