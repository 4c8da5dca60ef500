"""The slow log: which batch took long, and who kept it waiting: a replica, the queue to it, its disk or our own.

One line a round, bounded, when the round's last operation is answered. The figures were gathered as answers came, a reading of the
clock each; the words are put together only for what is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvproto.columns import ScanPage, ScanQuery
from kvstore.coordinator.batch import SubBatch
from kvstore.telemetry.limiter import BoundedLog
from kvstore.telemetry.meters import Timer


class SlowLog:
    """Tells of rounds that took `threshold_s` or longer; 0: of none."""

    __slots__ = ("_threshold_s", "_timer", "logs")

    def __init__(self, threshold_s: float, timer: Timer, logs: BoundedLog) -> None:
        self._threshold_s = threshold_s or float("inf")
        self._timer = timer
        self.logs = logs

    def round_done(self, sub: SubBatch, started_s: float) -> None:
        """Every operation of `sub` is answered; its batch came at `started_s` of the timer."""
        elapsed_s = self._timer() - started_s
        if elapsed_s < self._threshold_s:
            return
        who, waited_s, replicas = sub.story.facts() if sub.story is not None else ("", 0.0, {})
        if waited_s < elapsed_s / 2:  # neither replica nor disk: this node was late to look at it, or at their answers
            who = f"{sub.view.me} itself"
        self.logs.tell(
            "warning",
            "slow_batch",
            trace=sub.trace.hex(),
            operation=sub.group.kind.name.lower(),
            consistency=sub.group.level.name.lower(),
            namespace=sub.group.namespace,
            operations=len(sub.store_keys),
            elapsed_ms=round(elapsed_s * 1000, 1),
            needed=sub.need,
            slow=who,
            replicas=replicas,
        )

    def page_done(self, query: ScanQuery, page: ScanPage, trace: bytes, started_s: float) -> None:
        """A page of a scan that was begun at `started_s` of the timer is there."""
        elapsed_s = self._timer() - started_s
        if elapsed_s < self._threshold_s:
            return
        self.logs.tell(
            "warning",
            "slow_scan_page",
            trace=trace.hex(),
            consistency=query.level.name.lower(),
            namespace=query.namespace,
            keys=len(page.keys),
            elapsed_ms=round(elapsed_s * 1000, 1),
            answered=list(page.receipt.acknowledged) if page.receipt is not None else [],
        )


@dataclass(slots=True)
class Forwarding:
    """The story of a round that another node coordinates: it has one of its own there, under the same trace."""

    node: str

    def facts(self) -> tuple[str, float, dict[str, object]]:
        """See `Story`."""
        return f"forwarded to {self.node}", float("inf"), {}
