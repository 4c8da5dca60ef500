"""A session's scan: what a scan shows, but of the keys that the session has met nothing older than what it saw (safety rule 20).

A scan asks a quorum, which has seen all that the session wrote at one. What it wrote at less, only that replica may have that took
it; so the keys that it remembers are read as a session reads, and that takes the place of what the scan shows of them, unless that
is newer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from kvclient.values import Entry
from kvproto.columns import ScanQuery
from kvproto.contexts import join_contexts


def is_in_range(query: ScanQuery, key: bytes) -> bool:
    """Whether a scan of `query` would come past `key`."""
    return (
        key.startswith(query.prefix)
        and key >= query.start
        and not (query.end and key >= query.end)
        and not (query.after and key <= query.after)
    )


async def with_known(
    scanned: AsyncIterator[Entry], known: Mapping[bytes, Entry], seen: Mapping[bytes, bytes]
) -> AsyncIterator[Entry]:
    """The scanned entries with those of `known`, in key order. `known`: also of keys that are absent; `seen`: contexts that were
    seen, with those of `known`."""
    waiting = sorted((key for key, entry in known.items() if entry.found), reverse=True)
    async for entry in scanned:
        while waiting and waiting[-1] < entry.key:
            yield known[waiting.pop()]
        is_waiting = bool(waiting) and waiting[-1] == entry.key
        if is_waiting:
            waiting.pop()
        if entry.key not in known or join_contexts(entry.context, seen.get(entry.key, b"")) == entry.context:
            yield entry
        elif is_waiting:
            yield known[entry.key]
    while waiting:
        yield known[waiting.pop()]
