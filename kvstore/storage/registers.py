"""The acceptor's state on the node's one engine: registers under their store keys, promises and floors of groups under system keys.

    store key                               what was accepted and the last committed (core/register/held.py)
    0xFF x 6 . "n" . "register/" . group    promised ballot 24 | floor stamp 32 | watermark 32
    0xFF x 6 . "n" . "registers-lost", …    which of it has been lost and does not vote (admission.py)

Decisions are made on the latest state, durable or not; a reply leaves when everything it rests on is durable (safety rule 3), in
one batch and one fsync with whatever else waits. These records are no eventual ones: nothing merges, hints, repairs or expires
them. A damaged one is lost: it stays in place, is counted, and has no vote until a later ballot has put another in its place
(safety rule 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from kvproto.errors import KvError, StorageError, UnknownNamespace
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.register import held as registers
from kvstore.core.register import payload as payloads
from kvstore.core.register.acceptor import Acceptor, GroupState, Lost, Verdict
from kvstore.core.register.ballot import BALLOT_BYTES, GROUP_BYTES, NO_BALLOT, NO_STAMP, STAMP_BYTES
from kvstore.core.register.copying import Page, encode_page, read_page
from kvstore.core.register.messages import Ask, Reply, Step, Why, abstain, part_of, widen
from kvstore.core.register.readmission import Copied
from kvstore.core.register.timeline_read import shown
from kvstore.core.register.tracker import Marks, Tracker
from kvstore.storage.admission import Admission
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.dropped_ids import DroppedIds
from kvstore.storage.engine import Engine
from kvstore.storage.layout import PREFIX_BYTES, prefix_successor, system_key, system_name_range
from kvstore.storage.record_cache import RecordCache

Done = Callable[[KvError | None, Reply | None], None]

REPLY_BYTES_MAX = 4 * 1024 * 1024
PAGES_BYTES_MAX = 1024 * 1024
_NAME = b"register/"
_STATE_BYTES = BALLOT_BYTES + 2 * STAMP_BYTES

assert PREFIX_BYTES == GROUP_BYTES


class Registers:
    """One node's acceptor with its disk. Belongs to one event loop; every method returns at once."""

    def __init__(
        self,
        engine: Engine,
        committer: Committer,
        *,
        cache_bytes_max: int,
        may_vote: Callable[[], bool] = lambda: True,
        on_lost: Callable[[bytes], None] = lambda store_key: None,
        taken: Callable[[bytes], bytes] = lambda group: NO_BALLOT,
        tracker: Tracker | None = None,
        since_boot_s: Callable[[], float] = float,
    ) -> None:
        """`may_vote`: False while the node does not know yet whether its disk is the one that it promised on. `on_lost` is told
        each store key whose register was found damaged, once. `taken`: as in `Acceptor`. `tracker` is told what changes, at which
        time by `since_boot_s`."""
        self._engine = engine
        self._committer = committer
        self._may_vote = may_vote
        self._on_lost = on_lost
        self._pending: dict[bytes, bytes | None] = {}
        self._pending_groups: dict[bytes, int] = {}
        self._cache = RecordCache(cache_bytes_max)
        self._known_lost: set[bytes] = set()
        self.admission = Admission(engine)
        self.tracker = tracker or Tracker("", 1)
        self._since_boot_s = since_boot_s
        self.acceptor = Acceptor(self.latest, _load_groups(engine), taken, self.tracker.is_chosen, self.tracker.watched)
        self._dropped = DroppedIds(Catalog())

    def go_by(self, catalog: Catalog) -> None:
        """From here on nothing of a namespace that `catalog` names as dropped is answered, or accepted, however late it comes."""
        self._dropped = DroppedIds(catalog)

    def forget_dropped(self) -> list[bytes]:
        """Nothing of dropped namespaces was promised, or is known to be lost, any more; the system keys to delete. When no commit
        that could hold more of them is on its way."""
        self._known_lost = {store_key for store_key in self._known_lost if not self._dropped.is_of(store_key)}
        gone = sorted(group for group in self.acceptor.groups if self._dropped.is_of(group))
        for group in gone:
            del self.acceptor.groups[group]
        return [system_key(_NAME + group) for group in gone]

    def forget(self, store_keys: Sequence[bytes]) -> None:
        """These were erased."""
        self._cache.forget(store_keys)

    @property
    def is_lost(self) -> bool:
        """Whether this node's acceptor has to be admitted again before it votes."""
        return bool(self.admission.loss)

    @property
    def votes(self) -> bool:
        """Whether everything that it answers counts."""
        return not self.is_lost and self._may_vote()

    @property
    def may_be_admitted(self) -> bool:
        """Whether it is known what is lost: registers, and nothing else any more."""
        return self.is_lost and self._may_vote()

    @property
    def quarantined(self) -> int:
        """How many registers are damaged, as far as anybody has looked."""
        return len(self._known_lost)

    def promised(self, group: bytes) -> bytes:
        """The ballot that is promised here."""
        state = self.acceptor.groups.get(group)
        return NO_BALLOT if state is None else state.promised

    def watch(self, groups: frozenset[bytes] | None) -> None:
        """As `Tracker.watch`."""
        if marks := self.tracker.watch(groups):
            self._committer.submit(Commit((), 0, lambda error: None if error else self.tracker.became_durable(marks)))

    def lose(self) -> list[tuple[bytes, bytes]]:
        """From now on this disk does not vote; what has to be written with whatever says so."""
        self.tracker.forget_all()
        return self.admission.lose()

    def ask(self, ask: Ask, done: Done) -> None:
        """Answers; `done` is called once, when what the answer rests on is durable, or at once if it already is."""
        if self._dropped.any and any(map(self._dropped.is_of, ask.keys)):
            done(UnknownNamespace("the namespace was dropped"), None)
            return
        if not self.votes:
            self._ask_admitted(ask, done)
        else:
            self._ask(ask, done)

    def _ask_admitted(self, ask: Ask, done: Done) -> None:
        """Of what was lost, only those groups have a vote that were admitted again."""
        at = self.admission.positions(ask) if self._may_vote() else ()
        if len(at) == len(ask.keys):
            self._ask(ask, done)
        elif at:
            self._ask(part_of(ask, at), lambda error, reply: done(error, None if reply is None else widen(reply, ask, at)))
        else:
            done(None, abstain(ask))

    def _ask(self, ask: Ask, done: Done) -> None:
        if self._committer.failure is not None:
            done(self._committer.failure, None)
            return
        if ask.step is not Step.CONFIRM:
            try:
                self._committer.admit(len(ask.keys), sum(map(len, ask.payloads)))
            except KvError as error:
                done(error, None)
                return
        verdict = self.acceptor.answer(ask, REPLY_BYTES_MAX)
        if ask.step is Step.COPY:
            self._copy(ask, verdict, done)
        elif verdict.writes or verdict.deletes or verdict.groups:
            self._commit(verdict, done)
        elif self._rests_on_pending(ask, verdict):
            # Behind what it rests on: commits are told in the order in which they were submitted.
            self._committer.submit(Commit((), 0, lambda error: done(error, None if error else verdict.reply)))
        else:
            done(None, verdict.reply)

    def pages(self, cursors: Sequence[bytes], told: Callable[[StorageError | None, list[Page | None]], None]) -> None:
        """What lies here behind each cursor, read off the loop when all that was decided before is durable. None: there is more
        than a message may carry, and it is to be asked for again."""
        floors = [self._floor(cursor[:GROUP_BYTES]) for cursor in cursors]
        pages: list[Page | None] = []

        def look() -> None:
            left_bytes = PAGES_BYTES_MAX
            for cursor, floor in zip(cursors, floors, strict=True):
                if left_bytes <= 0:
                    pages.append(None)
                    continue
                try:
                    pairs = self._engine.scan(cursor, prefix_successor(cursor[:GROUP_BYTES]))
                    page = read_page(pairs, cursor, floor, left_bytes)
                except StorageError:
                    page = Page(floor, False, [cursor], [b""])
                left_bytes -= page.size_bytes
                pages.append(page)

        self._committer.submit(Commit((), 0, lambda error: told(error, pages), look=look))

    def take_in(self, copied: Sequence[Copied], done: Callable[[KvError | None], None]) -> None:
        """Replaces what lies here by what others hold; what is complete with it votes once that is durable."""
        loss = self.admission.loss
        verdict = Verdict(Reply(Step.COPY, 0))
        copied = [one for one in copied if not self._dropped.is_of(one.group)]
        for one in copied:
            self.acceptor.take_in(one.group, one.promised, one.floor, [*(key for key, _ in one.writes), *one.deletes])
            verdict.writes += one.writes
            verdict.deletes += one.deletes
            verdict.groups.add(one.group)
        complete = [one.group for one in copied if one.is_last]

        def told(error: KvError | None, _: Reply | None) -> None:
            if error is None and loss == self.admission.loss:
                self.admission.admitted.update(complete)
            done(error)

        self._commit(verdict, told, [self.admission.row(group) for group in complete])

    def end_loss(self, done: Callable[[StorageError | None], None]) -> None:
        """Every group was admitted: as if nothing had been lost, once that is durable."""
        loss = self.admission.loss

        def told(error: StorageError | None) -> None:
            if error is None and loss == self.admission.loss:
                self.admission.end()
            done(error)

        self._committer.submit(Commit((), 64, told, self.admission.rows_to_end()))

    def votes_on(self, group: bytes) -> bool:
        """Whether what it answers about a group counts."""
        return self._may_vote() and (not self.is_lost or group in self.admission.admitted)

    def shown(self, store_key: bytes, proof: tuple[float, int]) -> tuple[bool, bytes | None]:
        """Whether what is committed of a key of a tracked group is known here, and its payload (`timeline_read.shown`). Raises
        `Lost`."""
        return shown(store_key, self.latest(store_key), self.tracker.groups[store_key[:GROUP_BYTES]], self.acceptor, proof)

    def latest(self, store_key: bytes) -> bytes | None:
        """What is held of a key, durable or not. Raises `Lost`."""
        if store_key in self._pending:
            return self._pending[store_key]
        held = self._cache.get(store_key)
        if held is not None:
            return held
        try:
            held = self._engine.get(store_key)
        except StorageError as error:
            raise self._lost(store_key) from error
        if held is None:
            return None
        if not registers.verify(held):
            raise self._lost(store_key)
        self._cache.update([(store_key, held)])
        return held

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._cache.check()
        assert all(count > 0 for count in self._pending_groups.values())

    def note_damaged(self, store_key: bytes) -> None:
        """Somebody has looked, and the register of a key cannot be read."""
        self._cache.forget([store_key])
        with suppress(Lost):  # which has told
            self.latest(store_key)

    def _lost(self, store_key: bytes) -> Lost:
        if store_key not in self._known_lost:
            self._known_lost.add(store_key)
            self.tracker.forget(store_key[:GROUP_BYTES])  # nobody can tell what its digest was
            self._on_lost(store_key)
        return Lost(store_key.hex())

    def _rests_on_pending(self, ask: Ask, verdict: Verdict) -> bool:
        if ask.step is Step.CONFIRM:
            return False
        if self._pending_groups and not self._pending_groups.keys().isdisjoint([key[:GROUP_BYTES] for key in ask.keys]):
            return True
        return bool(self._pending) and not self._pending.keys().isdisjoint(verdict.looked_at)

    def _copy(self, ask: Ask, verdict: Verdict, done: Done) -> None:
        """Promises first, then looks: as one commit the promise could come behind a later one of the same batch, for those that
        look are written last."""
        reply = verdict.reply
        if verdict.groups:
            self._commit(verdict, lambda error, reply: None)
        at = [position for position in range(len(ask.keys)) if position not in reply.refused]
        if not at:
            done(None, reply)
            return

        def told(error: StorageError | None, pages: list[Page | None]) -> None:
            if error is not None:
                done(error, None)
                return
            states = [b""] * len(ask.keys)
            for position, page in zip(at, pages, strict=True):
                if page is None:
                    reply.refused[position] = (Why.LATER, NO_BALLOT)
                elif page.lost is None:
                    states[position] = encode_page(page)
                else:
                    self._lost(page.lost)
                    reply.refused[position] = (Why.LOST, NO_BALLOT)
            reply.states = states
            done(None, reply)

        self.pages([ask.keys[position] for position in at], told)

    def _floor(self, group: bytes) -> bytes:
        state = self.acceptor.groups.get(group)
        return NO_STAMP if state is None else state.floor

    def _commit(self, verdict: Verdict, done: Done, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
        groups = self.acceptor.groups
        rows = [(system_key(_NAME + group), _pack(groups[group])) for group in sorted(verdict.groups)]
        pairs = [*verdict.writes, *rows, *more]
        tracker = self.tracker
        marks: Marks = {}
        if tracker.groups and (verdict.writes or verdict.deletes):
            marks = tracker.decide(verdict.writes, verdict.deletes, verdict.replaced, self._since_boot_s())
        self._pending.update(verdict.writes)
        self._pending.update(dict.fromkeys(verdict.deletes))
        for group in verdict.groups:
            self._pending_groups[group] = self._pending_groups.get(group, 0) + 1
        size_bytes = sum([len(key) + len(value) for key, value in pairs])
        self._committer.submit(
            Commit(pairs, size_bytes, lambda error: self._committed(verdict, marks, done, error), verdict.deletes)
        )

    def _committed(self, verdict: Verdict, marks: Marks, done: Done, error: StorageError | None) -> None:
        if error is not None:
            done(error, None)
            return
        if marks:
            self.tracker.became_durable(marks)
        pending = self._pending
        for store_key, held in verdict.writes:
            if pending.get(store_key) is held:
                del pending[store_key]
        for store_key in verdict.deletes:
            if pending.get(store_key, b"") is None:
                del pending[store_key]
        for group in verdict.groups:
            left = self._pending_groups.pop(group) - 1
            if left:
                self._pending_groups[group] = left
        self._cache.update(verdict.writes)
        self._cache.forget(verdict.deletes)
        if self._known_lost:
            self._known_lost.difference_update([store_key for store_key, _ in verdict.writes], verdict.deletes)
        done(None, verdict.reply)


def is_live(held: bytes, now_ms: int) -> bool:
    """Whether a stored register holds a value, as far as this replica has accepted one."""
    if not registers.verify(held):
        return True  # lost is unknown, never absent
    payload = registers.accepted(held)
    return not payloads.is_tombstone(payload) and not payloads.has_expired(payload, now_ms)


def _pack(state: GroupState) -> bytes:
    return state.promised + state.floor + state.watermark


def _load_groups(engine: Engine) -> dict[bytes, GroupState]:
    start = len(system_key(_NAME))
    groups: dict[bytes, GroupState] = {}
    for key, row in engine.scan(*system_name_range(_NAME)):
        if len(row) != _STATE_BYTES:
            raise StorageError(f"the promise of group {key[start:].hex()} cannot be read: {len(row)} bytes", subject="registers")
        groups[key[start:]] = GroupState(row[:24], row[24:56], row[56:])
    return groups
