"""The workloads of `kv bench`: what is done, how often, and on which keys. A table.

a to f are YCSB's core workloads (Cooper et al., SoCC'10, table 2); put, get and mix are the plain ones, on uniform keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCAN_KEYS_MAX = 100
"""A scan is of 1 to so many keys, every length as likely as another."""


@dataclass(frozen=True, slots=True)
class Workload:
    """The share of each kind of operation, adding up to 1, and the distribution unless another is asked for.

    Kinds: `get`, `put` (over a key that exists), `insert` (a new key), `scan`, `rmw` (read, then write with the read's context).
    """

    title: str
    shares: Mapping[str, float]
    distribution: str

    @property
    def needs_keys(self) -> bool:
        """Whether every key has to be there before it begins."""
        return set(self.shares) != {"put"}


WORKLOADS: Mapping[str, Workload] = {
    "put": Workload("writes only", {"put": 1.0}, "uniform"),
    "get": Workload("reads only", {"get": 1.0}, "uniform"),
    "mix": Workload("half reads, half writes", {"get": 0.5, "put": 0.5}, "uniform"),
    "a": Workload("update heavy", {"get": 0.5, "put": 0.5}, "zipfian"),
    "b": Workload("read mostly", {"get": 0.95, "put": 0.05}, "zipfian"),
    "c": Workload("read only", {"get": 1.0}, "zipfian"),
    "d": Workload("read latest", {"get": 0.95, "insert": 0.05}, "latest"),
    "e": Workload("short ranges", {"scan": 0.95, "insert": 0.05}, "zipfian"),
    "f": Workload("read-modify-write", {"get": 0.5, "rmw": 0.5}, "zipfian"),
}
