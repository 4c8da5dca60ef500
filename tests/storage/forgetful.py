"""A disk for files of values and an engine for what points to them that forget, in a crash, what was not synced, or part of it."""

from __future__ import annotations

import errno
from random import Random

from kvstore.storage.large.engine import LargeValueEngine
from kvstore.storage.memory import MemoryEngine

FILE_BYTES = 48


class SyncedMemory(MemoryEngine):
    """An engine in memory with the promise that the map of large values needs."""

    def sync(self) -> None:
        """See `MapEngine.sync`."""
        self.write([], sync=True)


class _File:
    def __init__(self) -> None:
        self.data = bytearray()
        self.unsynced: list[tuple[int, bytes, bytes]] = []  # offset, what lay there, what was written


class ForgetfulFiles:
    """`Files` in memory. A name is durable with the first sync of its file after it was given; until then a crash may leave the
    file under the name it had before, or take it away."""

    def __init__(self) -> None:
        self.files: dict[int, _File] = {}
        self.names_unsynced: dict[int, int | None] = {}  # what each was called before
        self.is_dead = False
        """Nothing can be written any more."""

    def sizes_bytes(self) -> dict[int, int]:
        """See `Files.sizes_bytes`."""
        return {number: len(file.data) for number, file in self.files.items()}

    def create(self, number: int, *, over: int | None = None) -> MemoryWriter:
        """See `Files.create`."""
        assert number not in self.files, "a number is given once"
        self.files[number] = _File() if over is None else self.files.pop(over)
        self.names_unsynced[number] = over
        return MemoryWriter(self, number)

    def read(self, number: int, offset: int, size_bytes: int) -> bytes:
        """See `Files.read`."""
        if number not in self.files:
            raise FileNotFoundError(number)
        return bytes(self.files[number].data[offset : offset + size_bytes])

    def shorten(self, number: int, cut_bytes: int) -> bool:
        """See `Files.shorten`. Durable at once, which is the worst for whoever still needed it."""
        file = self.files.get(number)
        if file is None:
            return False
        del file.data[max(0, len(file.data) - cut_bytes) :]
        file.unsynced = [one for one in file.unsynced if one[0] + len(one[2]) <= len(file.data)]
        if not file.data:
            del self.files[number]
        return bool(file.data)

    def crash(self, rng: Random) -> ForgetfulFiles:
        """What a restart finds: of what was not synced any part."""
        after = ForgetfulFiles()
        for number, file in self.files.items():
            data = bytearray(file.data)
            for offset, before, written in reversed(file.unsynced):
                if rng.random() < 0.5:
                    data[offset : offset + len(written)] = before
            name: int | None = number
            if number in self.names_unsynced and rng.random() < 0.5:
                name = self.names_unsynced[number]
            if name is not None:
                after.files[name] = _File()
                after.files[name].data = data
        return after


class MemoryWriter:
    """A `Writer` of `ForgetfulFiles`."""

    def __init__(self, disk: ForgetfulFiles, number: int) -> None:
        self._disk = disk
        self._number = number

    def write(self, offset: int, data: bytes) -> None:
        """See `Writer.write`."""
        if self._disk.is_dead:
            raise OSError(errno.EIO, "the disk is gone")
        file = self._disk.files[self._number]
        end = offset + len(data)
        if len(file.data) < end:
            file.data.extend(bytes(end - len(file.data)))
        file.unsynced.append((offset, bytes(file.data[offset:end]), data))
        file.data[offset:end] = data

    def sync(self) -> None:
        """See `Writer.sync`."""
        self._disk.files[self._number].unsynced.clear()
        self._disk.names_unsynced.pop(self._number, None)

    def close(self) -> None:
        """See `Writer.close`."""


def open_engine(memory: SyncedMemory, files: ForgetfulFiles) -> LargeValueEngine:
    """The engine over both, small enough for a few values to fill a file, and nothing reclaimed but by `reclaimer.step`."""
    return LargeValueEngine(memory, files, name="a forgetful disk", large_bytes=8, file_bytes=FILE_BYTES, thread=False)
