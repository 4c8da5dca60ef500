"""Which keys a database may hold, in memory: a question about a key that was never written need not reach LevelDB.

To LevelDB such a question is dear twice (ADR 13): it looks into every level, and it takes each look that a table's own filter
answers for a seek; after some hundred of them it compacts that table, useful or not. The first write of a key asks just that on
every replica.

The filters only grow: a key that was deleted, or whose write failed, stays known, and asking for it is as dear as before. Layers of
growing size instead of one filter, because a filter cannot be made larger without every key. Bloom, "Space/time trade-offs in hash
coding with allowable errors", 1970, and Almeida et al., "Scalable Bloom filters", 2007.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Event, Lock
from typing import Protocol

from rbloom import Bloom

LAYER_KEYS_FIRST = 1 << 18
LAYER_GROWTH = 4
LAYERS_MAX = 4  # 22 million keys in 27 MB; where there are more, LevelDB is asked about each
FALSE_POSITIVE_RATE = 0.01  # of each layer

LEARN_KEYS = 256
LEARN_BYTES = 256 << 10
LEARN_PAUSE_S = 0.005
"""After so many keys, or bytes: whoever is served meanwhile must not notice."""


class Filter(Protocol):
    """Says of a key whether it may be known; only "no" is certain."""

    def __contains__(self, key: bytes, /) -> bool:
        """Whether it may be."""


class _Everything:
    def __contains__(self, key: bytes, /) -> bool:
        return True


class KnownKeys:
    """Every key that was ever written, and a few more. Any thread may call any method."""

    filters: list[Filter]
    """A key that none of them contains is not in the database. One list for ever, so that whoever asks often can keep it. Nothing
    is ever taken out of it but a first filter that contains everything, so that a walk over it in another thread misses none."""

    def __init__(self, *, complete: bool, layer_keys_first: int = LAYER_KEYS_FIRST) -> None:
        """`complete`: the database is empty, so that what is added is all there will be. Otherwise every key may be there until
        `completed`."""
        self._lock = Lock()
        self._layers: list[Bloom] = []
        self._layer_keys = layer_keys_first
        self._room = 0  # keys that the newest layer takes before it has to be looked at
        self.is_full = False
        """There are more keys than are kept: any may be there, for good."""
        self.filters = [] if complete else [_Everything()]

    @property
    def complete(self) -> bool:
        """Whether any key can be told to be absent."""
        return not (self.filters and isinstance(self.filters[0], _Everything))

    def add(self, keys: Iterable[bytes]) -> None:
        """To be called before `keys` are written."""
        fresh = list(keys)
        if not fresh:
            return
        with self._lock:
            if self._room >= len(fresh) or self._made_room():
                # In one piece, for those who ask meanwhile: hashing bytes never lets go of the interpreter's lock.
                self._layers[-1].update(fresh)
                self._room -= len(fresh)

    def completed(self) -> None:
        """Every key that the database held before the first `add` has been added as well."""
        with self._lock:
            if not self.complete and not self.is_full:
                del self.filters[0]

    def _made_room(self) -> bool:
        """False: there are too many keys, and from now on any may be there."""
        if self.is_full:
            return False
        if self._layers:
            # Keys that were there already have taken no room. A layer with all bits set is estimated to hold infinitely many.
            self._room = self._layer_keys - int(min(self._layers[-1].approx_items, self._layer_keys))
            if self._room >= self._layer_keys // 8:
                return True
            if len(self._layers) == LAYERS_MAX:
                self.is_full = True
                if self.complete:
                    self.filters.insert(0, _Everything())
                return False
            self._layer_keys *= LAYER_GROWTH
        self._layers.append(Bloom(self._layer_keys, FALSE_POSITIVE_RATE))
        self.filters.append(self._layers[-1])
        self._room = self._layer_keys
        return True


def learn(known: KnownKeys, pairs: Iterable[tuple[bytes, bytes]], stopping: Event) -> None:
    """Adds every key of a database that was opened again, in a thread of its own, until `stopping` is set. Whoever writes meanwhile
    adds what is written. Raises what `pairs` raises, and then the keys are not complete."""
    keys: list[bytes] = []
    size_bytes = 0
    for key, value in pairs:
        keys.append(key)
        size_bytes += len(key) + len(value)
        if len(keys) >= LEARN_KEYS or size_bytes >= LEARN_BYTES:
            known.add(keys)
            keys.clear()
            size_bytes = 0
            if known.is_full or stopping.wait(LEARN_PAUSE_S):
                return
    known.add(keys)
    known.completed()
