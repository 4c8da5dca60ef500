"""Whether an increment may be executed, or may have been before (safety rule 8).

Puts and adds may be executed twice: the second execution is superseded or the same. An increment may not. So it is retried at the
coordinator that minted it or nowhere, and what is not remembered is refused as unknown, never executed again.
"""

from __future__ import annotations

from enum import Enum

from kvstore.core.versions import HORIZON, NO_REQUEST, Record, issued_ms


class Verdict(Enum):
    """What the coordinator does with an increment."""

    EXECUTE = "execute"
    ANSWER = "answer"  # it was executed: base.known has the dot
    UNKNOWN = "unknown"  # refuse, RetryWindowPassed: it may have been executed


def decide_increment(base: Record, request_id: bytes, *, attempt: int, same_actor: bool) -> Verdict:
    """What becomes of an increment at a coordinator that holds `base`.

    `attempt`: 0 if it was never sent before. `same_actor`: every earlier attempt went to this node in its present actor epoch.

    A first attempt is no reason to execute an id that may have been forgotten: it may arrive after its own retry.
    """
    if base.known(request_id) is not None:
        return Verdict.ANSWER
    if request_id == NO_REQUEST:
        return Verdict.UNKNOWN if attempt else Verdict.EXECUTE
    if issued_ms(request_id) <= max(base.floor_ms, base.vector.get(HORIZON, 0)) or (attempt and not same_actor):
        return Verdict.UNKNOWN
    return Verdict.EXECUTE
