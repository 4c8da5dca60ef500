"""The lines of the table, in its order, and the measurement each of a throughput line's figures comes from. A table.

A line without a bar is there because a reader will ask, also where the other side wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.bench.lines import Line, Sense

MOST, LEAST = Sense.AT_MOST, Sense.AT_LEAST
REPLICAS = 3
"""N: every put is written this many times, and raw LevelDB's once."""
MEMORY_MB_MAX = 250.0
START_S_MAX = 0.35

REGISTERS = ("registers",)
WAIT = "Redis SET + WAIT 1"
ALONE = "one Redis in memory"
LINES = (
    Line("put-256", "puts, 256 in flight", "/s", "etcd puts", LEAST, 4.0, ("etcd",)),
    Line("put-64", "puts, 64 in flight", "/s", "etcd puts", LEAST, 2.5, ("etcd",)),
    Line("put-256-raw", "puts x N, 256 in flight", "/s", "raw LevelDB, synced batches of 64", LEAST, 0.5, ("raw",)),
    Line("get-256", "gets, 256 in flight", "/s", "etcd linearizable gets", LEAST, 4.0, ("etcd",)),
    Line("put-1", "put, one at a time, p50", "ms", "etcd put", MOST, 1.0, ("etcd",)),
    Line("get-1", "get, one at a time, p50", "ms", "etcd linearizable get", MOST, 1.2, ("etcd",)),
    Line("put-many", "put_many of 1,000 keys", "keys/s", "etcd transactions of 64 puts", LEAST, 1.5, ("etcd",)),
    Line("put-256-redis", "puts, 256 in flight", "/s", WAIT, LEAST, 2.0, ("redis",)),
    Line("put-64-redis", "puts, 64 in flight", "/s", WAIT, LEAST, 1.0, ("redis",)),
    Line("put-1-redis", "put, one at a time, p50", "ms", WAIT, MOST, None, ("redis",)),
    Line("put-many-redis", "put_many of 1,000 keys", "keys/s", "Redis pipelines of 64 SETs + WAIT 1", LEAST, None, ("redis",)),
    Line("get-256-redis", "gets, 256 in flight", "/s", f"{ALONE}, GET", LEAST, 1.3, ("redis",)),
    Line("get-1-redis", "get, one at a time, p50", "ms", f"{ALONE}, GET", MOST, None, ("redis",)),
    Line("get-many-redis", "get_many of 1,000 keys", "keys/s", f"{ALONE}, pipelines of 64 GETs", LEAST, None, ("redis",)),
    Line("put-256-memory", "puts, 256 in flight", "/s", f"{ALONE}, SET", LEAST, None, ("redis",)),
    Line("put-256-defaults", "puts, 256 in flight, defaults", "/s", "the same, tuned as all others", LEAST, None, ("defaults",)),
    Line("get-256-defaults", "gets, 256 in flight, defaults", "/s", "the same, tuned as all others", LEAST, None, ("defaults",)),
    Line("put-256-registers", "puts on registers, 256 in flight", "/s", "puts at quorum", LEAST, 0.6, REGISTERS),
    Line("get-256-registers", "linearizable gets, 256 in flight", "/s", "gets at quorum", LEAST, 0.6, REGISTERS),
    Line("put-256-registers-etcd", "puts on registers, 256 in flight", "/s", "etcd puts", LEAST, 2.5, REGISTERS),
    Line("get-256-registers-etcd", "linearizable gets, 256 in flight", "/s", "etcd linearizable gets", LEAST, 2.5, REGISTERS),
    Line("put-1-registers", "put on a register, one at a time, p50", "ms", "put at quorum", MOST, 1.5, REGISTERS),
    Line("get-1-registers", "linearizable get, one at a time, p50", "ms", "get at quorum", MOST, 1.5, REGISTERS),
    Line("telemetry-cost", "puts and gets a second, counted", "%", "not counted", LEAST, 0.97, ("telemetry",)),
    Line("stalled-replica", "one stalled replica, others' p99", "ms", "the same load without", MOST, 2.0, ("isolation",)),
    Line("slow-key", "slow keys, others' p99", "ms", "the same load without", MOST, 2.0, ("isolation",)),
    Line("large-value", "a 1 MB value, others' p99", "ms", "the same load without", MOST, 2.0, ("isolation",)),
    Line("load-speed", "the last 100,000 of 1,000,000 keys", "keys/s", "the first 100,000", LEAST, 0.8, ("million",)),
    Line("load-memory", "largest node after 1,000,000 keys", "MB", "the bar", MOST, 1.0, ("million",)),
    Line("load-peak", "the most while they were loaded", "MB", "at the end", MOST, None, ("million",)),
    Line("mixed-memory", "its own memory after mixed load", "MB", "before it", MOST, 1.1, ("million",)),
    Line("start-ratio", "kv get, from start to exit", "s", "python -c 'import grpc'", MOST, 3.0, ("start",)),
    Line("start-seconds", "kv get, from start to exit", "s", "the bar", MOST, 1.0, ("start",)),
)
GROUPS = tuple(dict.fromkeys(group for line in LINES for group in line.groups))


