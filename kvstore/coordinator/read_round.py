"""What one turn of a read knows so far: what we hold, what others hold differently, who sits where, and how it stands. Waits for
nothing: get.py asks and hands the answers in."""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.coordinator.allowance import Allowance
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.replicas import LocalAnswer
from kvstore.coordinator.seats import Seats
from kvstore.core.policies.registry import join_records
from kvstore.core.quorum import Tally
from kvstore.core.record import verify
from kvstore.transport.peers import FetchChunk


class ReadRound:
    """One sub-batch's read: what we hold, and what others hold differently."""

    __slots__ = (
        "allowance",
        "asked",
        "cut_at",
        "differed",
        "digests",
        "hedged",
        "held_bytes",
        "is_in_doubt",
        "lost",
        "me",
        "notes",
        "others",
        "rebuilding",
        "records",
        "seats",
        "sub",
        "tally",
        "unread",
    )

    def __init__(
        self,
        sub: SubBatch,
        tally: Tally,
        seats: Seats,
        records: list[bytes | None],
        lost: Sequence[int],
        me: str,
        allowance: Allowance,
    ) -> None:
        self.allowance = allowance
        self.held_bytes = 0
        self.cut_at: int | None = None  # somebody has answered only what comes before
        self.unread: list[int] = []
        self.rebuilding: set[str] = set()  # homes that have answered and do not count
        self.sub = sub
        self.tally = tally
        self.seats = seats
        self.records = records
        self.me = me
        self.others: dict[int, dict[str, bytes | None]] = {}  # position -> node -> what it holds, where that differs from ours
        self.lost = lost
        self.asked: list[str] = []
        self.digests: bytes | None = None
        self.hedged = False
        self.is_in_doubt = False  # somebody may have acknowledged more than a quorum of others knows
        self.differed = bool(lost)
        self.notes: list[str] = [f"{me} answered from its own replica"] if sub.group.explain else []

    def take(self, answer: LocalAnswer | FetchChunk | object, elapsed_s: float) -> None:
        """Counts one replica's answer and keeps what it holds differently. A record that fails its checksum is no answer."""
        assert isinstance(answer, FetchChunk)
        if self.sub.group.explain:
            said = f"failed: {answer.error.message}" if answer.error else f"differs at {len(answer.differing)} of {answer.count}"
            self.notes.append(f"{answer.node} {said} after {elapsed_s * 1000:.1f} ms")
        home = self.seats.home_of(answer.node)
        if answer.error is not None:
            self.tally.fail(home)
            if self.sub.sloppy:
                self.tally.settle_for_less()
            return
        refused = list(answer.lost)
        if answer.answered_below < answer.count:
            self.cut_at = min(answer.answered_below, answer.count if self.cut_at is None else self.cut_at)
            refused += range(answer.answered_below, answer.count)
        if answer.records:
            self.hold(sum(map(len, answer.records)))
        for position, record in zip(answer.differing, answer.records, strict=True):
            if record and not verify(record):
                refused.append(position)
                continue
            self.others.setdefault(position, {})[answer.node] = record or None
        self.differed = self.differed or bool(answer.differing) or bool(refused)
        if answer.rebuilding:  # what it has is merged; what it has not, it may have lost (safety rule 5)
            self.abstain(home)
        else:
            self.tally.record(home, refused)

    def abstain(self, home: str) -> None:
        """`home` has lost records and does not know which: it does not count, as one that cannot be reached does not."""
        self.rebuilding.add(home)
        self.tally.fail(home)
        if self.sub.sloppy:
            self.tally.settle_for_less()

    def substitute(self, node: str) -> str:
        """The stand-in that answers in the place of `node`, which does not; "" when there is none or none is wanted."""
        return self.seats.fill(self.seats.home_of(node)) if self.sub.sloppy else ""

    def hold(self, size_bytes: int) -> None:
        """So much was read, here or from others, and stays until the turn is over."""
        self.held_bytes += size_bytes
        self.allowance.charge(size_bytes)

    def put_aside(self, positions: Sequence[int]) -> list[int]:
        """Those of `positions` that nobody has been asked for in vain: the others are read again."""
        assert self.cut_at is not None
        self.unread += [position for position in positions if position >= self.cut_at]
        return [position for position in positions if position < self.cut_at]

    def merged(self, position: int) -> bytes | None:
        """The merge of what every answer so far holds."""
        record = self.records[position]
        for other in self.others.get(position, {}).values():
            if other is not None:
                record = other if record is None else join_records(self.sub.space.policy, record, other)
        return record
