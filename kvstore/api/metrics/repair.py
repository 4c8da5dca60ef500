"""Anti-entropy and what it rests on: whether trees are known, what differed, what was brought together, and who does not count."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from kvstore.api.metrics.families import counter, gauge
from kvstore.core.merkle.forest import Forest
from kvstore.repair.anti_entropy import AntiEntropy
from kvstore.repair.lost_records import LostRecords
from kvstore.repair.rebuilding import Rebuilding
from kvstore.repair.tree_keeper import TreeKeeper


def collect_repair(anti_entropy: AntiEntropy, lost: LostRecords) -> Iterator[Metric]:
    """What exchanges with peers came to."""
    rounds = [(("done",), anti_entropy.rounds), (("broke_off",), anti_entropy.failed)]
    yield counter("kv_repair_exchanges", "Exchanges with a peer.", ("outcome",), rounds)
    differences = [((), anti_entropy.differences)]
    yield counter("kv_repair_differences", "Keys that were found to differ from a peer's and to stay so.", (), differences)
    yield counter("kv_repair_keys", "Keys that exchanges brought together.", (), [((), anti_entropy.repaired)])
    yield counter("kv_repair_lost_records", "Records that could not be read and were brought back.", (), [((), lost.repaired)])
    ages = [((last.namespace, last.peer), last.age_s) for last in anti_entropy.last_rounds()]
    yield gauge("kv_repair_last_exchange_seconds", "Since the last exchange came to its end.", ("namespace", "peer"), ages)


def collect_trees(forest: Forest, keeper: TreeKeeper, rebuilding: Rebuilding) -> Iterator[Metric]:
    """The hash trees, and whether this node has lost records."""
    yield gauge(
        "kv_repair_trees_unknown", "Trees that are to be rebuilt before they are compared.", (), [((), forest.unknown_count)]
    )
    yield gauge("kv_repair_tree_bytes", "Leaves in memory.", (), [((), forest.size_bytes)])
    rebuilds = [(("done",), keeper.rebuilt), (("failed",), keeper.failed)]
    yield counter("kv_repair_tree_rebuilds", "Trees rebuilt, and attempts that could not be read.", ("outcome",), rebuilds)
    is_rebuilding = [((), float(bool(rebuilding.reason)))]
    yield gauge("kv_repair_rebuilding", "1 while this node has lost records and counts towards no quorum.", (), is_rebuilding)