class Load(NamedTuple):
    """One closed loop: kind of operation (workload.Workload.operation) and how many callers."""

    kind: str
    in_flight: int


class Source(NamedTuple):
    """Where a figure comes from: a side (see throughput.py) under a load; `raw` is LevelDB alone, whose load does not matter."""

    side: str
    load: Load


@dataclass(frozen=True, slots=True)
class Comparison:
    """A throughput line's two sources, what is read from each, and a factor on ours."""

    ours: Source
    other: Source
    figure: Literal["rate", "p50"] = "rate"
    factor: float = 1.0


def _against(other: str, kind: str, in_flight: int, figure: Literal["rate", "p50"] = "rate", *, ours: str = "ours") -> Comparison:
    load = Load(kind, in_flight)
    return Comparison(Source(ours, load), Source(other, load), figure)


COMPARISONS = {
    "put-256": _against("etcd", "put", 256),
    "put-64": _against("etcd", "put", 64),
    "put-256-raw": Comparison(Source("ours", Load("put", 256)), Source("raw", Load("put", 1)), factor=REPLICAS),
    "get-256": _against("etcd", "get", 256),
    "put-1": _against("etcd", "put", 1, "p50"),
    "get-1": _against("etcd", "get", 1, "p50"),
    "put-many": _against("etcd", "many", 1),
    "put-256-redis": _against("redis", "put", 256),
    "put-64-redis": _against("redis", "put", 64),
    "put-1-redis": _against("redis", "put", 1, "p50"),
    "put-many-redis": _against("redis", "many", 1),
    "get-256-redis": _against("redis-alone", "get", 256),
    "get-1-redis": _against("redis-alone", "get", 1, "p50"),
    "get-many-redis": _against("redis-alone", "many-gets", 1),
    "put-256-memory": _against("redis-alone", "put", 256),
    "put-256-defaults": _against("ours", "put", 256, ours="ours-defaults"),
    "get-256-defaults": _against("ours", "get", 256, ours="ours-defaults"),
    "put-256-registers": _against("ours", "put", 256, ours="ours-registers"),
    "get-256-registers": _against("ours", "get", 256, ours="ours-registers"),
    "put-256-registers-etcd": _against("etcd", "put", 256, ours="ours-registers"),
    "get-256-registers-etcd": _against("etcd", "get", 256, ours="ours-registers"),
    "put-1-registers": _against("ours", "put", 1, "p50", ours="ours-registers"),
    "get-1-registers": _against("ours", "get", 1, "p50", ours="ours-registers"),
}


class NativeLoad(NamedTuple):
    """What a native tool does on a side: puts or gets from `in_flight` connections, `pipeline` of them at once on each.

    The tools count operations and not seconds: `operations_per_s` is about what they do, so that a measurement has its length.
    """

    side: str
    kind: str
    in_flight: int
    operations_per_s: int
    pipeline: int = 1


NATIVE = {
    "put-256": NativeLoad("etcd", "put", 256, 8_000),
    "get-256": NativeLoad("etcd", "get", 256, 15_000),
    "put-256-redis": NativeLoad("redis", "put", 256, 25_000),
    "put-64-redis": NativeLoad("redis", "put", 64, 15_000),
    "put-many-redis": NativeLoad("redis", "put", 16, 100_000, 64),
    "get-256-redis": NativeLoad("redis-alone", "get", 256, 60_000),
    "get-many-redis": NativeLoad("redis-alone", "get", 16, 500_000, 64),
}
"""The other side's own load tool on a line's other side. Ours on ours is `kv bench` in two processes, where it does the same."""


def choose(only: Sequence[str]) -> list[Line]:
    """The lines of these names or groups; all for none. Raises `ValueError` for one that there is not."""
    known = {line.name for line in LINES} | set(GROUPS)
    if unknown := [name for name in only if name not in known]:
        raise ValueError(f"{', '.join(unknown)} is no line and no group of lines ({', '.join(GROUPS)})")
    return [line for line in LINES if not only or line.name in only or set(line.groups) & set(only)]
