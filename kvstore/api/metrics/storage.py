"""The commit thread, the engine and the record cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from prometheus_client.core import Metric

from kvproto.errors import StorageError
from kvstore.api.metrics.families import Row, counter, gauge, histogram
from kvstore.cluster.view import RingView
from kvstore.local_node import LocalNode
from kvstore.storage.engine import Engine
from kvstore.storage.layout import partition_range
from kvstore.storage.level_stats import parse_level_stats
from kvstore.telemetry.meters import CommitMeter

KEYS_READ_MAX = 20_000
"""A scrape reads about so many keys at the most to estimate how many there are."""


class KeyEstimate:
    """How many keys an engine holds: partitions are counted in turn, some at each call, and stand for the others. Keys spread
    evenly, because their hash chooses the partition. One that holds more than a call reads counts as what was read."""

    def __init__(self, engine: Engine, *, keys_read_max: int = KEYS_READ_MAX) -> None:
        self._engine = engine
        self._keys_read_max = keys_read_max
        self._counts: dict[int, int] = {}
        self._next = 0

    def estimate(self, partitions: Sequence[int]) -> float:
        """The keys in `partitions`, tombstones included: exact, as of now, if they are few. Raises `StorageError`."""
        left = self._keys_read_max
        for _ in partitions:
            partition = partitions[self._next % len(partitions)]
            found = self._engine.keys(*partition_range(partition))
            self._counts[partition] = keys = sum(1 for _ in islice(found, self._keys_read_max))
            self._next += 1
            left -= keys
            if left <= 0:
                break
        counted = [self._counts[partition] for partition in partitions if partition in self._counts]
        return sum(counted) / len(counted) * len(partitions) if counted else 0.0


def collect_commits(local: LocalNode, meter: CommitMeter) -> Iterator[Metric]:
    """Group commit: how much each sync carries, and how long it takes."""
    committer = local.committer
    yield histogram("kv_commit_records", "Records of one batch, written and synced together.", (), [((), meter.sizes)])
    yield histogram("kv_commit_duration_seconds", "Writing and syncing one batch.", (), [((), meter.durations)])
    yield counter("kv_commit_stalls", "Batches that took more than 0.25 s.", (), [((), meter.stalls)])
    yield gauge("kv_commit_queue_records", "Records that wait for the next batch.", (), [((), committer.queued_count)])
    stuck_s = committer.stuck_s()
    yield gauge("kv_commit_stuck_seconds", "How long the batch on the commit thread has been there.", (), [((), stuck_s)])


def collect_store(local: LocalNode) -> Iterator[Metric]:
    """What is held in memory."""
    store, cache = local.store, local.store.cache
    yield gauge("kv_records_quarantined", "Records that cannot be read and are not served.", (), [((), store.quarantined)])
    yield gauge("kv_record_cache_bytes", "What the cache of recent records holds.", (), [((), cache.size_bytes)])
    yield gauge("kv_record_cache_limit_bytes", "What it may hold.", (), [((), cache.bytes_max)])
    yield gauge("kv_record_cache_records", "Records in it.", (), [((), len(cache.records))])
    yield counter("kv_record_cache_lookups", "Records looked for in it.", (), [((), store.lookups)])
    yield counter("kv_record_cache_misses", "Records that were not in it and were read from the engine.", (), [((), store.misses)])


def collect_memory(local: LocalNode) -> Iterator[Metric]:
    """The namespaces in memory, of which configurations and clusters have few."""
    uses, name = local.memory.uses(), ("namespace",)
    rows = [((use.namespace,), use) for use in uses]
    yield gauge("kv_memory_keys", "Keys of a namespace in memory.", name, [(of, use.keys) for of, use in rows])
    yield gauge("kv_memory_bytes", "What they take.", name, [(of, use.bytes) for of, use in rows])
    yield gauge("kv_memory_limit_bytes", "What they may take.", name, [(of, use.max_bytes) for of, use in rows])
    yield counter("kv_memory_evictions", "Records that had to make room.", name, [(of, use.evictions) for of, use in rows])
    syncs = [((), local.committer.syncs)]
    yield counter("kv_commit_syncs", "Batches that were synced; the others are of namespaces that are not.", (), syncs)


def collect_engine(engine: Engine, view: RingView, keys: KeyEstimate) -> Iterator[Metric]:
    """What is held on disk; nothing once the engine is closed. Reads it: for another thread than the event loop's."""
    owned = [partition for partition, owners in enumerate(view.preference) if view.me in owners]
    try:
        yield gauge("kv_storage_keys", "Keys held here, tombstones included; an estimate.", (), [((), keys.estimate(owned))])
        yield gauge("kv_storage_bytes", "Files of the engine, its log included.", (), [((), engine.size_bytes())])
        yield from _collect_levels(engine.statistics())
    except StorageError:
        return


def _collect_levels(told: dict[str, str]) -> Iterator[Metric]:
    level = ("level",)
    stats = parse_level_stats(told.get("levels", ""))

    def rows(name: str) -> list[Row]:
        return [((str(one.level),), getattr(one, name)) for one in stats]

    def row(name: str) -> list[Row]:
        return [((), float(told[name]))] if told.get(name, "").isdecimal() else []

    yield gauge("kv_storage_memory_bytes", "Write buffers and block cache of the engine.", (), row("memory_bytes"))
    yield gauge("kv_storage_large_values", "Values that lie in files beside the tables.", (), row("large_values"))
    yield gauge("kv_storage_large_value_bytes", "What they take.", (), row("large_value_bytes"))
    yield gauge("kv_storage_large_value_file_bytes", "What their files take.", (), row("large_value_file_bytes"))
    yield gauge("kv_storage_level_files", "Sorted tables of a level.", level, rows("files"))
    yield gauge("kv_storage_level_bytes", "Their size, in whole MiB.", level, rows("size_bytes"))
    yield counter("kv_storage_compaction_seconds", "Time spent on compactions into a level.", level, rows("compaction_s"))
    yield counter("kv_storage_compaction_read_bytes", "What they have read.", level, rows("read_bytes"))
    yield counter("kv_storage_compaction_written_bytes", "What they have written.", level, rows("written_bytes"))
