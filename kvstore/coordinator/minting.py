"""Turns a sub-batch's writes into new records of our own replica, each with a dot of its own (safety rule 1).

Nothing here waits: between reading a key's latest record and staging the new one no other operation may come. What cannot be minted
is refused alone, or put aside for `put` to catch up with first; the rest of the batch goes on. `put` sends what comes out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import TypeVar

from xxhash import xxh3_64_intdigest

from kvproto.columns import REQUEST_ID_BYTES, Kind, OperationGroup
from kvproto.errors import BadRequest, KvError, Overloaded, RecordLost, RetryWindowPassed, TooLarge
from kvstore.coordinator.batch import Limits, SubBatch
from kvstore.coordinator.operations import operations_of
from kvstore.coordinator.policy_minting import PolicyMint, PolicyMinted, PutAside, Renamed
from kvstore.coordinator.too_late import forgotten, too_late
from kvstore.core.hlc import HybridClock
from kvstore.core.record import (
    decode,
    decode_context,
    floor_ms,
    own_context,
    sole_context,
    touch_record,
)
from kvstore.core.record_writes import (
    Minted,
    covers_token,
    first_record,
    is_blind,
    known_request,
    mint,
    overwrite,
    unseen,
)
from kvstore.core.versions import DOT_BYTES, NO_REQUEST, Context, Sibling, covers
from kvstore.runtime import Clock
from kvstore.storage.epochs import ActorLedger
from kvstore.storage.store import Store

SIBLING_OVERHEAD_BYTES = 160
PLAIN_POLICIES = frozenset(("siblings", "merge"))
"""Their writes are puts and deletes of versions.py; the others say themselves what a write makes of a record."""

EXPIRING = frozenset((Kind.PUT, Kind.ADD, Kind.ASSIGN, Kind.TOUCH))
"""Kinds of operations for which the namespace's time to live holds."""

GROWN_BYTES_MAX = 32 * 1024 * 1024
"""Of records with siblings that one batch may mint: a write of a few bytes beside large siblings is as large as they are."""

ID_MS_MAX = (1 << 48) - 1
"""The latest time that a request id can name."""

ONE_ROW = b"\x00\x01"
"""How a record of a key says that its vector has one row (core/record.py)."""

NO_DOT = bytes(DOT_BYTES)

T = TypeVar("T")


def _item_of(store_key: bytes, base: bytes | None) -> int:
    """`items_of`, for one: a batch of large bases is not held for it."""
    return 0 if base is None else xxh3_64_intdigest(base, xxh3_64_intdigest(store_key))


