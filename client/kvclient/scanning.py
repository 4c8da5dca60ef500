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
from kvproto.columns import ScanPage, ScanQuery


async def scan(membership: Membership, query: ScanQuery, timeout_s: float, rng: Random) -> AsyncIterator[Entry]:
    """The entries of `query` in key order. Each next page has `timeout_s`, failures and moves to other nodes included.

    Raises the last `KvError` when no node could go on; what was yielded before stands.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    is_limited = query.limit > 0
    attempt = 0
    avoid: NodeLink | None = None
    while True:
        link = _choose(membership, avoid)
        pages = link.transport.scan(query)
        try:
            while True:
                page = await _next_page(pages, deadline_s, link.address)
                if page is None:
                    return
                for entry in decode_entries(page.keys, page):
                    yield entry
                if page.keys:
                    attempt = 0
                    query = replace(query, after=page.keys[-1], limit=max(0, query.limit - len(page.keys)))
                    if is_limited and query.limit == 0:
                        return
                if page.error is not None:
                    raise page.error
                deadline_s = loop.time() + timeout_s
        except KvError as error:
            delay_s = max(error.retry_after_s, backoff_s(attempt, rng))
            if not error.retryable or loop.time() + delay_s >= deadline_s:
                raise
            avoid, attempt = link, attempt + 1
            await asyncio.sleep(delay_s)
        finally:
            await _close(pages)


async def _next_page(pages: AsyncIterator[ScanPage], deadline_s: float, address: str) -> ScanPage | None:
    """The next page, None behind the last. The timeout is around this one wait: around a `yield` it would cancel the consumer."""
    try:
        async with asyncio.timeout_at(deadline_s):
            return await anext(pages, None)
    except TimeoutError as error:
        raise DeadlineExceeded("no page of the scan came in time", subject=address) from error


async def _close(pages: AsyncIterator[ScanPage]) -> None:
    """Ends the node's side of a scan that is left early."""
    close = getattr(pages, "aclose", None)
    if close is not None:
        await close()


def _choose(membership: Membership, avoid: NodeLink | None) -> NodeLink:
    """Any node can scan the whole namespace: one that is up, not the one that just failed."""
    links = membership.all_links()
    for link in links:
        if link.up and link is not avoid:
            return link
    return next((link for link in links if link is not avoid), links[0])
