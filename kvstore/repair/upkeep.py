"""What every node has to keep its records in order, made and ended as one: it hands over what it held for others, and brings
deletes to their end.
"""

from __future__ import annotations

from collections.abc import Callable

from kvstore.core.doubts import Doubts
from kvstore.core.reaping import ReapingPlan
from kvstore.repair.hinted_handoff import HintedHandoff
from kvstore.repair.owing import Owing
from kvstore.repair.reap_votes import ReapVotes
from kvstore.repair.reaping import Reaper
from kvstore.repair.surroundings import Surroundings
from kvstore.storage.freshness import Freshness
from kvstore.storage.tombstones import ReapStamps


class Upkeep:
    """One node's, from `start` to `stop`. `doubts` and `freshness` are asked and told by whoever reads and writes."""

    def __init__(self, around: Surroundings, *, timer: Callable[[], float]) -> None:
        me, others, storage = around.config.node_id, around.config.others, around.storage
        store, hints, peers, ring, clock = storage.store, storage.hints, around.peers, around.ring, around.clock
        self.doubts = Doubts(others, peers.reachable)
        self.owing = Owing(me=me, others=others, hints=hints, peers=peers, doubts=self.doubts)
        self.handoff = HintedHandoff(
            me=me,
            hints=hints,
            store=store,
            ledger=storage.ledger,
            peers=peers,
            ring=ring,
            clock=clock,
            pace=around.pace,
            owing=self.owing,
        )
        self.freshness = Freshness(me, clock, around.grace)
        self.stamps = ReapStamps(storage.engine)
        self.reap_votes = ReapVotes(me=me, store=store, hints=hints, stamps=self.stamps, ring=ring, clock=clock)
        self.reaper = Reaper(
            me=me,
            store=store,
            replica=around.replica,
            votes=self.reap_votes,
            plan=ReapingPlan(around.grace),
            peers=peers,
            ring=ring,
            clock=clock,
            timer=timer,
        )

    def start(self) -> None:
        """Begins to hand over and to sweep."""
        self.handoff.start()
        self.reaper.start()

    def stop(self) -> None:
        """Ends both, and what is being told."""
        self.handoff.stop()
        self.owing.stop()
        self.reaper.stop()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self.reaper.check()
