"""The files of values of one engine: where the next value goes, which file is full, and which is taken away.

Any thread asks. A file is named by a number, which is never given twice while somebody may read it. Whoever holds the mapping of
`Shelf.files` has every file in it: one that is taken away in the meantime is there until the last of them lets go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from threading import Lock
from weakref import finalize

from kvstore.storage.large.files import Files, Writer

SPARES_MAX = 2
SHORTENED_BYTES = 4 << 20


class ValueFile:
    """A file of values. `size_bytes`: of all the room that was given in it. `promised`: how many writes will still put values into
    it or point to them. Only one that `is_full` takes no more and may be taken away."""

    __slots__ = ("__weakref__", "is_full", "number", "promised", "size_bytes")

    def __init__(self, number: int, size_bytes: int = 0, *, is_full: bool = False) -> None:
        self.number = number
        self.size_bytes = size_bytes
        self.promised = 0
        self.is_full = is_full


class Shelf:
    """All the files, and the one that takes what comes next. What lies there when it is opened takes nothing more.

    A file that was taken away is kept as a spare for the next new one. Its room need not be found and its old contents not be given
    back to the disk: on a file system with a journal both hold up everybody who syncs, for as long as a tenth of a second each.
    """

    def __init__(self, files: Files, *, file_bytes: int) -> None:
        self._disk = files
        self.file_bytes = file_bytes
        """How much is put into one file; a larger value has one of its own."""
        self._lock = Lock()
        self.files: Mapping[int, ValueFile] = {
            number: ValueFile(number, size_bytes, is_full=True) for number, size_bytes in files.sizes_bytes().items()
        }
        """By number. Never changed, but replaced."""
        self._next = max(self.files, default=0) + 1
        self._open: ValueFile | None = None
        self._going: list[finalize[[int], ValueFile]] = []
        self._spares: deque[int] = deque()  # finalizers add to it, whichever lock is held
        self._superfluous: int | None = None

    @property
    def lock(self) -> Lock:
        """While it is held no file appears or goes."""
        return self._lock

    def place(self, size_bytes: int) -> tuple[ValueFile, int]:
        """Room for a value: the file and the offset. The file has one more promise to wait for."""
        with self._lock:
            file = self._open
            if file is None or (file.size_bytes and file.size_bytes + size_bytes > self.file_bytes):
                if file is not None:
                    file.is_full = True
                file = self._open = self._add()
            offset = file.size_bytes
            file.size_bytes += size_bytes
            file.promised += 1
            return file, offset

    def keep(self, file: ValueFile) -> None:
        """A promise is kept, or nobody will keep it."""
        with self._lock:
            file.promised -= 1

    def new_file(self) -> ValueFile:
        """A file for somebody who fills it himself."""
        with self._lock:
            return self._add()

    def create(self, number: int) -> Writer:
        """Makes the file with this number, of a spare if there is one. Raises `OSError`."""
        try:
            over = self._spares.popleft()
        except IndexError:
            return self._disk.create(number)
        return self._disk.create(number, over=over)

    def take_away(self, files: list[ValueFile]) -> None:
        """Nothing points into these any more, nor will after a crash."""
        with self._lock:
            gone = {file.number for file in files}
            self.files = {number: file for number, file in self.files.items() if number not in gone}
            self._going = [going for going in self._going if going.alive]
            for file in files:
                assert file.is_full and not file.promised
                going = finalize(file, self._spares.append, file.number)
                going.atexit = False
                self._going.append(going)

    def shorten(self) -> bool:
        """Gives back some room of a spare that is one too many. Whether there was one. Raises `OSError`."""
        if self._superfluous is None:
            if len(self._spares) <= SPARES_MAX:
                return False
            self._superfluous = self._spares.popleft()
        if not self._disk.shorten(self._superfluous, SHORTENED_BYTES):
            self._superfluous = None
        return True

    def close(self) -> None:
        """Nobody reads any more: the next engine may give the numbers again."""
        with self._lock:
            for going in self._going:
                going()
            self._going.clear()

    def _add(self) -> ValueFile:
        file = ValueFile(self._next)
        self._next += 1
        self.files = {**self.files, file.number: file}
        return file
