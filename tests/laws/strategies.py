"""Reachable records: whatever a random schedule of puts, retries, merges and crashes leaves at four replicas, as bytes.

Records drawn field by field would break laws that hold for every record a cluster can make (a dot with two values, a vector that
covers what was never written), so nothing here is drawn but the schedule. It shrinks to the shortest one that still fails.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from hypothesis import strategies as st

from kvstore.core.record import (
    decode,
    decode_context,
    encode,
    encode_context,
    expire_record,
    floor_ms,
    may_expire,
    read_siblings,
    sole_context,
    touch_record,
)
from kvstore.core.record_writes import (
    Minted,
    first_record,
    known_request,
    merge_records,
    mint,
    overwrite,
    replaces,
    unseen,
)
from kvstore.core.versions import NO_REQUEST, NOTHING, OVERWRITE, Context, Sibling, make_dot, merge

NOW_MS = 1_700_000_000_000
Op = tuple[str, int, int]
OPS = [
    *["overwrite"] * 5,
    *["merge"] * 3,
    *["exact", "empty", "plus", "delete", "expiring", "anonymous", "retry", "read", "late", "crash", "sweep", "touch"],
]


@dataclass(slots=True, frozen=True)
class Limits:
    """What of request ids is remembered, where counters begin, and whether clocks disagree."""

    retries_max: int = 64
    window_ms: int = 1_000_000
    counter_from: int = 0
    skew_ms: int = 0


@dataclass(slots=True, frozen=True)
class Sent:
    """One request, as often as it is sent."""

    request_id: bytes
    token: bytes
    value: bytes | None
    expires_ms: int


@dataclass(slots=True)
class Universe:
    """One key at four replicas, and every record that it ever had anywhere."""

    limits: Limits
    held: list[bytes | None] = field(default_factory=lambda: [None] * 4)
    epochs: list[int] = field(default_factory=lambda: [0] * 4)
    counters: list[int] = field(default_factory=lambda: [0] * 4)
    tokens: list[bytes] = field(default_factory=lambda: [encode_context(NOTHING)])
    sent: list[Sent] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    now_ms: int = NOW_MS

    def play(self, op: Op) -> None:
        """One step of the schedule."""
        name, at, detail = op
        self.now_ms += detail % 3 == 0
        if name == "merge":
            self.take(at, self.held[detail % 4])
        elif name == "late":
            self.take(at, self.records[detail % len(self.records)] if self.records else None)
        elif name == "crash":
            self.epochs[at], self.counters[at] = self.epochs[at] + 1, 0
        elif name == "read":
            record = self.held[at]
            if record is not None:
                self.tokens.append(read_siblings(record, self.now_ms)[1])
        elif name in ("sweep", "touch"):
            self.end(name, at, detail)
        elif name == "retry":
            if self.sent:
                self.coordinate(at, self.sent[-1 - detail % len(self.sent)])
        else:
            self.sent.append(self.request(name, detail))
            self.coordinate(at, self.sent[-1])

    def end(self, name: str, at: int, detail: int) -> None:
        """A replica makes tombstones of what has expired, or changes when its values do."""
        record = self.held[at]
        if record is None:
            return
        if name == "sweep":
            may, expired = may_expire(record, self.now_ms), expire_record(record, self.now_ms)
            assert may == (expired is not record) == (expired != record)
            self.store(at, expired)
        else:
            touched = touch_record(record, self.now_ms, self.now_ms + detail % 5 if detail % 2 else 0)
            if touched is not None:
                self.store(at, touched[0])

    def request(self, name: str, detail: int) -> Sent:
        """A new request of the kind `name`."""
        late_ms = self.limits.skew_ms * (detail % 4)
        request_id = (self.now_ms - late_ms).to_bytes(6, "big") + detail.to_bytes(2, "big") + len(self.sent).to_bytes(8, "big")
        given = decode_context(self.tokens[-1 - detail % min(4, len(self.tokens))])
        context = {
            "exact": Context(given.vector, given.dots),
            "empty": NOTHING,
            "plus": Context(given.vector, given.dots, overwrite=True),
        }.get(name, OVERWRITE)
        # Values that contain ids, and the empty one: nothing in the bytes may mistake them for anything else.
        value = (b"", b"v%d" % len(self.sent), request_id, bytes(40), b"x" * 300)[detail % 5]
        return Sent(
            NO_REQUEST if name == "anonymous" else request_id,
            b"" if context == OVERWRITE else encode_context(context),
            None if name == "delete" else value,
            self.now_ms + detail % 5 if name == "expiring" else 0,
        )

    def coordinate(self, at: int, sent: Sent) -> None:
        """Executes a request at a replica, or answers or refuses it there."""
        base, context = self.held[at], decode_context(sent.token)
        known = known_request(base, sent.request_id, context)
        if known is not None:
            self.counts["known"] += 1
            self.tokens.append(known.context)
            return
        issued_ms = int.from_bytes(sent.request_id[:6], "big")
        forgotten = base is not None and sent.request_id != NO_REQUEST and issued_ms <= floor_ms(base)
        if forgotten or unseen(base, context):
            self.counts["refused"] += 1
            return
        self.counters[at] += 1
        dot = make_dot(bytes((0, 0, 0, at)) + self.epochs[at].to_bytes(8, "big"), self.limits.counter_from + self.counters[at])
        self.store(at, self.mint(base, sent, dot, context))

    def mint(self, base: bytes | None, sent: Sent, dot: bytes, context: Context) -> bytes:
        """The new record, by the bytes where they can and in general; both must agree."""
        hlc, cutoff_ms = self.now_ms << 16, self.now_ms - self.limits.window_ms
        write = Sibling(dot, sent.request_id, hlc, sent.expires_ms, sent.value is None, sent.value or b"")
        general: Minted = mint(base, write, context, cutoff_ms=cutoff_ms, retries_max=self.limits.retries_max)
        self.tokens.append(general.context)
        quick: bytes | None = None
        if context == OVERWRITE and base is None:
            quick = first_record(dot, sent.request_id, hlc, sent.expires_ms, sent.value)
        elif context == OVERWRITE and base is not None:
            cutoff = cutoff_ms.to_bytes(6, "big")
            quick = overwrite(base, dot, sent.request_id, hlc, sent.expires_ms, sent.value, cutoff, self.limits.retries_max)
        self.counts["minted in general" if quick is None else "minted by bytes"] += 1
        if quick is not None:
            assert quick == general.record
            assert sole_context(quick) == general.context
        return general.record

    def take(self, at: int, record: bytes | None) -> None:
        """Merges a whole record from elsewhere, by the bytes where they can and in general; both must agree."""
        held = self.held[at]
        if record is None:
            return
        if held is None:
            self.store(at, record)
            return
        merged = merge_records(held, record)
        assert merged == encode(merge(decode(held), decode(record)))
        assert merged is held or merged != held, "what adds nothing leaves the very object"
        by_bytes = held == record or replaces(record, held) or replaces(held, record)
        self.counts["merged by bytes" if by_bytes else "merged in general"] += 1
        self.store(at, merged)

    def store(self, at: int, record: bytes) -> None:
        """Makes `record` what the replica holds."""
        decode(record).check()
        self.held[at] = record
        self.records.append(record)


def played(ops: list[Op], limits: Limits) -> Universe:
    """The universe after `ops`; a first write goes ahead, so that there is a record."""
    universe = Universe(limits)
    for op in [("overwrite", 0, 1), *ops]:
        universe.play(op)
    return universe


def random_universe(rng: Random, limits: Limits, steps: int = 40) -> Universe:
    """A universe outside hypothesis, for counting."""
    return played([(rng.choice(OPS), rng.choice([0, 0, 0, 1, 2, 3]), rng.randrange(64)) for _ in range(steps)], limits)


_ops = st.tuples(st.sampled_from(OPS), st.sampled_from([0, 0, 0, 1, 2, 3]), st.integers(0, 63))
_limits = st.builds(
    Limits,
    retries_max=st.sampled_from([64, 64, 2, 1, 0]),
    window_ms=st.sampled_from([1_000_000, 1_000_000, 3, 0]),
    counter_from=st.sampled_from([0, 2**32 - 3, 2**64 - 200]),
    skew_ms=st.sampled_from([0, 0, 2, 9]),
)
universes: st.SearchStrategy[Universe] = st.builds(played, st.lists(_ops, max_size=30), _limits)


@st.composite
def related_records(draw: st.DrawFn, count: int) -> tuple[Universe, list[bytes]]:
    """`count` records that some replicas of one universe held, at the same time or not."""
    universe = draw(universes)
    last = len(universe.records) - 1
    return universe, [universe.records[last - draw(st.integers(0, last))] for _ in range(count)]
