"""Columns of a reply to results, for reads and for writes. The usual case first: one value a key, none expires.

Called by `batches`, once for each part of a reply; `keys` are the keys the part is about, in its order. A reply whose columns do
not fit together raises `KvError`: what it says cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvclient.contexts import NamespaceContexts
from kvclient.errors import KvError
from kvclient.values import Entry, Incremented, PutResult, TypedEntry
from kvproto.columns import VERSION_BYTES, GroupReply, Receipt, ScanPage

NO_RECEIPT = Receipt()


def decode_entries(keys: Sequence[bytes], reply: GroupReply | ScanPage) -> list[Entry]:
    """One `Entry` a key."""
    count = len(keys)
    values = list(reply.values)
    versions = reply.versions
    contexts: Sequence[bytes] = list(reply.contexts) or [b""] * count
    receipt = reply.receipt or NO_RECEIPT
    if len(contexts) != count:
        raise _mismatch("contexts", count, len(contexts))
    if reply.kinds:
        return _decode_cells(keys, reply, values, contexts, receipt)
    if not reply.counts and not reply.expires_ms:
        if len(values) != count or len(versions) != count * VERSION_BYTES:
            raise _mismatch("values", count, len(values))
        offsets = range(0, count * VERSION_BYTES, VERSION_BYTES)
        return [
            Entry(key, value, versions, at, context, 0, receipt)
            for key, value, at, context in zip(keys, values, offsets, contexts, strict=True)
        ]
    return _decode_siblings(keys, list(reply.counts) or [1] * count, values, versions, contexts, list(reply.expires_ms), receipt)


def _decode_siblings(
    keys: Sequence[bytes],
    counts: list[int],
    values: list[bytes],
    versions: bytes,
    contexts: Sequence[bytes],
    expires_ms: list[int],
    receipt: Receipt,
) -> list[Entry]:
    """The general case: any number of siblings a key, each with its expiry."""
    total = sum(counts)
    if len(counts) != len(keys) or len(values) != total or len(versions) != total * VERSION_BYTES:
        raise _mismatch("siblings", total, len(values))
    if len(expires_ms) not in (0, total):
        raise _mismatch("expires_ms", total, len(expires_ms))
    expiries = expires_ms or [0] * total
    entries = []
    first = 0
    for key, count, context in zip(keys, counts, contexts, strict=True):
        held = None if count == 0 else values[first] if count == 1 else tuple(values[first : first + count])
        expiry = 0 if count == 0 else expiries[first] if count == 1 else tuple(expiries[first : first + count])
        entries.append(Entry(key, held, versions, first * VERSION_BYTES, context, expiry, receipt))
        first += count
    return entries


def _decode_cells(
    keys: Sequence[bytes], reply: GroupReply | ScanPage, values: list[bytes], contexts: Sequence[bytes], receipt: Receipt
) -> list[Entry]:
    """Counters, sets and maps: each key with its cells."""
    counts, kinds, fields = list(reply.counts) or [1] * len(keys), reply.kinds, list(reply.fields)
    total = sum(counts)
    if len(counts) != len(keys) or len(reply.versions) != total * VERSION_BYTES:
        raise _mismatch("versions", total, len(reply.versions) // VERSION_BYTES)
    if len(kinds) != total or len(fields) not in (0, total) or len(values) not in (0, total):
        raise _mismatch("cells", total, len(kinds))
    expiries = list(reply.expires_ms) or [0] * total
    values, fields = values or [b""] * total, fields or [b""] * total
    if len(expiries) != total:
        raise _mismatch("expires_ms", total, len(expiries))
    entries: list[Entry] = []
    first = 0
    for key, count, context in zip(keys, counts, contexts, strict=True):
        cells = slice(first, first + count)
        entries.append(
            TypedEntry(
                key,
                tuple(values[cells]) if count else None,
                reply.versions,
                first * VERSION_BYTES,
                context,
                tuple(expiries[cells]),
                receipt,
                kinds[cells],
                tuple(fields[cells]),
            )
        )
        first += count
    return entries


def decode_results(keys: Sequence[bytes], reply: GroupReply, memory: NamespaceContexts) -> list[PutResult]:
    """One `PutResult` a key; each acknowledged context is remembered."""
    count = len(keys)
    versions = reply.versions
    contexts: Sequence[bytes] = list(reply.contexts) or [b""] * count
    siblings: Sequence[int] = list(reply.counts) or [1] * count
    receipt = reply.receipt or NO_RECEIPT
    if len(versions) != count * VERSION_BYTES or len(contexts) != count or len(siblings) != count:
        raise _mismatch("versions", count, len(versions) // VERSION_BYTES)
    if reply.values and len(reply.values) != count:
        raise _mismatch("values", count, len(reply.values))
    remember = memory.remember
    if reply.values:
        for key, context in zip(keys, contexts, strict=True):
            remember(key, context)
        rows = zip(keys, contexts, reply.values, strict=True)
        return [
            Incremented(key, versions, position * VERSION_BYTES, context, 1, receipt, int(digits))
            for position, (key, context, digits) in enumerate(rows)
        ]
    results = []
    at = 0
    for key, context, held in zip(keys, contexts, siblings, strict=True):
        remember(key, context)
        results.append(PutResult(key, versions, at, context, held, receipt))
        at += VERSION_BYTES
    return results


def _mismatch(column: str, expected: int, actual: int) -> KvError:
    return KvError(f"a reply's {column} do not fit its keys: {expected} expected, {actual} received", limit=expected, actual=actual)