class MintedColumns:
    """The writes of a sub-batch that were minted: columns in the order of `positions`, which are positions in the sub-batch.

    `pairs`: those that are new here; `before`: the items (core/merkle) of what they were built on, where there are trees. `counts`:
    siblings held afterwards. `unseen`: positions whose contexts name writes that have
    to be fetched first. `caught_up`: what the others hold was merged first, and contexts that still name more are taken as they
    are. `values`: of increments, what their counters hold then, in
    digits.
    """

    __slots__ = (
        "absent",
        "before",
        "caught_up",
        "contexts",
        "counts",
        "dots",
        "grown_bytes",
        "keys",
        "minted_ms",
        "pairs",
        "positions",
        "records",
        "refused",
        "unseen",
        "values",
    )

    def __init__(self, keys: list[bytes], positions: Sequence[int], dots: list[bytes], *, caught_up: bool) -> None:
        self.caught_up = caught_up
        self.grown_bytes = 0
        self.keys = keys
        self.minted_ms = 0
        self.positions = positions
        self.dots = dots
        self.records: list[bytes] = []
        self.pairs: list[tuple[bytes, bytes]] = []
        self.before: list[int] = []
        self.contexts: list[bytes] = []
        self.counts: Sequence[int] = ()
        self.values: Sequence[bytes] = ()
        self.refused: list[tuple[int, KvError]] = []
        self.unseen: list[int] = []
        self.absent: list[int] = []

    def take_touched(self, records: Sequence[bytes | None], counts: Sequence[int]) -> None:
        """`records` by index, None where there was nothing to touch, and how many values of each were touched."""
        kept = [index for index, record in enumerate(records) if record is not None]
        self.keys, self.positions = [self.keys[index] for index in kept], [self.positions[index] for index in kept]
        self.dots, self.counts = [self.dots[index] for index in kept], [counts[index] for index in kept]
        self.records = [record for record in records if record is not None]
        self.contexts = [b""] * len(kept)  # a touch is no write: its author has seen nothing
        self.pairs = list(zip(self.keys, self.records, strict=True))

    def settle(self, records: Sequence[bytes | None], unusual: dict[int, Minted]) -> None:
        """The loop is done: `records` by index, None where nothing was minted; `unusual` where the general path did it."""
        dots = self.dots
        for index, minted in unusual.items():
            dots[index] = minted.dot
        contexts = [
            own_context(dot) if record is None or record[5:7] == ONE_ROW else sole_context(record)
            for dot, record in zip(dots, records, strict=True)
        ]
        counts = [1] * len(dots)
        for index, minted in unusual.items():
            contexts[index], counts[index] = minted.context, minted.siblings
        if self.refused or self.unseen:
            kept = [index for index, record in enumerate(records) if record is not None]
            keys, positions = self.keys, self.positions
            self.keys, self.positions = [keys[index] for index in kept], [positions[index] for index in kept]
            self.dots, contexts = [dots[index] for index in kept], [contexts[index] for index in kept]
            counts = [counts[index] for index in kept]
        self.records = [record for record in records if record is not None]
        self.contexts, self.counts = contexts, counts


