"""A value made of files, and made again when they change: certificates are renewed under processes that go on running.

Whoever is about to use the value looks; a look costs one `stat` a file. No timer and no thread. Used by both sides of a connection,
on the node also from gRPC's own threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from kvproto.errors import KvError

ValueT = TypeVar("ValueT")

MAKE_ATTEMPTS = 3

Signature = tuple[tuple[int, int, int] | None, ...]


def _nobody_listens(error: KvError) -> None:
    """What is broken is looked at again when it changes."""


class WatchedFiles(Generic[ValueT]):
    """What `make` makes of `paths`. `make` raises `KvError` when they do not add up: at the beginning that is raised; later the
    value from before stays, and `on_broken` is told once for each state of the files. `version` counts the values."""

    def __init__(
        self, paths: Sequence[Path], make: Callable[[], ValueT], *, on_broken: Callable[[KvError], None] = _nobody_listens
    ) -> None:
        self._paths = tuple(paths)
        self._make = make
        self._on_broken = on_broken
        self._lock = Lock()
        self._seen = self._signature()
        self.value = self._make_settled()
        self.version = 1

    def look(self) -> ValueT:
        """The value as the files are now, or as they were when they last added up. Never raises."""
        with self._lock:
            now = self._signature()
            if now == self._seen:
                return self.value
            try:
                self.value = self._make()
            except KvError as error:
                # Written while we read: what we have seen is half of it, so the next look reads again and nobody is told.
                if now == self._signature():
                    self._seen = now
                    self._on_broken(error)
                return self.value
            self._seen = now
            self.version += 1
            return self.value

    def _make_settled(self) -> ValueT:
        """The first value; files that are being replaced at this very moment get another chance."""
        for _ in range(MAKE_ATTEMPTS - 1):
            try:
                value = self._make()
            except KvError:
                if self._seen == (now := self._signature()):
                    raise
                self._seen = now
                continue
            return value
        return self._make()

    def _signature(self) -> Signature:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced, also by a link that leads elsewhere; None: it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
