"""The room that overwritten and deleted large values left, given back: files that nothing points into any more are taken away, and
what is left of one that is alive for less than half is moved into another.

One file after the other and slowly: whoever is served meanwhile must not notice. Nothing is taken away on the strength of a change
that a crash could take back. Which values are alive is known once the map was read through, as after every start with such files;
until then nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from threading import Event, Lock, Thread
from typing import Protocol

from kvproto.errors import StorageError
from kvstore.storage.engine import Engine
from kvstore.storage.large.files import Writer
from kvstore.storage.large.ledger import Ledger
from kvstore.storage.large.pointers import MARK, Pointer, read_marked
from kvstore.storage.large.shelf import Shelf, ValueFile

ALIVE_SHARE_MIN = 0.5
"""What is alive for less is moved."""
MOVED_BYTES_PER_S = 16 << 20
"""So fast, unless files take more than HURRY_FACTOR times what is alive: then as fast as it goes."""
HURRY_FACTOR = 3
HURRY_FILES_MIN = 4

LEARN_PAIRS = 256
SHORTENED_REST_S = 0.1
PAUSE_S = 0.005
"""Between any two steps."""


class MapEngine(Engine, Protocol):
    """The engine of the map: one that can say that nothing is left unsynced."""

    def sync(self) -> None:
        """Whatever was written is durable when this returns, also what was written without sync. Raises `StorageError`."""


class Reclaimer:
    """Takes one step at a time, on whichever one thread. `lock` is held by all who change the map with its ledger."""

    def __init__(
        self,
        pointers: MapEngine,
        shelf: Shelf,
        ledger: Ledger,
        lock: Lock,
        read: Callable[[Pointer], bytes],
    ) -> None:
        self._map = pointers
        self._shelf = shelf
        self._ledger = ledger
        self._lock = lock
        self._read = read
        self.knows_all = not shelf.files
        """Whether the ledger has everything that is alive."""
        self._learning: Iterator[tuple[bytes, bytes]] | None = None
        self._moving: Iterator[int] | None = None
        self._output: tuple[ValueFile, Writer] | None = None
        self._unreadable: set[int] = set()  # a value in it is damaged: it stays for as long as that is pointed to

    def step(self) -> float | None:
        """Does a little. For how many seconds to rest before the next step; None: there is nothing to do until something changes.
        Raises `StorageError` if the map cannot be read or written."""
        if not self.knows_all:
            self._learn()
            return PAUSE_S
        if self._moving is not None:
            return self._go_on_moving(self._moving)
        candidates = self._candidates()
        dead = [file for file in candidates if not self._ledger.is_pointed_to(file.number)]
        if dead:
            self._take_away(dead)
            return PAUSE_S
        victim = min(candidates, key=self._alive_share, default=None)
        if victim is None or self._alive_share(victim) >= ALIVE_SHARE_MIN:
            return self._shorten()
        self._moving = self._move(victim)
        return PAUSE_S

    def close(self) -> None:
        """Takes no more steps."""
        self._seal()

    def _candidates(self) -> list[ValueFile]:
        """The files that nobody fills any more and that can be read."""
        files = [file for file in self._shelf.files.values() if file.is_full and not file.promised]
        return [file for file in files if file.number not in self._unreadable or not self._ledger.is_pointed_to(file.number)]

    def _alive_share(self, file: ValueFile) -> float:
        return self._ledger.alive_bytes(file.number) / max(1, file.size_bytes)

    def _learn(self) -> None:
        """Some of the pairs that the map held at the beginning; of what has changed since the ledger has heard."""
        if self._learning is None:
            self._learning = self._map.scan(b"")
        some = list(islice(self._learning, LEARN_PAIRS))
        marked = [(key, stored) for key, stored in some if stored.startswith(MARK)]
        with self._lock:
            for key, stored in marked:
                if self._map.get(key) == stored and isinstance(pointer := read_marked(stored), Pointer):
                    self._ledger.put(key, pointer)
        if len(some) < LEARN_PAIRS:
            self._learning = None
            self.knows_all = True

    def _take_away(self, files: list[ValueFile]) -> None:
        """What made these useless may be a write that was not synced, or a move: it must not be taken back any more."""
        self._map.sync()
        self._shelf.take_away(files)

    def _shorten(self) -> float | None:
        try:
            return SHORTENED_REST_S if self._shelf.shorten() else None
        except OSError:
            return None

    def _go_on_moving(self, moving: Iterator[int]) -> float | None:
        try:
            moved_bytes = next(moving)
        except StopIteration:
            self._moving = None
            return PAUSE_S
        except OSError:  # no room to make room with. Nothing points to what was moved so far; that file is dead
            self._moving = None
            self._seal()
            return None
        return PAUSE_S if self._is_in_a_hurry() else PAUSE_S + moved_bytes / MOVED_BYTES_PER_S

    def _is_in_a_hurry(self) -> bool:
        files = self._shelf.files.values()
        alive_bytes = sum([self._ledger.alive_bytes(file.number) for file in files])
        return sum([file.size_bytes for file in files]) > HURRY_FACTOR * alive_bytes + HURRY_FILES_MIN * self._shelf.file_bytes

    def _move(self, victim: ValueFile) -> Iterator[int]:
        """Moves what is alive in `victim`, a value at each step, whose bytes it gives: first all values, synced, then what points
        to them. Then it is dead."""
        moved: list[tuple[bytes, Pointer, Pointer]] = []
        file, writer = self._open_output()
        for key, pointer in self._ledger.alive(victim.number):
            if self._ledger.pointer(key) != pointer:
                continue  # overwritten in the meantime
            try:
                value = self._read(pointer)
            except StorageError:
                self._unreadable.add(victim.number)
                continue
            writer.write(file.size_bytes, value)
            moved.append((key, pointer, pointer._replace(file=file.number, offset=file.size_bytes)))
            file.size_bytes += pointer.size_bytes
            yield pointer.size_bytes
        writer.sync()
        self._point_anew(moved)

    def _point_anew(self, moved: list[tuple[bytes, Pointer, Pointer]]) -> None:
        """What still points to where a value was points to where it is now."""
        with self._lock:
            still = [(key, new) for key, old, new in moved if self._ledger.pointer(key) == old]
            if still:
                self._map.write([(key, new.encode()) for key, new in still], sync=False)
            for key, new in still:
                self._ledger.put(key, new)

    def _open_output(self) -> tuple[ValueFile, Writer]:
        """The file that takes what is moved: one with room for half a file, which is the most that one of them has alive."""
        if self._output is not None and self._output[0].size_bytes > self._shelf.file_bytes // 2:
            self._seal()
        if self._output is None:
            file = self._shelf.new_file()
            file.is_full = True  # should it not come to be
            writer = self._shelf.create(file.number)
            file.is_full = False
            self._output = file, writer
        return self._output

    def _seal(self) -> None:
        """That file takes no more."""
        if self._output is not None:
            (file, writer), self._output = self._output, None
            file.is_full = True
            with suppress(OSError):  # what had to be durable was synced before
                writer.close()


class ReclaimingThread:
    """Lets a reclaimer take its steps, when it is woken, and until nothing is left to do."""

    def __init__(self, reclaimer: Reclaimer) -> None:
        self._reclaimer = reclaimer
        self._stopping = Event()
        self._woken = Event()
        self._thread: Thread | None = None

    def wake(self) -> None:
        """There may be something to do. One thread at a time calls this."""
        if self._thread is None and not self._stopping.is_set():
            self._thread = Thread(target=self._run, name="kv-large-values", daemon=True)
            self._thread.start()
        self._woken.set()

    def close(self) -> None:
        """Ends after the step that is being taken."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join()
        self._reclaimer.close()

    def _run(self) -> None:
        with suppress(StorageError):  # whoever writes next hears of it
            while not self._stopping.is_set():
                self._woken.clear()
                rest_s = self._reclaimer.step()
                if rest_s is None:
                    if not self._stopping.is_set():
                        self._woken.wait()
                else:
                    self._stopping.wait(rest_s)