class Minter:
    """Mints for the keys that this node is a home replica of."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: ActorLedger,
        clock: Clock,
        rng: random.Random,
        limits: Limits,
        retry_window_ms: int,
        retry_ids_max: int,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._limits = limits
        self._retry_window_ms = retry_window_ms
        self._retry_ids_max = retry_ids_max
        self._hlc = HybridClock()

    def mint(self, sub: SubBatch, wanted: Sequence[int], *, caught_up: bool = False) -> MintedColumns:
        """Mints and stages the writes at the positions `wanted` of `sub`. Raises `KvError` if none of them was minted."""
        if not caught_up and self._store.is_unsure_of(sub.id_bytes) and len(sub.owners.nodes) > 1:
            # What we hold may be less than what we acknowledged: the others say first what these writes are to replace.
            out = MintedColumns([], [], [], caught_up=False)
            out.unseen = list(wanted)
            return out
        size_bytes = sum(map(len, sub.group.values)) + SIBLING_OVERHEAD_BYTES * len(wanted)
        self._store.admit(len(wanted), size_bytes)
        first = self._ledger.reserve(len(wanted))
        by_policy = sub.space.info.policy not in PLAIN_POLICIES
        return (self._mint_by_policy if by_policy else self._mint)(sub, wanted, first, caught_up)

    def touch(self, sub: SubBatch, wanted: Sequence[int]) -> MintedColumns:
        """Stages the records at the positions `wanted` with another time of expiry; `absent` are those without a live value.
        Nothing is minted. Raises `KvError` if nothing was staged."""
        self._store.admit(len(wanted), SIBLING_OVERHEAD_BYTES * len(wanted))
        now_ms = self._clock.now_ms()
        cutoff_ms = self._cutoff_ms(sub.group, now_ms)
        cutoff = cutoff_ms.to_bytes(6, "big")
        original = sub.at()
        at = [original[position] for position in wanted]
        ids = _request_ids(sub.group.request_ids, at) if sub.group.request_ids else repeat(NO_REQUEST)
        out = MintedColumns([sub.store_keys[position] for position in wanted], wanted, [NO_DOT] * len(wanted), caught_up=True)
        out.minted_ms = now_ms
        records: list[bytes | None] = []
        counts: list[int] = []
        for index, (request_id, expires_ms) in enumerate(zip(ids, self._expiries(sub, at, now_ms), strict=False)):
            if index == len(wanted):
                break
            key, base, touched = out.keys[index], None, None
            try:
                if request_id != NO_REQUEST and request_id < cutoff:
                    raise too_late(sub.group, self._retry_window_ms)
                base = self._store.latest(key)
                touched = None if base is None else touch_record(base, now_ms, expires_ms)
                if touched is None:
                    out.absent.append(wanted[index])
            except (RecordLost, RetryWindowPassed) as error:
                out.refused.append((wanted[index], error))
            if touched is None:
                records.append(None)
                counts.append(0)
                continue
            record, out.dots[index], count = touched
            assert base is not None
            if self._store.forest is not None:
                out.before.append(_item_of(key, base))
            self._store.stage(key, record)
            records.append(record)
            counts.append(count)
        out.take_touched(records, counts)
        return out

    def _mint(self, sub: SubBatch, wanted: Sequence[int], counter: int, caught_up: bool) -> MintedColumns:
        """The loop over a batch: nothing in it but what each write needs. The unusual ones leave it for the general path."""
        group, store = sub.group, self._store
        assert group.kind in (Kind.PUT, Kind.DELETE), "nothing else is minted as a whole value"
        now_ms = self._clock.now_ms()
        hlc = self._hlc.stamp(now_ms)
        cutoff_ms = self._cutoff_ms(sub.group, now_ms)
        cutoff = cutoff_ms.to_bytes(6, "big")
        whole = len(wanted) == len(sub.store_keys)
        at = sub.at() if whole else [sub.at()[position] for position in wanted]
        keys = sub.store_keys if whole else [sub.store_keys[position] for position in wanted]
        ids = _request_ids(group.request_ids or self._own_ids(now_ms, len(group.keys)), at)
        values: Iterable[bytes | None] = _taken(group.values, at) if group.kind is Kind.PUT else repeat(None)
        tokens: Iterable[bytes] = _taken(group.contexts, at) if group.contexts else repeat(b"")
        actor = self._ledger.actor
        dots = [actor + count.to_bytes(8, "big") for count in range(counter, counter + len(keys))]
        out = MintedColumns(keys, wanted, dots, caught_up=caught_up)
        out.minted_ms = now_ms
        lost: list[int] = []
        durable = store.durable_in_turn(keys, lost)
        pending, stage, retries_max = store.pending.get, store.stage, self._retry_ids_max
        records: list[bytes | None] = []
        pairs, before, tracked = out.pairs, out.before, store.forest is not None
        unusual: dict[int, Minted] = {}
        rows = zip(keys, dots, ids, durable, values, tokens, self._expiries(sub, at, now_ms))  # noqa: B905 - some repeat for ever
        for store_key, dot, request_id, held, value, token, expires_ms in rows:
            base = pending(store_key) or held
            record: bytes | None = None
            if request_id >= cutoff:
                if base is not None:
                    if not token or covers_token(base, token):
                        record = overwrite(base, dot, request_id, hlc, expires_ms, value, cutoff, retries_max)
                elif not token and not lost:
                    record = first_record(dot, request_id, hlc, expires_ms, value)
            if record is None:
                index = len(records)
                write = Sibling(dot, request_id, hlc, expires_ms, value is None, value or b"")
                minted = self._mint_unusual(out, index, base, write, token, group, cutoff_ms, is_lost=index in lost)
                if minted is None:
                    records.append(None)
                    continue
                unusual[index] = minted
                record = minted.record
                if not minted.fresh:
                    records.append(record)
                    continue
            stage(store_key, record)
            records.append(record)
            pairs.append((store_key, record))
            if tracked:
                before.append(_item_of(store_key, base))
        out.settle(records, unusual)
        return out

    def _mint_by_policy(self, sub: SubBatch, wanted: Sequence[int], counter: int, caught_up: bool) -> MintedColumns:
        """As `_mint`, where the namespace's policy says what a record becomes (policy_minting.py)."""
        group, store = sub.group, self._store
        now_ms = self._clock.now_ms()
        at = [sub.at()[position] for position in wanted]
        keys = [sub.store_keys[position] for position in wanted]
        ids = _request_ids(group.request_ids or self._own_ids(now_ms, len(group.keys)), at)
        tokens: Iterable[bytes] = _taken(group.contexts, at) if group.contexts else repeat(b"")
        actor = self._ledger.actor
        dots = [actor + count.to_bytes(8, "big") for count in range(counter, counter + len(keys))]
        out = MintedColumns(keys, wanted, dots, caught_up=caught_up)
        out.minted_ms = now_ms
        lost: list[int] = []
        durable = store.durable_in_turn(keys, lost)
        mint = PolicyMint(
            sub.space.policy,
            group=group,
            hlc=self._hlc.stamp(now_ms),
            cutoff_ms=self._cutoff_ms(group, now_ms),
            window_ms=self._retry_window_ms,
            retries_max=self._retry_ids_max,
            bytes_max=self._limits.typed_bytes_max,
            caught_up=caught_up,
        ).mint
        records: list[bytes | None] = []
        minted: dict[int, PolicyMinted] = {}
        rows = zip(keys, dots, ids, durable, tokens, self._expiries(sub, at, now_ms), operations_of(group, at))  # noqa: B905 - as above
        for index, (store_key, dot, request_id, held, token, expires_ms, operation) in enumerate(rows):
            try:
                base = store.pending.get(store_key) or held
                if base is None and index in lost:
                    store.latest(store_key)  # raises `RecordLost`
                if out.grown_bytes > GROWN_BYTES_MAX:
                    raise _too_much_at_once()
                one = mint(base, dot, request_id, expires_ms, token, operation)
            except PutAside:
                out.unseen.append(wanted[index])
            except (KvError, Renamed, ValueError) as error:
                out.refused.append((wanted[index], self._refusal(error)))
            else:
                minted[index] = one
                records.append(one.record)
                if one.fresh:
                    out.grown_bytes += len(one.record)
                    store.stage(store_key, one.record)
                    out.pairs.append((store_key, one.record))
                    if store.forest is not None:
                        out.before.append(_item_of(store_key, base))
                continue
            records.append(None)
        out.settle(records, dict(minted))
        if group.kind is Kind.INCREMENT:
            out.values = [b"%d" % one.total for one in minted.values()]
        return out

    def _refusal(self, error: Exception) -> KvError:
        if isinstance(error, KvError):
            return error
        if isinstance(error, Renamed):
            self._ledger.begin_epoch()
            return _renamed()
        return BadRequest(str(error), subject="context")

    def _mint_unusual(
        self,
        out: MintedColumns,
        index: int,
        base: bytes | None,
        write: Sibling,
        token: bytes,
        group: OperationGroup,
        cutoff_ms: int,
        *,
        is_lost: bool,
    ) -> Minted | None:
        """Anything but the usual case. None: put aside or refused, and noted in `out`."""
        position = out.positions[index]
        try:
            if write.request_id < cutoff_ms.to_bytes(6, "big"):
                raise too_late(group, self._retry_window_ms)
            if base is None and is_lost:
                self._store.latest(out.keys[index])  # raises `RecordLost`
            return self._mint_general(out, position, base, write, token, group, cutoff_ms)
        except (RecordLost, RetryWindowPassed, Overloaded, TooLarge) as error:
            out.refused.append((position, error))
        except ValueError as error:
            out.refused.append((position, BadRequest(str(error), subject="context")))
        return None

    def _mint_general(
        self,
        out: MintedColumns,
        position: int,
        base: bytes | None,
        write: Sibling,
        token: bytes,
        group: OperationGroup,
        cutoff_ms: int,
    ) -> Minted | None:
        """None: put aside, to catch up first. Raises `KvError`, or `ValueError` for a context that was never handed out."""
        context = decode_context(token)
        known = known_request(base, write.request_id, context)
        if known is not None:
            return known
        if group.attempt and base is not None and int.from_bytes(write.request_id[:6], "big") <= floor_ms(base):
            raise forgotten()
        if not out.caught_up and names_more(base, context):
            out.unseen.append(position)
            return None
        if base is not None and covers(decode(base).vector, write.dot):
            # Somebody's context claimed dots that we had not minted: under this actor the write would be born superseded.
            self._ledger.begin_epoch()
            raise _renamed()
        minted = mint(base, write, context, cutoff_ms=cutoff_ms, retries_max=self._retry_ids_max)
        if minted.siblings > self._limits.siblings_max:
            raise _too_many_siblings(minted.siblings, self._limits.siblings_max)
        if minted.fresh:
            if out.grown_bytes > GROWN_BYTES_MAX:
                raise _too_much_at_once()
            out.grown_bytes += len(minted.record)
        return minted

    def _expiries(self, sub: SubBatch, at: Sequence[int], now_ms: int) -> Iterable[int]:
        """When each write expires, 0 for never."""
        ttls = sub.group.ttls_ms
        if len(ttls) > 1:
            return [now_ms + ttls[index] if ttls[index] else 0 for index in at]
        ttl_ms = ttls[0] if ttls else sub.space.info.ttl_ms if sub.group.kind in EXPIRING else 0
        return repeat(now_ms + ttl_ms if ttl_ms else 0)

    def _cutoff_ms(self, group: OperationGroup, now_ms: int) -> int:
        """Ids issued before are older than the retry window: by the clock that issued them where it is known how far that is from
        ours, else by the wall clock, which may be wrong here or there."""
        window_ms = self._retry_window_ms
        if group.ids_ahead_ms is not None:
            now_ms = int(asyncio.get_running_loop().time() * 1000) + group.ids_ahead_ms
        elif int.from_bytes(group.request_ids[:6], "big") > now_ms + window_ms:
            return ID_MS_MAX  # of the future: one clock is wrong, and what may be late by as much is not executed
        return min(max(0, now_ms - window_ms), ID_MS_MAX)

    def _own_ids(self, now_ms: int, count: int) -> bytes:
        """Request ids for a client that gave none: unique, but a retry of it is another write."""
        stamp = now_ms.to_bytes(6, "big")
        tag = self._rng.getrandbits(64) & ~0xFFFFFFFF
        return b"".join([stamp + b"\x00\x00" + (tag + index).to_bytes(8, "big") for index in range(count)])


