"""The hash trees of a node between two of its lives: stored by a clean stop, believed only by the start that finds its marker.

    0xFF × 6 · "n" · "tree/" · prefix    the dump of one tree (core/merkle/tree.py)
    0xFF × 6 · "n" · "trees"             which clean stop stored them, and which trees were unknown then

The row on the whole set is written last, and holds the state that the clean-shutdown marker holds. Trees of another stop, or of
none, do not tell what is on the disk: they are unknown, and rebuilt (repair/tree_keeper.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct

from kvstore.core.merkle.forest import PREFIX_BYTES, Forest
from kvstore.core.merkle.tree import DamagedTree
from kvstore.storage.engine import Engine
from kvstore.storage.layout import SYSTEM_PREFIX, prefix_successor, system_key, system_name_range

SET_KEY = system_key(b"trees")
_NAME = b"tree/"
_STATE = Struct(">H")
_BATCH_BYTES = 4 << 20


def load_forest(
    engine: Engine,
    clean_state: bytes | None,
    prefixes: Iterable[bytes],
    has_none: Callable[[bytes], bool] = lambda prefix: False,
) -> Forest:
    """The trees as a clean stop has left them. After any other end those of `prefixes`, all that are known of, and of whatever else
    the directory holds are unknown, but for those that `has_none` of, unless it holds no record at all. Raises `StorageError`."""
    forest = Forest()
    stored = engine.get(SET_KEY)
    if clean_state is None or stored is None or not _is_of(stored, clean_state):
        if next(engine.keys(b"", SYSTEM_PREFIX), None) is not None:
            forest.mark_unknown([*prefixes, *(prefix for prefix in held_prefixes(engine) if not has_none(prefix))])
        return forest
    start = len(system_key(_NAME))
    for name, data in engine.scan(*system_name_range(_NAME)):
        try:
            forest.load(name[start:], data)
        except DamagedTree:
            forest.mark_unknown([name[start:]])
    unknown = stored[_STATE.size + len(clean_state) :]
    forest.mark_unknown(unknown[at : at + PREFIX_BYTES] for at in range(0, len(unknown), PREFIX_BYTES))
    return forest


def held_prefixes(engine: Engine, start: bytes = b"") -> Iterator[bytes]:
    """The prefix of every tree of which records are held, in order, from `start` on; a seek for each. Also of namespaces that this
    node does not know yet. Raises `StorageError`."""
    cursor: bytes | None = start
    while cursor is not None:
        found = next(engine.keys(cursor, SYSTEM_PREFIX), None)
        if found is None:
            return
        prefix = found[:PREFIX_BYTES]
        yield prefix
        cursor = prefix_successor(prefix)


def store_forest(engine: Engine, forest: Forest, clean_state: bytes) -> None:
    """Stores every known tree, durably, for the start that finds a marker with `clean_state`. As the last write of a life. Raises
    `StorageError`; that stop was none then."""
    stale = set(engine.keys(*system_name_range(_NAME)))
    puts: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for prefix, data in forest.dump():
        name = system_key(_NAME + prefix)
        stale.discard(name)
        puts.append((name, data))
        size_bytes += len(data)
        if size_bytes > _BATCH_BYTES:
            engine.write(puts, sync=False)
            puts, size_bytes = [], 0
    puts.append((SET_KEY, _STATE.pack(len(clean_state)) + clean_state + b"".join(forest.unknown)))
    engine.write(puts, sorted(stale), sync=True)


def _is_of(stored: bytes, clean_state: bytes) -> bool:
    return stored[: _STATE.size + len(clean_state)] == _STATE.pack(len(clean_state)) + clean_state
