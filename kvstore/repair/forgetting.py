"""Has a replica forget what it holds of keys in memory, when what it has missed of them is not here any more to be handed over.

A hint outlives the record that it points to: that may have been evicted, or lost with the process. What it superseded lies at its
target still, and would be read there for as long as that keeps it. So the target is asked what it holds, and given just that back
without values: it is a cache, and may forget whatever it likes, but must not show what was deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from kvstore.core.forgetting import without_values
from kvstore.core.record import DIGEST_BYTES, DamagedRecord
from kvstore.repair.told import Told
from kvstore.transport.peers import FetchChunk, PeerTransport, StoreChunk


async def have_forgotten(
    peers: PeerTransport, target: str, keys: Sequence[bytes], *, now_ms: int, ring_hash: int, timeout_s: float
) -> set[bytes]:
    """Asks at `now_ms`; the keys of which `target` holds nothing any more that it held then."""
    loop, told = asyncio.get_running_loop(), Told[FetchChunk]()
    size_bytes = sum(map(len, keys)) + DIGEST_BYTES * len(keys)
    peers.fetch(
        FetchChunk(target, keys, bytes(DIGEST_BYTES * len(keys)), size_bytes, loop.time() + timeout_s, told.take, ring_hash)
    )
    held = await told.answer
    if held.error is not None:
        return set()
    settled = set(keys[: held.answered_below]) - {keys[position] for position in held.lost}
    ended: dict[bytes, bytes] = {}
    for position, record in zip(held.differing, held.records, strict=True):
        if record:
            settled.discard(keys[position])
            with suppress(DamagedRecord):
                ended[keys[position]] = without_values(record)
    if not ended:
        return settled
    stored, store_keys, records = Told[StoreChunk](), list(ended), list(ended.values())
    size_bytes = sum(map(len, store_keys)) + sum(map(len, records))
    deadline_s = loop.time() + timeout_s
    peers.store(StoreChunk(target, store_keys, records, size_bytes, deadline_s, stored.take, ring_hash, since_ms=now_ms))
    answer = await stored.answer
    if answer.error is None:
        refused = set(answer.refused)
        settled |= {key for position, key in enumerate(store_keys) if position not in refused}
    return settled
