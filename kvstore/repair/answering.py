"""The side that is asked: what a node answers to a peer that looks for differences (core/merkle/exchange.py says in which order).

Roots and nodes are answered from memory at once. Leaves and records are read from one scan of the prefix, some rows at a time and
off the loop; one such scan runs at a time, whoever asks, so that the others wait and clients do not. While one peer looks for what
differs, or this node does so itself at another, others are told to come later: they would find the same, and send it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvproto.errors import BadRequest, Overloaded
from kvstore.core.merkle.exchange import Answer, Listing, answer, summarise
from kvstore.core.merkle.forest import PREFIX_BYTES, Forest
from kvstore.core.merkle.questions import (
    HASHES_MAX,
    LEAVES_MAX,
    RECORDS_BYTES_MAX,
    ROOTS_MAX,
    Held,
    Leaves,
    Nodes,
    Question,
    Records,
    Reply,
    Roots,
    Summary,
)
from kvstore.core.merkle.tree import DEPTH_MAX, key_hash
from kvstore.storage.layout import SYSTEM_PREFIX, prefix_successor
from kvstore.storage.replica import Replica

TURN_S = 1.0
"""A peer that has asked for more than roots has the turn for so long after each question."""
ROOTS_AT_ONCE = 64
ROWS_AT_ONCE = 256
ROWS_BYTES = 1 << 18


class Answering:
    """One node's answers; without a `forest` it compares with nobody."""

    def __init__(self, forest: Forest | None, replica: Replica) -> None:
        self._forest = forest or Forest()
        self._replica = replica
        self._scanning = asyncio.Semaphore(1)
        self._loop = asyncio.get_running_loop()
        self._asker = ""
        self._until_s = 0.0
        self.asking = ""
        """The peer that this node is in an exchange with, which it began; empty: with none."""

    @property
    def is_asked(self) -> bool:
        """Whether a peer is in an exchange with us."""
        return self._loop.time() < self._until_s

    async def answer(self, question: Question, asker: str = "", *, urgent: bool = False) -> Reply:
        """The answer. Raises `BadRequest` for a question that makes no sense, `StorageError` where something cannot be read, and
        `Overloaded` while it is another peer's turn."""
        if not isinstance(question, Roots):
            self._take_turn(asker, urgent)
        match question:
            case Roots(prefixes):
                _check(len(prefixes) <= ROOTS_MAX, *prefixes)
                return await self._roots(prefixes)
            case Nodes(prefix, _):
                _check(True, prefix)
                return self._nodes(question)
            case Leaves(prefix, depth, leaves):
                fits = depth <= DEPTH_MAX and len(leaves) <= LEAVES_MAX and all(leaf < 1 << depth for leaf in leaves)
                _check(fits, prefix)
                async with self._scanning:
                    return (await list_leaves(self._replica, prefix, Listing(depth, leaves))).packed()
            case Records(prefix, hashes, start):
                _check(len(hashes) <= HASHES_MAX and (not start or start.startswith(prefix)), prefix)
                async with self._scanning:
                    return await self._records(question)

    def _take_turn(self, asker: str, urgent: bool) -> None:
        other = self.asking or (self._asker if self.is_asked else "")
        if other and asker != other:
            if urgent:
                return
            raise Overloaded(f"in an exchange with {other}", retry_after_s=TURN_S, subject="exchange")
        self._asker, self._until_s = asker, self._loop.time() + TURN_S

    async def _roots(self, prefixes: Sequence[bytes]) -> Summary:
        unsure = [at for at, prefix in enumerate(prefixes) if self._replica.is_unsure_of([prefix])]  # before: it may end meanwhile
        parts = []
        for first in range(0, len(prefixes), ROOTS_AT_ONCE):
            parts.append(summarise(self._forest, prefixes[first : first + ROOTS_AT_ONCE]))
            await asyncio.sleep(0)
        return Summary(b"".join(parts), unsure)

    def _nodes(self, question: Nodes) -> Answer | None:
        tree = self._forest.tree(question.prefix)
        if tree is None:
            return None
        try:
            return answer(tree, question.ask)
        except ValueError as error:
            raise BadRequest(str(error), subject="nodes") from error

    async def _records(self, question: Records) -> Held:
        wanted = frozenset(question.hashes)
        start = question.start or question.prefix
        snapshot = self._replica.snapshot(start, prefix_successor(question.prefix))
        keys: list[bytes] = []
        records: list[bytes] = []
        size_bytes, is_over = 0, False
        while not is_over:
            rows = await self._replica.read_some(snapshot, ROWS_AT_ONCE, ROWS_BYTES)
            is_over = rows.is_over
            for store_key, record in zip(rows.store_keys, rows.records, strict=True):
                if key_hash(store_key) not in wanted:
                    continue
                if keys and size_bytes + len(record) > RECORDS_BYTES_MAX:
                    return Held(keys, records, store_key)
                keys.append(store_key)
                records.append(record)
                size_bytes += len(store_key) + len(record)
        return Held(keys, records)


async def list_leaves(replica: Replica, prefix: bytes, listing: Listing) -> Listing:
    """Fills `listing` from a scan of everything under `prefix`, some rows at a time. Raises `StorageError`."""
    snapshot = replica.snapshot(prefix, prefix_successor(prefix))
    is_over = False
    while not is_over:
        rows = await replica.read_some(snapshot, ROWS_AT_ONCE, ROWS_BYTES)
        listing.add(rows.store_keys, rows.records)
        is_over = rows.is_over
    return listing


def _check(fits: bool, *prefixes: bytes) -> None:
    if not fits or any(len(prefix) != PREFIX_BYTES or prefix >= SYSTEM_PREFIX for prefix in prefixes):
        raise BadRequest("a question about no tree, or about too much at once", subject="question")
