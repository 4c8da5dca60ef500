"""A page of a scan over registers: the keys are known, what they hold is read as a client would read it.

Every key with a committed value is on a majority of its home replicas, so the keys that majorities list are all there are; each is
then read at the query's level. A page is not one moment: each of its keys is as of some moment of the page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kvproto.columns import VERSION_BYTES, GroupReply, Kind, OperationGroup, Receipt, ScanPage, ScanQuery

ReadRegisters = Callable[[OperationGroup], Awaitable[list[GroupReply]]]

Row = tuple[bytes, bytes, int]
"""Value, version, expiry."""

KEYS_AT_ONCE = 512


async def read_page(query: ScanQuery, keys: Sequence[bytes], left: int, read: ReadRegisters) -> tuple[ScanPage, int]:
    """The live ones among `keys`, at most `left` if the query has a limit, and how many those are. Raises `KvError`."""
    shown: list[bytes] = []
    rows: list[Row] = []
    told: Receipt | None = None
    for first in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[first : first + KEYS_AT_ONCE]
        group = OperationGroup(
            Kind.GET, query.namespace, some, timeouts_ms=[query.timeout_ms], level=query.level, bound_ms=query.bound_ms
        )
        found: dict[int, Row] = {}
        for reply in await read(group):
            if reply.error is not None:
                raise reply.error
            told = reply.receipt
            found.update(_rows(reply, len(some)))
        for position in sorted(found):
            shown.append(some[position])
            rows.append(found[position])
        if query.limit and len(shown) >= left:
            del shown[left:], rows[left:]
            break
    expires_ms = [row[2] for row in rows]
    page = ScanPage(
        keys=shown,
        values=() if query.keys_only else [row[0] for row in rows],
        versions=b"".join([row[1] for row in rows]),
        contexts=[b""] * len(rows),
        expires_ms=expires_ms if any(expires_ms) else (),
        receipt=told,
    )
    return page, len(shown)


def _rows(reply: GroupReply, count: int) -> dict[int, Row]:
    positions = range(count) if reply.positions is None else reply.positions
    there = [position for at, position in enumerate(positions) if not reply.counts or reply.counts[at]]
    versions = [reply.versions[at : at + VERSION_BYTES] for at in range(0, len(reply.versions), VERSION_BYTES)]
    expires_ms = reply.expires_ms or [0] * len(there)
    return {
        position: (value, version, ends_ms)
        for position, value, version, ends_ms in zip(there, reply.values, versions, expires_ms, strict=True)
    }
