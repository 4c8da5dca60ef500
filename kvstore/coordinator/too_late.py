"""Why a write is refused whose request id is too old, or too old to say (safety rule 8, docs/adr/0015). Pure; called by minting.

What an attempt that was refused has done is certain: nothing. Whether an *earlier* one was executed is not, so the refusal of a
first attempt is definite and that of a later one is unknown.
"""

from __future__ import annotations

from kvproto.columns import OperationGroup
from kvproto.errors import RetryWindowPassed


def too_late(group: OperationGroup, window_ms: int) -> RetryWindowPassed:
    """An id of `group` was issued before the retry window. Where its age could only be told by wall clocks, of which one may be
    wrong, asking again helps: by then the two clocks know each other."""
    is_first, is_known = group.attempt == 0, group.ids_ahead_ms is not None
    said = "it was not executed" if is_first else "read the key to see whether the write was applied"
    return RetryWindowPassed(
        f"the request id is older than the retry window ({window_ms / 1000:g} s): {said}",
        retryable=is_first or not is_known,
        may_have_applied=not is_first,
        limit=window_ms,
    )


def forgotten() -> RetryWindowPassed:
    """The record no longer remembers ids of that time, so an earlier attempt may have been executed."""
    return RetryWindowPassed(
        "the request id is no longer remembered: read the key to see whether the write was applied", may_have_applied=True
    )
