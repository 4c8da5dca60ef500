"""Whether to try again, and when. Pure: given an error and what is known of the operation, how long to wait, or None to give up.

Reads are always safe to repeat. A write carries its request id, so that a repetition is the same write through any coordinator,
as long as the id is younger than the cluster's retry window; after that a write of unknown outcome stays unknown. Errors that a
node answered with are retried within a budget (a tenth of the traffic, as in gRPC's and Finagle's retry throttling), because
retries must not multiply the load of a cluster in trouble; failing over from a dead connection is not, since each can do so only
once. Where the budget is used up the error is told when the retry would have been: callers that are refused at once come back at
once, and are in the way of everybody else. A node that has too much to do is left for another owner of the key, where there is one;
the second such answer is believed, and waited for as long as it says, and up to half as long again at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kvclient.errors import (
    KvError,
    NodeUnreachable,
    NotOwner,
    Overloaded,
    QuotaExceeded,
    RetryWindowPassed,
    ShuttingDown,
    WrongEpoch,
)

BACKOFF_BASE_S = 0.02
BACKOFF_MAX_S = 1.0
ANSWERED_ATTEMPTS_MAX = 3
RING_ATTEMPTS_MAX = 8
RETRY_WINDOW_MARGIN_MS = 500
"""Kept back from the retry window: what a repetition may take to arrive, and how far clocks may be apart."""


class RetryBudget:
    """A token bucket: each operation pays in a tenth of a token, each retry takes one."""

    __slots__ = ("_share", "_tokens", "_tokens_max")

    def __init__(self, *, share: float = 0.1, tokens_max: float = 100.0) -> None:
        self._share = share
        self._tokens_max = tokens_max
        self._tokens = tokens_max

    def pay_in(self, operations: int) -> None:
        """`operations` were sent for the first time."""
        self._tokens = min(self._tokens_max, self._tokens + operations * self._share)

    def take(self) -> bool:
        """Takes a token, if there is one."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(slots=True)
class Failure:
    """What is known when an attempt has failed. `id_age_ms` is of the write's request id, 0 when it was never sent; `elsewhere`:
    whether the next attempt goes to another owner of the key."""

    error: KvError
    attempt: int
    now_s: float
    deadline_s: float
    maybe_applied: bool = False
    id_age_ms: int = 0
    elsewhere: bool = False
    pause_s: float = 0.0
    """Once it is decided that the error stands: how long it is kept back. Whoever is refused tries again, and where the budget is
    used up, trying again must not be quicker than it would have been with one."""


def decide_delay_s(failure: Failure, budget: RetryBudget, rng: Random, *, retry_window_ms: int) -> float | None:
    """Seconds to wait before the next attempt; None: the error stands."""
    error = failure.error
    if not error.retryable:
        return None
    if failure.maybe_applied and failure.id_age_ms + RETRY_WINDOW_MARGIN_MS > retry_window_ms:
        return None
    delay_s = backoff_s(failure.attempt, rng)
    if isinstance(error, NodeUnreachable | ShuttingDown):
        delay_s = 0.0 if failure.attempt == 0 else delay_s  # the first time there is another node to go to at once
    elif isinstance(error, WrongEpoch | NotOwner):
        if failure.attempt >= RING_ATTEMPTS_MAX:
            return None
    elif _is_of_clocks(error):
        delay_s = 0.0 if failure.attempt == 0 else delay_s
        if failure.attempt + 1 >= ANSWERED_ATTEMPTS_MAX:
            return None
    else:
        if not (failure.attempt == 0 and failure.elsewhere and _is_of_one_node(error)):
            delay_s = max(delay_s, error.retry_after_s * rng.uniform(1.0, 1.5))
        # Of what may have been applied the outcome is worth more than a quick answer.
        is_enough = failure.attempt + 1 >= ANSWERED_ATTEMPTS_MAX and not failure.maybe_applied
        if is_enough and not isinstance(error, Overloaded):
            return None
        if failure.now_s + delay_s < failure.deadline_s and not budget.take():
            failure.pause_s = 0.0 if isinstance(error, Overloaded) else delay_s
            return None
    return delay_s if failure.now_s + delay_s < failure.deadline_s else None


def _is_of_one_node(error: KvError) -> bool:
    """Whether another node may answer otherwise right now."""
    return isinstance(error, Overloaded) and not isinstance(error, QuotaExceeded)


def _is_of_clocks(error: KvError) -> bool:
    """Whether the node could not tell how old the request is: with its answer it has told us its clock, so the next one it can."""
    return isinstance(error, RetryWindowPassed)


def backoff_s(attempt: int, rng: Random) -> float:
    """Exponential, between half and all of it at random, so that clients that failed together do not come back together."""
    return min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0 ** min(attempt, 16)) * rng.uniform(0.5, 1.0)
