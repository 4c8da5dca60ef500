"""Files of values on a disk: written once from front to back, synced, read at any place, removed whole.

The seam between the engine of large values and the system; tests put a disk in its place that forgets what was not synced.
Errors are `OSError`, as the system gives them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from kvstore.storage.syncing import sync_data

SUFFIX = ".values"


class Writer(Protocol):
    """One new file. Belongs to one thread at a time."""

    def write(self, offset: int, data: bytes) -> None:
        """Puts `data` there. Where nothing was put is whatever the file held before, or its end."""

    def sync(self) -> None:
        """What was written, and the file's name, are durable when this returns."""

    def close(self) -> None:
        """Nothing more is written. Idempotent."""


class Files(Protocol):
    """A directory of files of values, each known by its number."""

    def sizes_bytes(self) -> Mapping[int, int]:
        """The files there are, and how large."""

    def create(self, number: int, *, over: int | None = None) -> Writer:
        """A new file; with `over` it takes the place of that one, whose name goes and whose room it has at once."""

    def read(self, number: int, offset: int, size_bytes: int) -> bytes:
        """What lies there; fewer bytes where the file ends."""

    def shorten(self, number: int, cut_bytes: int) -> bool:
        """Cuts so much off its end. Whether it is there still: with the last byte its name goes as well."""


class OsFiles:
    """`Files` in the directory `path`, which exists and holds nothing else that ends in `.values`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sizes_bytes(self) -> dict[int, int]:
        """See `Files.sizes_bytes`."""
        sizes_bytes: dict[int, int] = {}
        for place in self.path.glob(f"*{SUFFIX}"):
            if place.stem.isdigit():
                with suppress(FileNotFoundError):  # it has just got another name, or lost it
                    sizes_bytes[int(place.stem)] = place.stat().st_size
        return sizes_bytes

    def create(self, number: int, *, over: int | None = None) -> OsWriter:
        """See `Files.create`."""
        place = self._place(number)
        if over is None:
            return OsWriter(place, os.O_CREAT | os.O_EXCL)
        assert not place.exists()
        self._place(over).rename(place)
        return OsWriter(place, 0)

    def read(self, number: int, offset: int, size_bytes: int) -> bytes:
        """See `Files.read`. Opened each time: a node has no descriptor to spare for each of some thousand files, and beside a value
        of 32 KiB the call is cheap."""
        descriptor = os.open(self._place(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size_bytes, offset)
        finally:
            os.close(descriptor)

    def shorten(self, number: int, cut_bytes: int) -> bool:
        """See `Files.shorten`."""
        place = self._place(number)
        try:
            size_bytes = place.stat().st_size - cut_bytes
            os.truncate(place, max(0, size_bytes))
            if size_bytes <= 0:
                place.unlink()
        except FileNotFoundError:
            return False
        return size_bytes > 0

    def _place(self, number: int) -> Path:
        return self.path / f"{number:010d}{SUFFIX}"


class OsWriter:
    """A `Writer`."""

    def __init__(self, place: Path, flags: int) -> None:
        self._descriptor = os.open(place, os.O_WRONLY | os.O_CLOEXEC | flags, 0o644)
        self._directory: Path | None = place.parent

    def write(self, offset: int, data: bytes) -> None:
        """See `Writer.write`."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            offset += written
            rest = rest[written:]

    def sync(self) -> None:
        """See `Writer.sync`."""
        sync_data(self._descriptor)
        if self._directory is not None:
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self._directory = None

    def close(self) -> None:
        """See `Writer.close`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
