"""What a node has for the day it comes back, made and ended as one: whether it was away for too long or has lost what it had, and
what becomes of what it held. starting.py asks, before the node serves.
"""

from __future__ import annotations

from kvstore.repair.absence import Absence
from kvstore.repair.rebuilding import Rebuilding
from kvstore.repair.set_aside import Keep, SetAside
from kvstore.repair.surroundings import Surroundings
from kvstore.repair.unsynced import Unsynced
from kvstore.storage.alive import AliveMark


class Returning:
    """One node's, from `start` to `stop`. `keep` as in `SetAside`."""

    def __init__(self, around: Surroundings, *, keep: Keep) -> None:
        me, storage, replica, ring, clock = around.config.node_id, around.storage, around.replica, around.ring, around.clock
        engine, committer, store = storage.engine, storage.committer, storage.store
        self.rebuilding = Rebuilding(me, engine, store, committer, storage.ledger, ring, around.registers.lose)
        self.rebuilding.unsynced = Unsynced(me, store, ring, may_have_lost=storage.may_have_lost)
        self.aside = SetAside(
            me=me,
            engine=engine,
            committer=committer,
            store=store,
            replica=replica,
            ring=ring,
            clock=clock,
            pace=around.pace,
            keep=keep,
        )
        self.absence = Absence(
            me=me,
            mark=AliveMark(engine, committer, clock),
            aside=self.aside,
            replica=replica,
            rebuilding=self.rebuilding,
            grace=around.grace,
            clock=clock,
            has_peers=bool(around.config.others),
        )

    def start(self) -> None:
        """Begins to note that the node is alive, and to judge what it has set aside."""
        self.absence.start()
        self.aside.start()

    def stop(self) -> None:
        """Ends both at once."""
        self.absence.stop()
        self.aside.stop()
