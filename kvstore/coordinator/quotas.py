"""What namespaces may use a second: operations and bytes of all their clients together, as their configuration says.

A quota is the cluster's, and each node grants an equal part of it without asking the others: clients spread their keys over all of
them, so that a part is what comes to a node. Nodes that this one thinks dead have no part: what is left of a cluster grants all of
it. On each side of a split that is the whole quota, and never more. Bytes are what clients send and what they are answered.
Namespaces without a quota cost nothing. Called by api/key_value.py, once a group of a batch; belongs to one event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil

from kvproto.errors import QuotaExceeded
from kvstore.config import NamespaceConfig
from kvstore.core.quota import TokenBucket

RETRY_AFTER_S_MIN = 0.01


class Quota:
    """One namespace's part at this node. `refused`: operations, by which of the two was used up."""

    __slots__ = ("_asked", "_config", "_nodes", "_sharers", "buckets", "refused")

    def __init__(self, config: NamespaceConfig, sharers: Callable[[], int]) -> None:
        """`sharers`: how many nodes share in granting it, this one among them."""
        self._config = config
        self._sharers = sharers
        self._nodes = max(1, sharers())
        asked = {"operations": config.quota_operations_per_s, "bytes": config.quota_bytes_per_s}
        self._asked = {what: rate for what, rate in asked.items() if rate}
        self.buckets = {what: TokenBucket(rate / self._nodes) for what, rate in self._asked.items()}
        self.refused = dict.fromkeys(self.buckets, 0)

    def share(self) -> None:
        """From here on the part is one of as many as there are now."""
        nodes = max(1, self._sharers())
        if nodes != self._nodes:
            self._nodes = nodes
            for what, bucket in self.buckets.items():
                bucket.rate = self._asked[what] / nodes

    def refusal(self, operations: int, now_s: float) -> QuotaExceeded | None:
        """Why these operations may not be done now; None: they may, and somebody will `take` what they use."""
        self.share()
        for what, bucket in self.buckets.items():
            wait_s = bucket.wait_s(now_s)
            if wait_s > 0:
                self.refused[what] += operations
                limit = self._config.quota_operations_per_s if what == "operations" else self._config.quota_bytes_per_s
                name = self._config.name
                return QuotaExceeded(
                    f"namespace {name!r} has used up its quota_{what}_per_s of {limit:,}",
                    retry_after_s=max(RETRY_AFTER_S_MIN, ceil(wait_s * 1000) / 1000),
                    limit=limit,
                    subject=name,
                )
        return None

    def take(self, operations: int, size_bytes: int) -> None:
        """So much was used."""
        for what, bucket in self.buckets.items():
            bucket.take(operations if what == "operations" else size_bytes)


class Quotas:
    """Those of every namespace that has one, by its name."""

    def __init__(self, namespaces: Mapping[str, NamespaceConfig], sharers: Callable[[], int]) -> None:
        """`sharers`: how many nodes share in granting them, as far as this one knows."""
        self._sharers = sharers
        self.of: dict[str, Quota] = {}
        for name, config in sorted(namespaces.items()):
            self.install(name, config)

    def install(self, name: str, config: NamespaceConfig | None) -> None:
        """From here on `config` says what `name` may use; None: there is no such namespace any more."""
        self.of.pop(name, None)
        if config is not None and (config.quota_operations_per_s or config.quota_bytes_per_s):
            self.of[name] = Quota(config, self._sharers)
