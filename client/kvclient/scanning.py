"""A scan: pages in key order from one node, continued at another behind the last key when that one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

from kvclient.decoding import decode_entries
from kvclient.errors import DeadlineExceeded, KvError
from kvclient.membership import Membership
from kvclient.node_link import NodeLink
from kvclient.retry import backoff_s
from kvclient.values import Entry
from kvproto.columns import ScanQuery


async def scan(membership: Membership, query: ScanQuery, timeout_s: float, rng: Random) -> AsyncIterator[Entry]:
    """The entries of `query` in key order. Each next page has `timeout_s`, failures and moves to other nodes included.

    Raises the last `KvError` when no node could go on; what was yielded before stands.
    """
    left = query.limit
    attempt = 0
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    avoid: NodeLink | None = None
    while True:
        link = _choose(membership, avoid)
        pages = link.transport.scan(query)
        try:
            async with asyncio.timeout_at(deadline_s) as patience:
                async for page in pages:
                    if page.error is not None:
                        raise page.error
                    for entry in decode_entries(page.keys, page):
                        yield entry
                        query = replace(query, after=entry.key)
                        left -= 1
                        if query.limit and left <= 0:
                            return
                    attempt = 0
                    deadline_s = loop.time() + timeout_s
                    patience.reschedule(deadline_s)
            return
        except TimeoutError as error:
            raise DeadlineExceeded(f"no page of the scan within {timeout_s:g} s", subject=link.address) from error
        except KvError as error:
            if not error.retryable:
                raise
            delay_s = max(error.retry_after_s, backoff_s(attempt, rng))
            if loop.time() + delay_s >= deadline_s:
                raise
        avoid, attempt = link, attempt + 1
        query = replace(query, limit=left if query.limit else 0)
        await asyncio.sleep(delay_s)


def _choose(membership: Membership, avoid: NodeLink | None) -> NodeLink:
    """Any node can scan the whole namespace: one that is up, not the one that just failed."""
    links = membership.all_links()
    for link in links:
        if link.up and link is not avoid:
            return link
    return next((link for link in links if link is not avoid), links[0])
