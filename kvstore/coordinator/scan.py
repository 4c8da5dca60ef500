"""A scan: pages in key order over a whole namespace, merged at the namespace's read level, in bounded memory.

Every node returns its records from a key on, in order; a page is complete up to the smallest key at which one of the answers
ends. Each partition counts the answers of its own home replicas and needs r of them, so a page stands on whatever set of nodes
covers every partition r times. Resuming needs nothing but the last key.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from kvproto.columns import Kind, OperationGroup, ScanPage, ScanQuery
from kvproto.errors import BadRequest, DeadlineExceeded, KvError, QuorumUnreachable
from kvstore.cluster.view import RingHolder, RingView, Space
from kvstore.coordinator.batch import SubBatch, degrades, needed
from kvstore.coordinator.dial import LINEARIZABLE, OF_HOMES, check_level
from kvstore.coordinator.entries import columns_for
from kvstore.coordinator.linearizable.scanning import ReadRegisters, read_page
from kvstore.coordinator.outcomes import receipt
from kvstore.core.doubts import Doubts
from kvstore.core.page import Page
from kvstore.core.policies.registry import join_records
from kvstore.core.record import verify
from kvstore.runtime import Clock
from kvstore.storage.replica import Replica
from kvstore.transport.peers import PeerTransport

PAGE_KEYS_MAX = 2000
PAGE_BYTES_MAX = 1024 * 1024


@dataclass(slots=True)
class _Answer:
    node: str
    page: Page


class ScanCoordinator:
    """Coordinates scans; any node can, whatever it owns."""

    def __init__(
        self, *, me: str, replica: Replica, peers: PeerTransport, ring: RingHolder, clock: Clock, durable: bool, doubts: Doubts
    ) -> None:
        self._doubts = doubts
        self._me = me
        self._replica = replica
        self._peers = peers
        self._ring = ring
        self._clock = clock
        self._durable = durable

    async def run(self, query: ScanQuery, read: ReadRegisters) -> AsyncGenerator[ScanPage, None]:
        """Pages of live keys in order. A failure is a page with an error, and the last one. Of linearizable namespaces the keys are
        gathered from majorities, and `read` as a client would."""
        left = query.limit
        position = max(query.start, query.prefix, query.after + b"\x00" if query.after else b"")
        end = _end(query)
        while True:
            try:
                view = self._ring.view
                space = view.space(query.namespace)
                check_level(space.info, query.level, query.sloppy, query.bound_ms)
                if query.level in OF_HOMES:
                    raise BadRequest("a scan has no level atomic or zone_quorum: at quorum it asks a majority", subject="level")
                doubtful = self._doubts.everywhere() if self._doubts.any else frozenset()
                keys, records, done, answers = await self._merged_page(view, space, query, position, end)
                if space.info.mode == LINEARIZABLE:
                    page, taken = await read_page(query, keys, left, read)
                else:
                    page, taken = self._page(view, space, query, keys, records, answers, left, doubtful)
            except KvError as error:
                yield ScanPage(error=error)
                return
            if page.keys:
                yield page
            if done or (query.limit and taken >= left):
                return
            left -= taken
            position = keys[-1] + b"\x00"

    async def _merged_page(
        self, view: RingView, space: Space, query: ScanQuery, start: bytes, end: bytes
    ) -> tuple[list[bytes], list[bytes], bool, list[_Answer]]:
        """Merged records from `start` on: keys, records, whether the range ends here, and the answers that they are of."""
        need = needed(space.info, _as_group(query))
        answers = await self._ask(view, space, query, start, end, need)
        horizon = min((answer.page.last for answer in answers if answer.page.more), default=None)
        merged: dict[bytes, bytes] = {}
        for answer in answers:
            for key, record in zip(answer.page.keys, answer.page.records, strict=True):
                if horizon is not None and key > horizon:
                    break
                held = merged.get(key)
                merged[key] = record if not held else join_records(space.policy, held, record)
        if horizon is not None:
            merged.setdefault(horizon, b"")
        keys = sorted(merged)
        return keys, [merged[key] for key in keys], horizon is None, answers

    async def _ask(self, view: RingView, space: Space, query: ScanQuery, start: bytes, end: bytes, need: int) -> list[_Answer]:
        """Asks every member and returns as soon as each partition has `need` answers of its home replicas, without lost keys. A
        level that degrades takes what all have answered when that is less; the copies of stand-ins are among it."""
        loop, timeout_s = asyncio.get_running_loop(), query.timeout_ms / 1000
        arrived: asyncio.Queue[tuple[str, Page | KvError]] = asyncio.Queue()
        tasks = [
            loop.create_task(self._ask_one(member.id, space, start, end, timeout_s, arrived), name=f"scan@{member.id}")
            for member in view.ring.members
        ]
        owners = [nodes[: space.info.n] for nodes in view.preference]
        answers: list[_Answer] = []
        missing = [need] * len(owners)
        damaged: set[int] = set()
        try:
            async with asyncio.timeout(timeout_s):
                for _ in tasks:
                    node, page = await arrived.get()
                    if isinstance(page, KvError):
                        continue
                    answers.append(_Answer(node, page))
                    lost = {xxh3_64_intdigest(key) >> view.ring.shift for key in page.lost}
                    damaged |= lost
                    for partition, nodes in enumerate(owners):
                        if node in nodes and partition not in lost and not (page.rebuilding and len(nodes) > 1):
                            missing[partition] -= 1
                    if max(missing) <= 0:
                        return answers
        except TimeoutError:
            raise DeadlineExceeded("a page of the scan took longer than its deadline", needed=need) from None
        finally:
            for task in tasks:
                task.cancel()
        least = need - max(missing)
        # Lost is unknown, never absent: what was lost by those who answered is no matter of how many were asked (safety rule 5).
        if answers and degrades(space.info, _as_group(query)) and not any(missing[partition] > 0 for partition in sorted(damaged)):
            return answers
        raise QuorumUnreachable(
            f"some keys have {least} of the {need} replicas needed to scan them",
            needed=need,
            received=least,
            contacted=len(tasks),
        )

    async def _ask_one(
        self,
        node: str,
        space: Space,
        start: bytes,
        end: bytes,
        timeout_s: float,
        arrived: asyncio.Queue[tuple[str, Page | KvError]],
    ) -> None:
        try:
            if node == self._me:
                page = await self._replica.page(space.info.id, start, end, PAGE_KEYS_MAX, PAGE_BYTES_MAX)
            else:
                page = await self._peers.page(node, space.info.id, start, end, PAGE_KEYS_MAX, PAGE_BYTES_MAX, timeout_s)
        except KvError as error:
            arrived.put_nowait((node, error))
        else:
            is_whole = node == self._me or space.info.mode == LINEARIZABLE  # of registers the keys alone
            arrived.put_nowait((node, page if is_whole else _verified(page)))

    def _page(
        self,
        view: RingView,
        space: Space,
        query: ScanQuery,
        keys: list[bytes],
        records: list[bytes],
        answers: list[_Answer],
        left: int,
        doubtful: frozenset[str],
    ) -> tuple[ScanPage, int]:
        """The live keys among the merged ones, at most `left` if the query has a limit. `doubtful`: who may know more than the
        others."""
        now_ms = self._clock.now_ms()
        columns = columns_for(space.policy)
        shown: list[bytes] = []
        for key, record in zip(keys, records, strict=True):
            if not record:
                continue
            before = len(columns.values)
            columns.add(record, now_ms)
            if len(columns.values) == before:  # deleted or expired
                columns.counts.pop()
                columns.contexts.pop()
                continue
            shown.append(key)
            if query.limit and len(shown) >= left:
                break
        group = _as_group(query)
        need = needed(space.info, group)
        answered = [answer.node for answer in answers]
        whole = [answer.node for answer in answers if not answer.page.rebuilding and not answer.page.lost]
        is_in_doubt = need > 1 and degrades(space.info, group) and not doubtful.issubset(whole)
        degraded = self._is_degraded(view, space, answered, need) or is_in_doubt
        sub = SubBatch(0, group, space, view.owner_sets[space.info.n][0], None, [], need, view)
        several = any(count != 1 for count in columns.counts)
        page = ScanPage(
            keys=shown,
            counts=columns.counts if several else (),
            values=() if query.keys_only else columns.values,
            versions=b"".join(columns.versions),
            contexts=columns.contexts,
            expires_ms=columns.expires_ms if columns.expiring else (),
            receipt=receipt(sub, answered, now_ms=now_ms, durable=self._durable, degraded=degraded, explanation=columns.failures),
            kinds=bytes(columns.kinds),
            fields=columns.fields,
        )
        return page, len(shown)

    @staticmethod
    def _is_degraded(view: RingView, space: Space, answered: Sequence[str], need: int) -> bool:
        """Whether some partition had fewer than `need` answers of its home replicas."""
        return any(len(set(owners.nodes) & set(answered)) < need for owners in view.owner_sets[space.info.n])


def _as_group(query: ScanQuery) -> OperationGroup:
    """What the query asks of each key."""
    return OperationGroup(Kind.GET, query.namespace, (), level=query.level, r=query.r, sloppy=query.sloppy)


def _verified(page: Page) -> Page:
    """`page` with what was damaged on its way among the lost keys: it is unknown, not absent (safety rule 5)."""
    damaged = [key for key, record in zip(page.keys, page.records, strict=True) if not verify(record)]
    if not damaged:
        return page
    sound = [(key, record) for key, record in zip(page.keys, page.records, strict=True) if key not in damaged]
    keys, records = [key for key, _ in sound], [record for _, record in sound]
    return Page(keys, records, page.more, sorted([*page.lost, *damaged]), rebuilding=page.rebuilding)


def _end(query: ScanQuery) -> bytes:
    """The exclusive end of a query's range: the smaller of `end` and the end of its prefix; empty: none."""
    ends = [query.end] if query.end else []
    stripped = query.prefix.rstrip(b"\xff")
    if stripped:
        ends.append(stripped[:-1] + bytes([stripped[-1] + 1]))
    return min(ends, default=b"")
