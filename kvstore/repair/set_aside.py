"""What a node held that was away for too long: out of everybody's reach at once, and judged when the node is rebuilt.

    0xFF x 6 . "n" . "aside/" . store key    a record as it was, until it is judged
    0xFF x 6 . "n" . "absent"                they are being moved there: the next start goes on with it before it serves
    0xFF x 6 . "n" . "set-aside"             how many records this directory has set aside for the operator

Once moved, nothing of it is read, sent, handed over or counted. When the node has what the other owners have, each record that adds
nothing to that is dropped. What only this node holds, an acknowledged write that nobody else has or a value whose tombstone was
reaped, nobody can tell which, is appended to `set-aside/<date>.jsonl` in the data directory, synced, and then dropped: it is the
operator's (safety rule 11). A crash leaves every record in one of the two places; a line may be there twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kvproto.errors import KvError, RecordLost
from kvstore.cluster.view import Place, RingHolder
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.record import DamagedRecord, deleted_ms
from kvstore.crash_points import crash_point
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.runtime import Clock
from kvstore.storage.alive import AliveMark
from kvstore.storage.commit import Commit, Committer
from kvstore.storage.engine import Engine
from kvstore.storage.layout import PREFIX_BYTES, SYSTEM_PREFIX, split_store_key, system_key, system_name_range
from kvstore.storage.replica import Replica
from kvstore.storage.store import Store
from kvstore.telemetry import log

LOOK_S = 0.5
ROWS_AT_ONCE = 256
ROWS_BYTES = 1 << 18
ASIDE_NAME = b"aside/"
_MOVING_KEY = system_key(b"absent")
_COUNT_KEY = system_key(b"set-aside")

MOVING = crash_point("set-aside.moving", "it is durable that everything is to be put out of reach, and nothing is")
STAGED = crash_point("set-aside.staged", "records are being moved or dropped")
MOVED = crash_point("set-aside.moved", "some records are out of reach, others may still be where they were")
ALL_MOVED = crash_point("set-aside.all-moved", "everything is out of reach, and that is not written down")
HIDDEN = crash_point("set-aside.hidden", "it is durable that everything is out of reach")
KEPT = crash_point("set-aside.kept", "what nobody else has is in the operator's file, and still beside the records")
JUDGED = crash_point("set-aside.judged", "some of what was put out of reach is judged and gone")

Keep = Callable[[str, bytes], None]
"""Appends to a file of the data directory, durably. Raises `StorageError`. Blocks."""


class SetAside:
    """One node's. `kept`: records in files, ever; `is_whole` says whether the node is rebuilt."""

    def __init__(
        self,
        *,
        me: str,
        engine: Engine,
        committer: Committer,
        store: Store,
        replica: Replica,
        ring: RingHolder,
        clock: Clock,
        pace: Pace,
        keep: Keep,
    ) -> None:
        self._me = me
        self._engine = engine
        self._committer = committer
        self._store = store
        self._replica = replica
        self._ring = ring
        self._clock = clock
        self._pace = pace
        self._keep = keep
        self._judging: asyncio.Task[None] | None = None
        self.is_moving = engine.get(_MOVING_KEY) is not None
        self.kept = int.from_bytes(engine.get(_COUNT_KEY) or b"", "big")

    async def move(self, mark: AliveMark) -> None:
        """Puts every record out of reach, but those that nobody else is to keep, because there is nobody to tell or to ask, and
        registers, which are never reaped without this node. While nobody writes. Raises `KvError`; the next start goes on with it
        then."""
        ours_alone = self._ours_alone()
        staying = ours_alone | self._registers()
        self.is_moving = True
        await self._commit([(_MOVING_KEY, b"")])
        await MOVING.passed()
        snapshot = self._replica.snapshot(b"", SYSTEM_PREFIX)
        moved, is_over = 0, False
        while not is_over:
            rows = await self._replica.read_some(snapshot, ROWS_AT_ONCE, ROWS_BYTES)
            is_over = rows.is_over
            going = [
                (key, record)
                for key, record in zip(rows.store_keys, rows.records, strict=True)
                if key[:PREFIX_BYTES] not in staying
            ]
            # What is damaged goes: the others are asked for everything.
            damaged = [key for key in rows.damaged if key[:PREFIX_BYTES] not in staying]
            pairs = [(system_key(ASIDE_NAME + key), record) for key, record in going]
            await self._commit(pairs, [*(key for key, _ in going), *damaged])
            moved += len(pairs)
            await MOVED.passed()
        self._store.forget_all(but=ours_alone)
        await ALL_MOVED.passed()
        # Now the disk is as one of a node that is alive and has nothing.
        await self._commit([mark.row()], [_MOVING_KEY])
        await HIDDEN.passed()
        log.warning("records_moved_aside", node=self._me, records=moved)

    def _registers(self) -> frozenset[bytes]:
        spaces = self._ring.view.all_spaces()
        return frozenset(prefix for space in spaces if space.info.mode == "linearizable" for prefix in space.prefixes)

    def _ours_alone(self) -> frozenset[bytes]:
        view = self._ring.view
        return frozenset(
            prefix
            for space in view.spaces.values()
            if space.info.mode == "eventual"
            for prefix, owners in zip(space.prefixes, view.preference, strict=True)
            if list(owners[: space.info.n]) == [self._me]
        )

    def start(self) -> None:
        """Begins to judge what lies aside, if anything does, as soon as the node is whole."""
        if next(self._engine.keys(*system_name_range(ASIDE_NAME)), None) is not None:
            self._judging = asyncio.get_running_loop().create_task(self._judge(), name=f"aside@{self._me}")

    def stop(self) -> None:
        """Ends at once; what is not judged is judged by the next life."""
        if self._judging is not None:
            self._judging.cancel()

    async def _judge(self) -> None:
        waits_for: Catalog | None = None
        while True:
            await asyncio.sleep(LOOK_S)
            if self._store.is_rebuilding:
                continue
            if waits_for is self._ring.view.catalog:
                continue
            try:
                waits_for = None if await self._judge_all() else self._ring.view.catalog
            except KvError as error:  # too much waits for the disk, or it has failed
                log.warning("set_aside_later", node=self._me, reason=error.message)
                continue
            if waits_for is None:
                return

    async def _judge_all(self) -> bool:
        """Whether all was judged: what is of a namespace that this node does not know yet has to wait for that."""
        start, view, unknown = len(system_key(ASIDE_NAME)), self._ring.view, 0
        snapshot = self._replica.snapshot(*system_name_range(ASIDE_NAME))
        kept_before, is_over = self.kept, False
        while not is_over:
            rows = await self._replica.read_some(snapshot, ROWS_AT_ONCE, ROWS_BYTES)
            is_over = rows.is_over
            places = [view.place_of(key[start:], self._me) for key in rows.store_keys]
            unknown += places.count(Place.NOT_YET_KNOWN)
            judged = [key for key, place in zip(rows.store_keys, places, strict=True) if place is not Place.NOT_YET_KNOWN]
            only_here = [
                (key[start:], record)
                for key, record, place in zip(rows.store_keys, rows.records, places, strict=True)
                if place in (Place.HOME, Place.ELSEWHERE) and not self._is_covered(key[start:], record)
            ]
            if only_here:
                await self._keep_for_the_operator(only_here)
                await KEPT.passed()
            self.kept += len(only_here)
            await self._commit([(_COUNT_KEY, self.kept.to_bytes(8, "big"))], [*judged, *rows.damaged])
            await JUDGED.passed()
            await self._pace.turn(sum(map(len, rows.records)), len(rows.records))
        log.warning("records_set_aside", node=self._me, records=self.kept - kept_before)
        return not unknown

    def _is_covered(self, store_key: bytes, record: bytes) -> bool:
        """Whether what the owners hold, this node among them, has everything that the record has: a key that nobody has is deleted
        without a tombstone as well."""
        try:
            held = self._store.latest(store_key)
            if held is None:
                return deleted_ms(record) is not None
            return self._store.join(store_key, held, record) == held
        except (RecordLost, DamagedRecord):
            return False

    async def _keep_for_the_operator(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        names = {space.info.id: name for name, space in self._ring.view.spaces.items()}
        lines = []
        for store_key, record in records:
            _, namespace, key = split_store_key(store_key)
            row = {"namespace": names.get(namespace, str(namespace)), "key": key.decode(errors="backslashreplace")}
            lines.append(json.dumps({**row, "key_hex": key.hex(), "record": record.hex()}) + "\n")
        date = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).strftime("%Y-%m-%d")
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._keep, f"set-aside/{date}.jsonl", "".join(lines).encode())

    async def _commit(self, pairs: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = ()) -> None:
        size_bytes = sum(len(key) + len(value) for key, value in pairs) + sum(map(len, deletes))
        self._committer.admit(len(pairs) + len(deletes), size_bytes)
        told = Told[KvError | None]()
        self._committer.submit(Commit(pairs, size_bytes, told.take, deletes))
        await STAGED.passed()
        error = await told.answer
        if error is not None:
            raise error