def names_more(base: bytes | None, context: Context) -> bool:
    """Whether `context` names writes that `base` has not seen."""
    return bool(unseen(base, context)) or is_blind(base, context)


def _taken(column: Sequence[T], at: Sequence[int]) -> list[T]:
    """The column's entries at `at`. A range is all of them, and a protobuf column is cheaper to copy whole than to index."""
    return list(column) if isinstance(at, range) and len(at) == len(column) else [column[index] for index in at]


def _request_ids(ids: bytes, at: Sequence[int]) -> list[bytes]:
    return [ids[REQUEST_ID_BYTES * index : REQUEST_ID_BYTES * (index + 1)] for index in at]


def _renamed() -> Overloaded:
    return Overloaded("this node goes on under a new actor epoch: try again", retry_after_s=0.01, subject="actor-epoch")


def _too_much_at_once() -> Overloaded:
    return Overloaded(
        f"the batch adds to siblings of more than {GROWN_BYTES_MAX} bytes: try again",
        retry_after_s=0.01,
        limit=GROWN_BYTES_MAX,
        subject="siblings",
    )


def _too_many_siblings(count: int, limit: int) -> TooLarge:
    return TooLarge(
        f"the key would have {count} siblings, at most {limit} are allowed: read it and write one value with its context",
        limit=limit,
        actual=count,
        subject="siblings",
    )
