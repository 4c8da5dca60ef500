"""One exchange with one peer: which records differ, whether they stay so, and then those records, both ways.

The side that begins asks, and repairs in both directions: it takes what the peer holds and sends what the peer lacks, by the merge
of every other write. Some trees are gone through side by side, for most of an exchange is waiting: for answers that stand behind
those to clients, and for commits. What it holds in memory is bounded: at `ROWS_MAX` differing keys it stops looking, repairs those,
and says that there is `more`. Where more keys differ than can be on their way they are repaired at once: a second look would cost
more than what it saves. Repairs are whole records, so each can be lost, repeated or late without harm (ADR 1), as long as what they
were superseded by is remembered: a record that was read too long ago is not sent, and not taken, but read again (safety rule 9).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kvproto.errors import KvError, RecordLost
from kvstore.core.merkle.exchange import Listing, Rows, persisting
from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.questions import HASHES_MAX, LEAVES_MAX, Held, Leaves, Question, Records, Reply
from kvstore.core.merkle.standing import Differing
from kvstore.crash_points import crash_point
from kvstore.repair.answering import list_leaves
from kvstore.repair.lanes import in_lanes
from kvstore.repair.looking import Looking
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.storage.freshness import Freshness
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from kvstore.transport.peers import PeerTransport, StoreChunk

SETTLE_S = 2.0
"""Between two looks at what differs: a write under way has reached every replica by then, or has been given up."""
MANY = 64
"""Keys of one tree that differ: more than writes under way account for."""
ROWS_MAX = 100_000
"""Differing keys that are in memory at once, about 30 MB."""
BATCH_COUNT_MAX = 256
BATCH_BYTES_MAX = 128 * 1024
REST_S_MAX = 0.1
ASK_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 5.0
ASKS_MAX = 3
"""For the same records, while each answer comes too late to be taken."""

LISTED = crash_point("exchange.listed", "it is known which records differ, and none is repaired")
FETCHED = crash_point("exchange.fetched", "what the peer holds has arrived here, and is not written")
STAGED = crash_point("exchange.staged", "what the peer holds is being written")
TAKEN = crash_point("exchange.taken", "what the peer holds is durable here, and it has not got what we hold")
SENT = crash_point("exchange.sent", "what the peer lacks is on its way to it")
DONE = crash_point("exchange.done", "the peer has made durable what it lacked")


@dataclass(slots=True)
class Outcome:
    """What an exchange came to. `compared` and `unknown` are prefixes; `whole`: those of which everything that the peer holds is
    here now; `unsure`: those of which the peer may have lost records itself; `differences` counts keys that differed and stayed so,
    `repaired` those of them that were brought together."""

    compared: int = 0
    differing: int = 0
    unknown: int = 0
    differences: int = 0
    repaired: int = 0
    more: bool = False
    whole: set[bytes] = field(default_factory=set)
    unsure: set[bytes] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left that differed."""
        return not self.more and not self.unknown and self.repaired >= self.differences


@dataclass(slots=True)
class _Look:
    """At one prefix: the leaves that differ at `depth`, and their rows. `is_cut`: there are more leaves than were looked at."""

    depth: int
    leaves: Sequence[int]
    rows: Rows
    listing: Listing
    is_cut: bool


