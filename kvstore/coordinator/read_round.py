"""What one turn of a read knows so far: what we hold, what others hold differently, who sits where, and how it stands. Waits for
nothing: get.py asks and hands the answers in."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kvstore.coordinator.allowance import Allowance
from kvstore.coordinator.batch import SubBatch
from kvstore.coordinator.replicas import LocalAnswer
from kvstore.coordinator.seats import Seats
from kvstore.core.policies.registry import join_records
from kvstore.core.quorum import Tally
from kvstore.core.record import (
    NO_DIGEST,
    digest,
    verify,
    written_ms,
)
from kvstore.core.record_writes import is_blind, unseen
from kvstore.core.versions import Context
from kvstore.transport.peers import FetchChunk

ON_ITS_WAY_MS = 500
"""A value that was written so lately, or will have been by our clock, is on its way to whoever has not got it: its coordinator has
sent it to all, and notes whom it could not tell (safety rule 12). To ask further and to send it once more would be to do everything
twice, and where keys are popular nearly every batch of reads meets some write."""


class ReadRound:
    """One sub-batch's read: what we hold, and what others hold differently."""

    __slots__ = (
        "allowance",
        "asked",
        "behind",
        "cut_at",
        "differed",
        "digests",
        "doubtful",
        "hedged",
        "held_bytes",
        "lost",
        "me",
        "merged_then",
        "notes",
        "others",
        "rebuilding",
        "records",
        "seats",
        "seen",
        "sub",
        "tally",
        "unconfirmed",
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
        self.merged_then: dict[str, dict[int, bytes]] = {}  # by node: the merges that it was asked to compare with
        self.digests: bytes | None = None
        self.hedged = False
        self.doubtful: frozenset[str] = frozenset()  # these may have acknowledged more than a quorum of others knows
        self.differed = bool(lost)
        self.seen: dict[int, Context] = {}  # what sessions have seen of some positions, as far as that is not nothing
        self.behind: set[int] = set()  # enough have answered, and what they hold is older than that
        self.unconfirmed: list[int] = []  # of an atomic read: enough have answered, and it is not known that they hold the same
        self.notes: list[str] = [f"{me} answered from its own replica"] if sub.group.explain else []

    def is_in_doubt(self, answered: Collection[str]) -> bool:
        """Whether somebody who is not among those that have answered may have acknowledged more than they know (safety rule 12)."""
        return bool(self.doubtful) and not self.doubtful.issubset(answered)

    def take(self, answer: LocalAnswer | FetchChunk | object, elapsed_s: float) -> None:
        """Counts one replica's answer and keeps what it holds differently. A record that fails its checksum is no answer."""
        assert isinstance(answer, FetchChunk)
        if self.sub.group.explain:
            said = f"failed: {answer.error.message}" if answer.error else f"differs at {len(answer.differing)} of {answer.count}"
            self.notes.append(f"{answer.node} {said} after {elapsed_s * 1000:.1f} ms")
        home = self.seats.home_of(answer.node)
        if answer.error is not None:
            self.tally.fail(home)
            if self.sub.degrades:
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
        for position, merged in self.merged_then.get(answer.node, {}).items():
            if position not in answer.differing and position not in refused:
                self.others.setdefault(position, {})[answer.node] = merged
        if answer.rebuilding:  # what it has is merged; what it has not, it may have lost (safety rule 5)
            self.abstain(home)
        else:
            self.tally.record(home, refused)

    def digests_of_merges(self, nodes: Sequence[str]) -> bytes:
        """For `nodes`, which are asked late: with what is found so far they need to send no copy of it."""
        merged = {position: record for position in self.others if (record := self.merged(position)) is not None}
        for node in nodes:
            self.merged_then[node] = merged
        found = [merged.get(position, record) for position, record in enumerate(self.records)]
        return b"".join([NO_DIGEST if record is None else digest(record) for record in found])

    def abstain(self, home: str) -> None:
        """`home` has lost records and does not know which: it does not count, as one that cannot be reached does not."""
        self.rebuilding.add(home)
        self.tally.fail(home)
        if self.sub.degrades:
            self.tally.settle_for_less()

    def substitute(self, node: str) -> str:
        """The stand-in that answers in the place of `node`, which does not; "" when there is none or none is wanted."""
        return self.seats.fill(self.seats.home_of(node)) if self.sub.sloppy else ""

    def hold(self, size_bytes: int) -> None:
        """So much was read, here or from others, and stays until the turn is over."""
        self.held_bytes += size_bytes
        self.allowance.charge(size_bytes)

    def holders_of(self, position: int) -> tuple[str, ...]:
        """Those that hold something of the key, among the ones that have lost records."""
        nodes = {self.seats.holders[home] for home in self.rebuilding if home in self.seats.holders}
        found = {self.me: self.records[position], **self.others.get(position, {})}
        return tuple(sorted([node for node in nodes if found.get(node) is not None]))

    def keep_behind(self, positions: Sequence[int]) -> list[int]:
        """Those of `positions` that are as new as what their sessions have seen; the others are `behind` from now on."""
        late = {position for position in positions if self.is_behind(position)}
        self.behind |= late
        return [position for position in positions if position not in late]

    def is_behind(self, position: int) -> bool:
        """Whether what was found is older than what its session has seen."""
        context = self.seen.get(position)
        if context is None:
            return False
        record = self.merged(position)
        return is_blind(record, context) or bool(unseen(record, context))

    def held_by(self, node: str, position: int) -> bytes | None:
        """What `node`, which has answered, holds."""
        held = self.records[position]
        return held if node == self.me else self.others.get(position, {}).get(node, held)

    def note(self, position: int, node: str, record: bytes) -> None:
        """`node`, which may have been asked already, or not count, holds this."""
        if record and verify(record):
            self.hold(len(record))
            self.others.setdefault(position, {})[node] = record
            self.differed = True

    def put_aside(self, positions: Sequence[int]) -> list[int]:
        """Those of `positions` that nobody has been asked for in vain: the others are read again."""
        assert self.cut_at is not None
        self.unread += [position for position in positions if position >= self.cut_at]
        return [position for position in positions if position < self.cut_at]

    def overdue(self, now_ms: int) -> list[int]:
        """Where somebody holds less than others and nothing is on its way to him that would explain it."""
        if not self.differed:
            return []
        found = [position for position in self.others if not self._is_on_its_way(position, now_ms)]
        return sorted({*found, *self.lost}) if self.lost else found

    def _is_on_its_way(self, position: int, now_ms: int) -> bool:
        record = self.merged(position)
        return record is not None and abs(now_ms - written_ms(record)) < ON_ITS_WAY_MS

    def merged(self, position: int) -> bytes | None:
        """The merge of what every answer so far holds."""
        record = self.records[position]
        for other in self.others.get(position, {}).values():
            if other is not None:
                record = other if record is None else join_records(self.sub.space.policy, record, other)
        return record
