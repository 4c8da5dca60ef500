"""How one event of a typed policy changes a record: some siblings go, and exactly one comes, under the event's dot.

That is all that typed policies do, so the merge of versions.py is their join, with its proofs: a sibling is superseded iff one
side has seen its dot and does not hold it. An event that leaves nothing leaves a tombstone: a key that was written is never empty,
and the id of a remove is remembered like any other. The next event takes the tombstones that it finds.

A context chooses among what the coordinator holds and is never joined into the vector: it would cover elements that the coordinator
has not got, and drop them everywhere. What it names beyond is fetched first, or the write is refused.
"""

from __future__ import annotations

from collections.abc import Container

from kvproto.errors import TooLarge
from kvstore.core.policies.items import ITEMS_MAX
from kvstore.core.policies.operations import Event
from kvstore.core.versions import Record, Sibling, covers, forget, join, remember


def happen(base: Record, event: Event, *, gone: Container[bytes], value: bytes = b"", tombstone: bool = False) -> Record:
    """`base` with one new sibling, without those whose dots are in `gone` and without plain tombstones.

    Raises `TooLarge` for more siblings than a record holds.
    """
    assert not covers(base.vector, event.dot), "a dot is minted once"
    kept = [Sibling(event.dot, event.request_id, event.hlc, event.expires_ms, tombstone, value)]
    retries = dict(base.retries)
    for sibling in base.siblings:
        if sibling.dot in gone or (sibling.tombstone and not sibling.value):
            remember(retries, sibling)
        else:
            kept.append(sibling)
    if len(kept) > ITEMS_MAX:
        raise TooLarge(f"a key holds at most {ITEMS_MAX} items", limit=ITEMS_MAX, actual=len(kept), subject="items")
    retries, floor_ms = forget(retries, base.floor_ms, event.cutoff_ms, event.retries_max)
    vector = join(base.vector, {event.actor: event.counter})
    return Record(vector, tuple(sorted(kept, key=lambda sibling: sibling.dot)), retries, floor_ms)