class ExchangeRound:
    """The exchange with `peer` over `prefixes`, which both have to keep. `at_once`: what the peer has is taken without a second
    look, by a node that does not know what it has lost. `urgent`: it does not wait for its turn. `on_progress` is called after each
    prefix."""

    def __init__(
        self,
        peer: str,
        prefixes: Sequence[bytes],
        *,
        forest: Forest,
        store: Store,
        replica: Replica,
        peers: PeerTransport,
        ring_hash: Callable[[], int],
        freshness: Freshness,
        pace: Pace,
        is_busy: Callable[[], bool],
        rng: random.Random,
        at_once: bool = False,
        urgent: bool = False,
        on_progress: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self._peer = peer
        self._prefixes = list(prefixes)
        self._store = store
        self._replica = replica
        self._peers = peers
        self._ring_hash = ring_hash
        self._freshness = freshness
        self._pace = pace
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._rng = rng
        self._at_once = at_once
        self._urgent = urgent or at_once
        self._on_progress = on_progress
        self._looking = Looking(peer, forest, ask=self._ask, rest=self._rest)
        self._looks: dict[bytes, _Look] = {}
        self._waiting = 0
        self.outcome = Outcome(unsure=self._looking.unsure)

    async def run(self) -> Outcome:
        """To the end. Raises the `KvError` that broke it off; what was repaired by then stays so."""
        out = self.outcome
        suspects = await self._looking.suspects(self._prefixes, self._rng, at_once=self._at_once)
        out.differing, out.unknown = suspects.differing, suspects.unknown
        self._are_equal(suspects.equal)
        await in_lanes(self._while_there_is_room(suspects.at), self._look_into)
        if any(look.rows for look in self._looks.values()):
            await asyncio.sleep(SETTLE_S)
        await in_lanes(self._looks.items(), self._look_again)
        return out

    def _while_there_is_room(self, suspects: Mapping[bytes, int | Differing]) -> Iterator[tuple[bytes, int | Differing]]:
        """`suspects` one by one, until the rows of those that wait for a second look fill their memory."""
        for item in suspects.items():
            if self._waiting > ROWS_MAX:
                self.outcome.more = True
                return
            yield item

    async def _look_into(self, suspect: tuple[bytes, int | Differing]) -> None:
        prefix, at = suspect
        found = at if isinstance(at, Differing) else await self._looking.leaves(prefix, at)
        if found is None:  # its tree became unknown meanwhile
            self.outcome.unknown += 1
            return
        look = await self._look(prefix, found)
        if self._at_once or len(look.rows) > MANY:
            await self._finish(prefix, look, look.rows)
            return
        self._looks[prefix] = look
        self._waiting += len(look.rows)

    async def _look_again(self, looked: tuple[bytes, _Look]) -> None:
        prefix, look = looked
        lasting = look.rows
        if look.rows:
            again = await self._list(prefix, look.depth, look.leaves, is_cut=look.is_cut)
            lasting, look.listing = persisting(look.rows, again.rows), again.listing
        await self._finish(prefix, look, lasting)

    def _are_equal(self, prefixes: Collection[bytes]) -> None:
        """These were equal at one look at least: what the peer held when we began is here."""
        self.outcome.whole.update(prefixes)
        self.outcome.compared += len(prefixes)
        self._on_progress(self.outcome)

    # --- looking

    async def _look(self, prefix: bytes, found: Differing) -> _Look:
        is_cut = len(found.leaves) > LEAVES_MAX
        if is_cut:
            self.outcome.more = True
        return await self._list(prefix, found.depth, found.leaves[:LEAVES_MAX], is_cut=is_cut)

    async def _list(self, prefix: bytes, depth: int, leaves: Sequence[int], *, is_cut: bool) -> _Look:
        began_s, listing = self._loop.time(), Listing(depth, leaves)
        theirs, _ = await asyncio.gather(self._ask(Leaves(prefix, depth, leaves)), list_leaves(self._replica, prefix, listing))
        assert isinstance(theirs, bytes)
        await self._rest(began_s, len(theirs))
        rows = listing.compare(theirs)
        # A tree that is written to all the time has all of its keys in the leaves listed: what is alike need not wait in memory.
        listing.keep(rows)
        return _Look(depth, leaves, rows, listing, is_cut)

    # --- repairing

    async def _finish(self, prefix: bytes, look: _Look, rows: Rows) -> None:
        out = self.outcome
        out.differences += len(rows)
        is_whole = await self._repair(prefix, rows, look.listing) and not look.is_cut and len(rows) == len(look.rows)
        if is_whole:
            out.whole.add(prefix)
        out.compared += 1
        self._on_progress(out)

    async def _repair(self, prefix: bytes, rows: Rows, listing: Listing) -> bool:
        """Both ways; whether everything that the peer holds of `rows` is here now."""
        theirs = [key for key, (_, there) in rows.items() if there]
        is_whole = True
        if rows:
            await LISTED.passed()
        send = listing.keys_of(key for key, (_, there) in rows.items() if not there)
        for first in range(0, len(theirs), HASHES_MAX):
            start = b""
            hashes = theirs[first : first + HASHES_MAX]
            while True:
                began_s = self._loop.time()
                held = await self._fetch(Records(prefix, hashes, start))
                await FETCHED.passed()
                taken, differing = await self._take(prefix, held)
                is_whole = is_whole and taken
                send += differing
                await self._rest(began_s, sum(map(len, held.records)), len(held.records))
                if not held.more_from or held.more_from <= start:
                    break
                start = held.more_from
            await self._send_all(send)
            send = []
        await self._send_all(send)
        return is_whole

    async def _fetch(self, question: Records) -> Held:
        """What the peer holds, and held no longer ago than what may be taken. Raises the `KvError` that says how late it was if it
        always is: we stood still, or it did."""
        late: KvError | None = None
        for _ in range(ASKS_MAX):
            asked_ms = self._freshness.now_ms()
            held = await self._ask(question)
            assert isinstance(held, Held)
            late = self._freshness.why_late(asked_ms, len(held.records))
            if late is None:
                return held
        assert late is not None
        raise late

    async def _take(self, prefix: bytes, held: Held) -> tuple[bool, list[bytes]]:
        """Merges what the peer holds into our own: whether all of it is durable here, and the keys of which we know more."""
        rows = [(key, record) for key, record in zip(held.store_keys, held.records, strict=True) if key.startswith(prefix)]
        if not rows:
            return True, []
        keys, records = [key for key, _ in rows], [record for _, record in rows]
        self._store.admit(len(keys), sum(map(len, records)))
        told = Told[tuple[KvError | None, list[int]]]()
        self._store.merge(keys, records, lambda error, refused: told.take((error, refused)))
        await STAGED.passed()
        error, positions = await told.answer
        if error is not None:
            raise error
        await TAKEN.passed()
        refused = set(positions)
        more: list[bytes] = []
        for position, (key, record) in enumerate(rows):
            if position in refused:
                continue
            try:
                if self._store.durable(key) == record:
                    self.outcome.repaired += 1
                else:
                    more.append(key)
            except RecordLost:
                continue
        return not refused, more

    async def _send_all(self, store_keys: Sequence[bytes]) -> None:
        keys: list[bytes] = []
        records: list[bytes] = []
        size_bytes = since_ms = 0
        for store_key in store_keys:
            read_ms = self._freshness.now_ms()
            try:
                record = self._store.durable(store_key)
            except RecordLost:
                continue
            if record is None:
                continue
            if keys and (len(keys) >= BATCH_COUNT_MAX or size_bytes + len(record) > BATCH_BYTES_MAX):
                await self._send(keys, records, size_bytes, since_ms)
                keys, records, size_bytes = [], [], 0
            if not keys:
                since_ms = read_ms
            keys.append(store_key)
            records.append(record)
            size_bytes += len(store_key) + len(record)
        if keys:
            await self._send(keys, records, size_bytes, since_ms)

    async def _send(self, keys: Sequence[bytes], records: Sequence[bytes], size_bytes: int, since_ms: int) -> None:
        began_s, told = self._loop.time(), Told[StoreChunk]()
        deadline_s, ring_hash = began_s + SEND_TIMEOUT_S, self._ring_hash()
        self._peers.store(StoreChunk(self._peer, keys, records, size_bytes, deadline_s, told.take, ring_hash, since_ms=since_ms))
        await SENT.passed()
        chunk = await told.answer
        if chunk.error is not None:
            raise chunk.error
        await DONE.passed()
        self.outcome.repaired += len(keys) - len(chunk.refused)
        await self._rest(began_s, size_bytes, len(keys))

    async def _rest(self, began_s: float, size_bytes: int = 0, operations: int = 0) -> None:
        """After a piece of work that began at `began_s`: at the pace of all background work, and while clients are served for as
        long again as it took. An exchange takes processor time more than bytes, here and at the peer."""
        if self._is_busy():
            await asyncio.sleep(min(REST_S_MAX, self._loop.time() - began_s))
        await self._pace.turn(size_bytes, operations)

    async def _ask(self, question: Question) -> Reply:
        return await self._peers.compare(self._peer, question, ASK_TIMEOUT_S, urgent=self._urgent)
