"""The counters of a node's own logic: plain numbers in plain objects, added to per batch and read by whoever serves metrics.

Each is handed the timer of the seams, so that the simulation's nodes count virtual seconds. Nothing is decided by them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kvproto.columns import GroupReply, Kind, Level, OperationGroup
from kvproto.errors import Code, KvError
from kvstore.telemetry.histogram import REPLICAS, SECONDS, SIBLINGS, SIZES, Histogram

STALL_S = 0.25
"""A commit that takes longer held up every write of the node for as long as a client hardly waits."""

Timer = Callable[[], float]
"""Seconds since some moment, finer than an event loop's clock; for durations only. Asked on any thread."""


class OperationMeter:
    """Operations of one kind at one level: how long they took, and how they ended."""

    __slots__ = ("durations", "failed", "ok")

    def __init__(self) -> None:
        self.durations = Histogram(SECONDS)
        self.ok = 0
        self.failed: Counter[Code] = Counter()


class RequestMeter:
    """What a coordinator was asked, and what became of it."""

    __slots__ = (
        "acknowledged",
        "batch_durations",
        "batch_sizes",
        "forwarded",
        "hedged",
        "operations",
        "quorum_failures",
        "scan_pages",
        "siblings",
        "stale",
        "timer",
    )

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.operations = {kind: [OperationMeter() for _ in Level] for kind in Kind}  # a list, by the number of the level
        self.scan_pages = [OperationMeter() for _ in Level]
        self.batch_sizes = Histogram(SIZES)
        self.batch_durations = Histogram(SECONDS)
        self.acknowledged = {kind: Histogram(REPLICAS) for kind in Kind}
        self.siblings = Histogram(SIBLINGS)
        self.quorum_failures: Counter[tuple[Kind, str]] = Counter()
        self.forwarded = 0
        self.stale = 0
        self.hedged = 0

    def answered(self, group: OperationGroup, reply: GroupReply, count: int, started_s: float) -> None:
        """`reply` answers `count` operations of `group`, whose batch came at `started_s`."""
        kind, error = group.kind, reply.error
        meter = self.operations[kind][group.level]
        meter.durations.add(self.timer() - started_s, count)
        if error is not None:
            meter.failed[error.code] += count
            reason = why_no_quorum(error)
            if reason:
                self.quorum_failures[kind, reason] += count
            return
        meter.ok += count
        if reply.receipt is not None:
            self.acknowledged[kind].add(len(reply.receipt.acknowledged), count)
        if kind is Kind.GET and not reply.kinds:  # the elements of a set are no siblings
            if not reply.counts:
                self.siblings.add(1, count)
            else:
                for siblings, keys in Counter(reply.counts).items():
                    self.siblings.add(siblings, keys)

    def batch_done(self, operations: int, started_s: float) -> None:
        """All of a batch's operations were answered."""
        self.batch_sizes.add(operations)
        self.batch_durations.add(self.timer() - started_s)

    def page_done(self, level: Level, error: KvError | None, started_s: float) -> None:
        """A page of a scan, or what ended it."""
        meter = self.scan_pages[level]
        meter.durations.add(self.timer() - started_s)
        if error is None:
            meter.ok += 1
        else:
            meter.failed[error.code] += 1


def why_no_quorum(error: KvError) -> str:
    """Why a level was not reached; "" for any other error. `out_of_reach`: too few replicas could be asked, nothing was written;
    `too_few`: they were asked and failed; `too_late`: the deadline came first."""
    if error.code is Code.DEADLINE_EXCEEDED:
        return "too_late"
    if error.code is Code.QUORUM_UNREACHABLE:
        return "too_few" if error.contacted else "out_of_reach"
    return ""


class CommitMeter:
    """A commit thread's batches."""

    __slots__ = ("durations", "sizes", "stalls", "timer")

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.sizes = Histogram(SIZES)
        self.durations = Histogram(SECONDS)
        self.stalls = 0

    def written(self, records: int, elapsed_s: float) -> None:
        """A batch was written and synced, or failed to be."""
        self.sizes.add(records)
        self.durations.add(elapsed_s)
        if elapsed_s > STALL_S:
            self.stalls += 1


class LinkMeter:
    """One peer's link, as seen from here: messages, and the operations (records to store, keys to compare) in them."""

    __slots__ = ("answered", "failed", "messages", "round_trips")

    def __init__(self) -> None:
        self.round_trips = Histogram(SECONDS)
        self.messages = 0
        self.answered = 0
        self.failed = 0


class MethodMeter:
    """Calls of one gRPC method; a stream is one call."""

    __slots__ = ("durations", "handled", "started")

    def __init__(self) -> None:
        self.started = 0
        self.handled: Counter[str] = Counter()  # by the name of the status code
        self.durations = Histogram(SECONDS)


class CallMeter:
    """Every gRPC call of a node, by (type, service, method) under the names of go-grpc-prometheus."""

    __slots__ = ("methods", "timer")

    def __init__(self, timer: Timer) -> None:
        self.timer = timer
        self.methods: dict[tuple[str, str, str], MethodMeter] = {}

    def method(self, kind: str, service: str, name: str) -> MethodMeter:
        """The meter of one method that the server has: strangers cannot make up others."""
        return self.methods.setdefault((kind, service, name), MethodMeter())
