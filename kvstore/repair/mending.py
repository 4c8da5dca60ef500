"""What a node that has peers mends with their help, made and ended as one: its hash trees, what it differs in, records that it has
lost, and registers that it may not vote on.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from kvstore.core.merkle.forest import Forest
from kvstore.repair.answering import Answering
from kvstore.repair.anti_entropy import AntiEntropy
from kvstore.repair.lost_records import LostRecords
from kvstore.repair.readmitting import Readmitting
from kvstore.repair.rebuilding import Rebuilding
from kvstore.repair.surroundings import Surroundings
from kvstore.repair.tree_keeper import TreeKeeper
from kvstore.repair.unnoted import Unnoted
from kvstore.storage.freshness import Freshness


class Mending:
    """One node's, from `start` to `stop`."""

    def __init__(
        self,
        around: Surroundings,
        forest: Forest,
        *,
        answering: Answering,
        rebuilding: Rebuilding,
        freshness: Freshness,
        rng: random.Random,
        incarnation: int,
        is_busy: Callable[[], bool],
        taken: Callable[[bytes], bytes],
        read_catalog: Callable[[float], Awaitable[object]],
    ) -> None:
        """`incarnation` is that of this process's ballots; `is_busy` as in `AntiEntropy`; `taken` and `read_catalog` as in
        `Readmitting`."""
        config, storage, replica, peers = around.config, around.storage, around.replica, around.peers
        me, store, ring, pace = config.node_id, storage.store, around.ring, around.pace
        self.trees = TreeKeeper(me=me, forest=forest, store=store, replica=replica, pace=pace)
        self.lost_records = LostRecords(me=me, store=store, peers=peers, ring=ring, freshness=freshness, pace=pace)
        self.anti_entropy = AntiEntropy(
            me=me,
            forest=forest,
            store=store,
            replica=replica,
            peers=peers,
            ring=ring,
            hints=storage.hints,
            rebuilding=rebuilding,
            unnoted=Unnoted(storage.engine, storage.committer, config.others, may_have_lost=storage.may_have_lost_hints),
            answering=answering,
            others=config.others,
            freshness=freshness,
            pace=pace,
            is_busy=is_busy,
            rng=random.Random(rng.getrandbits(64)),
            interval_s=config.limits.repair_interval_s,
        )
        self.readmitting = Readmitting(
            me=me,
            registers=around.registers,
            taken=taken,
            peers=peers,
            ring=ring,
            pace=pace,
            rng=random.Random(incarnation),
            read_catalog=read_catalog,
        )

    def start(self) -> None:
        """Begins all of it."""
        self.trees.start()
        self.anti_entropy.start()
        self.lost_records.start()
        self.readmitting.start()

    def stop(self) -> None:
        """Ends all of it at once."""
        self.trees.stop()
        self.anti_entropy.stop()
        self.lost_records.stop()
        self.readmitting.stop()
