"""Watches every disk of a world and writes down who minted what over which siblings: the facts of the causal oracle.

Sees what an engine is given, record by record and in order, and nothing of the code that made it: a dot of an actor that this node
has leased in this life was minted here, over the record that was written here before. Where a record reaches another disk first,
the execution waits for its own node to write it, and is noted without its base if that node never does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvchaos.history import Recorder
from kvchaos.operations import name_of
from kvchaos.simulation.patch import Patch
from kvstore.core.record import DamagedRecord, decode
from kvstore.core.versions import ACTOR_BYTES, NO_REQUEST, Record, Sibling
from kvstore.simulation.process import OWNER
from kvstore.simulation.world import World
from kvstore.storage.epochs import ACTOR_KEY, node_tag
from kvstore.storage.layout import NAMESPACE_AT, SYSTEM_PREFIX, store_key_prefix
from kvstore.storage.memory_spaces import MemorySpaces

DECODED_MAX = 20_000
_PREFIX_BYTES = len(store_key_prefix(0, 1))


class Watch:
    """Notes executions in `recorder` as they are written; `finish` adds those that only other disks have seen."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self._recorder = recorder
        self._names = {node_tag(name): name for name in world.machines}
        self._actors: dict[str, set[bytes]] = {}
        self._latest: dict[str, dict[bytes, Record]] = {}
        self._seen: dict[bytes, tuple[bytes, bool, bytes]] = {}  # dot -> request id, tombstone, value
        self._waiting: dict[bytes, tuple[str, Sibling]] = {}  # dot -> key and execution, seen elsewhere first
        self._decoded: dict[bytes, Record] = {}
        recorder.note("disks", "info", "watch")
        for name in world.machines:
            self._attach(world, name)

    def finish(self) -> None:
        """Call it once, at the end."""
        self._give_up(lambda node: True)

    def attach_memory(self, patch: Patch) -> None:
        """Sees what is kept in memory as well: it never comes to a disk."""

        def keep(memory: MemorySpaces, pairs: Sequence[tuple[bytes, bytes]]) -> list[int]:
            name = OWNER.get().name
            for store_key, data in pairs:
                space = memory.spaces.get(store_key[NAMESPACE_AT])
                if space is not None:
                    held = space.map.peek(store_key)
                    self._latest[name][store_key] = (self._decode(held) if held else None) or Record()
                    self._written(name, store_key, data, space.map.peek, in_memory=True)
            others: list[int] = keep_before(memory, pairs)
            return others

        keep_before = patch.set(MemorySpaces, "keep", keep)

    def _attach(self, world: World, name: str) -> None:
        disk: Any = world.disk(name)
        open_engine = disk.open_engine

        def open_watched(*args: Any, **options: Any) -> Any:
            engine = open_engine(*args, **options)
            write = engine.write
            # What the last life minted and did not write, it never will.
            self._give_up(lambda node: node == name)
            self._actors[name], self._latest[name] = set(), {}

            def write_watched(puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool) -> None:
                self._latest[name].update(dict.fromkeys(deletes, Record()))  # they come first; what a stand-in has handed over goes
                for store_key, data in puts:
                    if store_key == ACTOR_KEY:
                        self._actors[name].add(data[:ACTOR_BYTES])
                    elif not store_key.startswith(SYSTEM_PREFIX):
                        self._written(name, store_key, data, engine.get)
                write(puts, deletes, sync=sync)

            engine.write = write_watched
            return engine

        disk.open_engine = open_watched

    def _written(
        self, name: str, store_key: bytes, data: bytes, get: Callable[[bytes], bytes | None], *, in_memory: bool = False
    ) -> None:
        record = self._decode(data)
        if record is None:
            return
        latest = self._latest[name]
        base = latest.get(store_key)
        if base is None:
            held = get(store_key)
            base = self._decode(held) if held else Record()
        latest[store_key] = record
        key = store_key[_PREFIX_BYTES:].decode(errors="replace")
        for sibling in record.siblings:
            content = (sibling.request_id, sibling.tombstone, sibling.value)
            seen = self._seen.get(sibling.dot)
            # What has a time to live, which a touch gives and takes, ends under its dot.
            if seen is not None and seen[0] == content[0] and (sibling.expires_ms or sibling.touches):
                content = seen
            # In memory a node may be told to forget a value: it ends under its dot as well.
            if in_memory and seen is not None and (sibling.tombstone or seen[1]) and seen[0] == content[0]:
                content = seen
            if seen is None or seen != content:
                self._seen[sibling.dot] = content
                if seen is not None:
                    self._note(name, key, sibling, dot_taken=True)
                elif sibling.dot[:ACTOR_BYTES] in self._actors[name]:
                    self._minted(name, key, sibling, base)
                else:
                    self._waiting[sibling.dot] = (key, sibling)
            elif sibling.dot in self._waiting and sibling.dot[:ACTOR_BYTES] in self._actors[name]:
                del self._waiting[sibling.dot]
                self._minted(name, key, sibling, base)

    def _minted(self, name: str, key: str, sibling: Sibling, base: Record | None) -> None:
        if base is None:  # what it was built on is damaged on this disk
            self._note(name, key, sibling)
            return
        known = None if sibling.request_id == NO_REQUEST else base.known(sibling.request_id)
        facts = {} if known is None else {"remembered": known.hex()}
        self._note(name, key, sibling, base=[held.dot.hex() for held in base.siblings], **facts)

    def _give_up(self, of: Callable[[str], bool]) -> None:
        for dot in sorted(self._waiting):
            node = self._names.get(dot[:4], "?")
            if of(node):
                key, sibling = self._waiting.pop(dot)
                self._note(node, key, sibling)

    def _note(self, name: str, key: str, sibling: Sibling, *, base: list[str] | None = None, **facts: Any) -> None:
        value = {
            "write": None if sibling.tombstone else name_of(sibling.value),
            "version": sibling.dot.hex(),
            "request": sibling.request_id.hex(),
            "base": base,
            **facts,
        }
        self._recorder.note("disks", "info", "execute", key=key, value=value, node=name)

    def _decode(self, data: bytes) -> Record | None:
        """The record; None if it is damaged. The same bytes pass several disks."""
        found = self._decoded.get(data)
        if found is None:
            try:
                found = decode(data)
            except DamagedRecord:
                return None
            if len(self._decoded) > DECODED_MAX:
                self._decoded.clear()
            self._decoded[data] = found
        return found
