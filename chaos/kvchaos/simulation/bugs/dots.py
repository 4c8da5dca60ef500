"""Versions that do not mean what they say: rules 1 and 2, and merges that drop what they should keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvstore.coordinator import minting
from kvstore.coordinator.replicas import Replicas
from kvstore.core.policies import registry
from kvstore.core.record import (
    DamagedRecord,
    decode,
    encode,
    encode_context,
)
from kvstore.core.record_writes import merge_records
from kvstore.core.versions import ACTOR_BYTES, Context, Record
from kvstore.storage import merging
from kvstore.storage.epochs import ACTOR_KEY, ActorLedger, node_tag


@bug("bare-event", "the new event is sent to the other replicas, not the whole record (safety rule 1)")
def send_bare_events(patch: Patch) -> None:
    """Vector and sibling of the event alone: its vector covers earlier dots of its actor that the receiver never saw."""

    def strip(tag: bytes, data: bytes) -> bytes:
        own = [sibling for sibling in decode(data).siblings if sibling.dot.startswith(tag)]
        if not own:
            return data
        newest = max(own, key=lambda sibling: (sibling.hlc, sibling.dot[ACTOR_BYTES:]))
        return encode(Record({newest.dot[:ACTOR_BYTES]: int.from_bytes(newest.dot[ACTOR_BYTES:], "big")}, (newest,)))

    def store_bare(self: Replicas, nodes: Any, keys: Any, records: Sequence[bytes], *rest: Any, **named: Any) -> None:
        store_at_others(self, nodes, keys, [strip(node_tag(self.me), record) for record in records], *rest, **named)

    store_at_others = patch.set(Replicas, "store_at_others", store_bare)


@bug("epoch-kept-after-crash", "a node that crashed goes on under its old actor, behind the last dot on its disk (safety rule 2)")
def keep_epochs(patch: Patch) -> None:
    """What it minted and sent, and did not get to sync, it mints again."""

    def draw_again(self: ActorLedger) -> None:
        draw(self)
        engine = self._committer._engine  # noqa: SLF001 - a planted bug may look anywhere
        row = None if self.lease else engine.get(ACTOR_KEY)
        if row is not None:
            self.actor = row[:ACTOR_BYTES]
            self.counter = self.lease = max((_counter(data, self.actor) for _, data in engine.scan(b"")), default=0)

    draw = patch.set(ActorLedger, "_draw", draw_again)


@bug("dots-reused-after-wipe", "an actor is named after its node alone: after a wipe its dots are minted again (safety rule 2)")
def reuse_dots(patch: Patch) -> None:
    """A restart goes on behind the durable lease, so that only the loss of the disk shows."""

    def draw_again(self: ActorLedger) -> None:
        draw(self)
        row = self._committer._engine.get(ACTOR_KEY)  # noqa: SLF001
        self.actor = self.actor[:4] + bytes(8)
        self.counter = self.lease = 0 if row is None else int.from_bytes(row[ACTOR_BYTES:], "big")

    draw = patch.set(ActorLedger, "_draw", draw_again)


@bug("newest-sibling", "a merge keeps only the newest of concurrent siblings")
def keep_newest(patch: Patch) -> None:
    """Last writer wins, where nobody asked for it."""

    def merge(held: bytes, new: bytes) -> bytes:
        merged = merge_records(held, new)
        record = decode(merged)
        if len(record.siblings) < 2:
            return bytes(merged)
        newest = max(record.siblings, key=lambda sibling: (sibling.hlc, sibling.dot))
        return encode(replace(record, siblings=(newest,)))

    for module in (merging, registry):
        patch.set(module, "merge_records", merge)


@bug("context-too-wide", "a put hands out a context of everything its record has seen, also of siblings its author never read")
def widen_contexts(patch: Patch) -> None:
    """The author's next write in that context removes what somebody else wrote."""

    def mint(*args: Any, **named: Any) -> Any:
        minted = mint_before(*args, **named)
        minted.context = encode_context(Context(decode(minted.record).vector))
        return minted

    mint_before = patch.set(minting, "mint", mint)


def _counter(data: bytes, actor: bytes) -> int:
    try:
        return decode(data).vector.get(actor, 0)
    except DamagedRecord:
        return 0
