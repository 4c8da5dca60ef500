"""What owners of registers tell each other of their groups in the world of register_world.py: rounds, scans, repair and reads
without a round trip; and the judge of those reads. `PROGRESSES` and `HORIZONS` leave out one rule each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvstore.core.register import held as registers
from kvstore.core.register import payload as payloads
from kvstore.core.register.ballot import GROUP_BYTES
from kvstore.core.register.changes import Kind, Operation
from kvstore.core.register.listing import Listing, decode_listing, differing, encode_listing, read_listing
from kvstore.core.register.messages import Ask, Reply, Step, decode_reply
from kvstore.core.register.progress import Progress
from kvstore.core.register.timeline_read import shown
from kvstore.core.register.tracker import decode_horizon, decode_since, encode_horizon, encode_since

if TYPE_CHECKING:
    from tests.laws.register_world import Replica, World


@dataclass
class Read:
    """A read without a round trip: by whom, what, as of when it says it is, and when it was."""

    at: int
    key: bytes
    payload: bytes | None
    fresh: float
    now: int


class Horizons:
    """All that goes on beside operations. Drawn apart, so that schedules stay what they were."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(f"horizons/{seed}")
        self.turns = random.Random(f"watching/{seed}")
        self.asking = self.rng.choice([0.05, 0.3, 0.8])
        self.repairing = self.rng.choice([0, 0.1, 0.3])
        self.reads: list[Read] = []
        self.proven = self.settled = 0

    def happen(self) -> None:
        """What nodes do by themselves, and a read of everything everywhere."""
        world, rng = self.world, self.rng
        for replica in world.replicas:
            if self.turns.random() < world.resting:
                some = frozenset(group for group in replica.tracker.groups if self.turns.random() < 0.5)
                self.watch(replica, self.turns.choice([None, frozenset(), some]))
            if rng.random() < self.asking:
                self.ask(replica, rng.choice([at for at in range(len(world.replicas)) if at != replica.at]))
            for group in replica.tracker.unknown(lambda group, replica=replica: group not in replica.disk.lost):  # type: ignore[misc]
                self.scan(replica, group)
            if rng.random() < self.repairing:
                self.repair(replica)
            for key in world.keys:
                self.read(replica, key)

    def watch(self, replica: Replica, groups: frozenset[bytes] | None) -> None:
        """Some groups are watched from now on, and the others rest."""
        tracker = replica.tracker
        marks = tracker.watch(groups)
        replica.disk.queue.append(({}, {}, lambda: tracker.became_durable(marks)))

    # --- rounds

    def ask(self, replica: Replica, other: int) -> None:
        from tests.laws.register_world import NODES

        tracker, node, now = replica.tracker, NODES[other], self.world.now
        since = tracker.since(node)
        ask = Ask(Step.HORIZON, [encode_since(since)])

        def heard(target: str, answer: bytes) -> None:
            if replica.tracker is tracker:
                tracker.hear(node, now, since, decode_horizon(decode_reply(answer, ask).states[0]))

        self.world.send_ask(replica.at, ask, [node], heard)

    def answer(self, replica: Replica, ask: Ask, reply: Callable[[Reply], None]) -> None:
        """A question of no ballot."""
        if not ask.keys:  # all of it is lost
            reply(Reply(ask.step, 0))
        elif ask.step is Step.HORIZON:
            horizon = replica.tracker.tell(decode_since(ask.keys[0]))
            digests = {group: None if group in replica.disk.lost else digest for group, digest in horizon.digests.items()}
            reply(Reply(ask.step, 1, states=[encode_horizon(horizon._replace(digests=digests))]))
        elif ask.step is Step.LIST:
            replica.disk.queue.append(
                ({}, {}, lambda: reply(Reply(ask.step, 1, states=[encode_listing(self.listing(replica, ask.keys[0]))])))
            )
        else:
            reply(Reply(ask.step, len(ask.keys)))
            self.settle(replica.at, ask.keys)

    def listing(self, replica: Replica, cursor: bytes) -> Listing:
        held = replica.disk.held
        pairs = [(key, held[key]) for key in sorted(held) if key[:GROUP_BYTES] == cursor[:GROUP_BYTES] and key >= cursor]
        return read_listing(pairs, cursor, 1 if self.world.small_pages else 99, 7)

    def scan(self, replica: Replica, group: bytes) -> None:
        """The next page of a scan, as of when everything decided before is durable."""
        tracker, progress = replica.tracker, replica.tracker.groups[group]
        scan, cursor = progress.scans, progress.scanned_to or group

        def told() -> None:
            if replica.tracker is not tracker or progress.is_known or (progress.scanned_to or group) != cursor:
                return
            listing = self.listing(replica, cursor)
            end = listing.keys[-1] if listing.more else None
            marks = tracker.scanned(group, scan, zip(listing.keys, listing.digests, strict=True), end)
            if marks:
                replica.disk.queue.append(({}, {}, lambda: tracker.became_durable(marks)))

        replica.disk.queue.append(({}, {}, told))

    # --- repair

    def repair(self, replica: Replica) -> None:
        """Lists what another one holds, that is not where we are, and has what differs settled."""
        from tests.laws.register_world import NODES

        for group, progress in replica.tracker.groups.items():
            for node in progress.look(2)[:1] if group not in replica.disk.lost else ():
                ask = Ask(Step.LIST, [group])

                def heard(target: str, answer: bytes, group: bytes = group, ask: Ask = ask) -> None:
                    reply = decode_reply(answer, ask)
                    if not reply.refused:
                        found, _ = differing(self.listing(replica, group), decode_listing(reply.states[0], group))
                        self.mend(replica, target, list(found))

                self.world.send_ask(replica.at, ask, [node], heard)
        assert len(NODES) == len(self.world.replicas)

    def mend(self, replica: Replica, other: str, keys: Sequence[bytes]) -> None:
        """Hands them to whoever is taken for their proposer."""
        from tests.laws.register_world import NODES

        if keys:
            leader = 0 if self.rng.random() < self.world.steady else self.rng.randrange(len(NODES))
            self.world.send_ask(replica.at, Ask(Step.SETTLE, keys), [NODES[leader]], lambda *_: None)

    def settle(self, at: int, keys: Sequence[bytes]) -> None:
        self.settled += len(keys)
        self.world.proposers[at].submit([Operation(Kind.SETTLE, key) for key in keys])

    # --- reads

    def read(self, replica: Replica, key: bytes) -> None:
        group = key[:GROUP_BYTES]
        progress = replica.tracker.groups[group]
        proof = replica.tracker.proof(group)
        if proof is None or group in replica.disk.lost:
            return
        known, payload = shown(key, replica.lookup(key), progress, replica.core, proof)
        if known:
            self.proven += 1
            self.reads.append(Read(replica.at, key, payload, proof[0], self.world.now))

    def are_true(self) -> bool:
        """Whether each read shows a value that was committed, in one order, and nothing older than its proof says."""
        from tests.laws.register_world import number

        for read in self.reads:
            if read.payload is not None:
                self.world.timeline.setdefault((read.key, number(read.payload)), read.now)
        return self._go_forward() and all(map(self._is_fresh, self.reads))

    def _go_forward(self) -> bool:
        last: dict[tuple[int, bytes], bytes] = {}
        for read in self.reads:
            version = payloads.version_or_none(read.payload)
            if read.payload is not None and version < last.get((read.at, read.key), b""):
                return False
            if read.payload is not None:
                last[read.at, read.key] = version
        return True

    def _is_fresh(self, read: Read) -> bool:
        writes = [entry for entry in self.world.history if entry.key == read.key and entry.version and entry.kind != "r"]
        before = [entry for entry in writes if entry.ret is not None and entry.ret < read.fresh]
        latest = max(before, key=lambda entry: entry.version, default=None)
        if latest is None:
            return True
        if read.payload is not None:
            return payloads.version(read.payload) >= latest.version
        if latest.kind == "d":
            return True
        # Nothing at all is there: a tombstone above it was reaped.
        deletes = [entry for entry in self.world.history if entry.key == read.key and entry.kind == "d" and entry.call <= read.now]
        return any(not entry.version or entry.version > latest.version for entry in deletes if not entry.certainly_not)


# --- rules left out


class Unproven(Progress):
    def proof(self, as_of_s):  # type: ignore[no-untyped-def]
        return None if self.durable < 0 else (max(as_of_s.values(), default=-1.0), self.durable)


class ConfirmedByNobody(Progress):
    def is_chosen(self, store_key):  # type: ignore[no-untyped-def]
        return True


class ShowsBelow(Progress):
    def changed_after(self, store_key, proof):  # type: ignore[no-untyped-def]
        return True


class KeepsTime(Progress):
    """What another one told before is taken to hold as of the latest question, although it has told something else."""

    def hear(self, node, digest, before_s):  # type: ignore[no-untyped-def]
        super().hear(node, digest, before_s)
        told = self.told[node]
        if told.number < 0 <= told.kept_number:
            told.kept_s = float(1 << 40)


class CopiesState(Horizons):
    """Repair takes over what another one has accepted."""

    def mend(self, replica: Replica, other: str, keys: Sequence[bytes]) -> None:
        from tests.laws.register_world import NODES

        source = self.world.replicas[NODES.index(other)]
        for key in keys:
            held, mine = source.disk.held.get(key), replica.lookup(key)
            if held is None or (mine is not None and registers.stamp(mine) >= registers.stamp(held)):
                continue
            marks = replica.tracker.decide([(key, held)], [], {key: mine}, self.world.now)
            replica.staged[key] = held
            replica.disk.queue.append(({key: held}, {}, lambda marks=marks: replica.tracker.became_durable(marks)))  # type: ignore[misc]


PROGRESSES: dict[str, type[Progress]] = {
    "timeline-unproven": Unproven,
    "timeline-confirmed-by-nobody": ConfirmedByNobody,
    "timeline-shows-below": ShowsBelow,
    "timeline-keeps-time": KeepsTime,
}

HORIZONS: dict[str, type[Horizons]] = {"repair-copies-accepted": CopiesState}
