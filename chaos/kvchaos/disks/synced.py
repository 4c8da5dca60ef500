"""The shim's events of one process, replayed into what a power failure would leave of each file. Pure but for `read_events`.

A sync covers what was written before it began, and counts from the moment it returned. After a failed sync of a file no later
sync of it counts: the kernel may have dropped the very pages (safety rule 4). Times are CLOCK_MONOTONIC, ns.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SYNCS = ("fsync", "fdatasync")
_FIELDS = 9


class Event(NamedTuple):
    """One call, as shim.c writes it down: `result` is -errno for a failed one; `length` is the flags of an open."""

    begin_ns: int
    end_ns: int
    pid: int
    call: str
    result: int
    offset: int
    length: int
    path: str
    other: str


class Sync(NamedTuple):
    """A successful sync: what lay below `length` when it began is durable since `end_ns`."""

    end_ns: int
    length: int


@dataclass(slots=True)
class FileLife:
    """A file, whatever it is called meanwhile."""

    created_ns: int
    renamed_ns: int | None = None
    failed: bool = False
    syncs: list[Sync] = field(default_factory=list)
    _grown: list[tuple[int, int]] = field(default_factory=list)  # (at ns, length since), in order

    @property
    def length(self) -> int:
        """Its length as far as it was written."""
        return self._grown[-1][1] if self._grown else 0

    @property
    def synced_length(self) -> int | None:
        """What a power failure leaves of it; None if it was never synced."""
        return self.syncs[-1].length if self.syncs else None

    def grow(self, at_ns: int, end: int) -> None:
        """Something was written that ends at `end`."""
        self._grown.append((at_ns, max(self.length, end)))

    def truncate(self, at_ns: int, length: int) -> None:
        """Cut to `length`; durable or not, it is not counted on any more."""
        self._grown.append((at_ns, length))
        if self.syncs and self.syncs[-1].length > length:
            self.syncs.append(Sync(at_ns, length))

    def sync(self, event: Event) -> None:
        """It was synced, or that failed."""
        if event.result < 0:
            self.failed = True
        elif not self.failed:
            before = bisect_right(self._grown, event.begin_ns, key=lambda mark: mark[0])
            length = self._grown[before - 1][1] if before else 0
            # Of two syncs at a time the one that returns last may have begun first; it takes nothing back.
            self.syncs.append(Sync(event.end_ns, max(length, self.synced_length or 0)))

    def durable_ns(self, end: int) -> int | None:
        """When everything below `end` had become durable, None if it never did. For files that only grow."""
        first = bisect_left(self.syncs, end, key=lambda sync: sync.length)
        return self.syncs[first].end_ns if first < len(self.syncs) else None


@dataclass(slots=True)
class Timeline:
    """All files of a process that began in an empty directory, by their last name; `gone` were unlinked or replaced.

    `directory_syncs`: (begin, end) by path. `syncs` counts all of them, failed ones too; `failed_ns` is when the first failed.
    """

    files: dict[str, FileLife] = field(default_factory=dict)
    gone: dict[str, FileLife] = field(default_factory=dict)
    directory_syncs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    syncs: int = 0
    failed_ns: int | None = None
    last_sync_begin_ns: int = 0

    def named_ns(self, path: str, since_ns: int) -> int | None:
        """When the directory was first synced after `since_ns`: from then on POSIX lets nobody lose the name `path`."""
        syncs = self.directory_syncs.get(os.path.dirname(path), ())
        return next((end for begin, end in syncs if begin >= since_ns), None)

    def lives(self) -> dict[str, FileLife]:
        """Every file that ever was, also those that are gone."""
        return {**self.gone, **self.files}


def read_events(path: Path) -> list[Event]:
    """The events in the order in which the calls returned. A last line that is cut short is left out."""
    events = []
    for line in path.read_bytes().decode().split("\n")[:-1]:
        begin, end, pid, call, *numbers, name, other = line.split("\t", _FIELDS - 1)
        result, offset, length = (int(number) for number in numbers)
        events.append(Event(int(begin), int(end), int(pid), call, result, offset, length, name, other))
    return sorted(events, key=lambda event: event.end_ns)


def replay(events: Iterable[Event]) -> Timeline:
    """What the events, in the order in which the calls returned, made of the files."""
    timeline = Timeline()
    for event in events:
        if event.call in SYNCS:
            _replay_sync(timeline, event)
        elif event.result >= 0:
            _replay_change(timeline, event)
    return timeline


def _replay_sync(timeline: Timeline, event: Event) -> None:
    timeline.syncs += 1
    if event.result < 0:
        timeline.failed_ns = timeline.failed_ns or event.end_ns
    else:
        timeline.last_sync_begin_ns = max(timeline.last_sync_begin_ns, event.begin_ns)
    life = timeline.files.get(event.path)
    if life is not None:
        life.sync(event)
    elif event.result >= 0:  # what was opened without O_CREAT and is synced is a directory
        timeline.directory_syncs.setdefault(event.path, []).append((event.begin_ns, event.end_ns))


def _replay_change(timeline: Timeline, event: Event) -> None:
    files = timeline.files
    if event.call == "open":
        if event.length & os.O_CREAT:
            life = files.setdefault(event.path, FileLife(event.end_ns))
            if event.length & os.O_TRUNC:
                life.truncate(event.end_ns, 0)
    elif event.call in ("write", "pwrite", "writev"):
        files[event.path].grow(event.end_ns, event.offset + event.result)
    elif event.call == "ftruncate":
        files[event.path].truncate(event.end_ns, event.length)
    elif event.call in ("rename", "unlink") and event.path in files:
        life = files.pop(event.path)
        if event.call == "unlink":
            timeline.gone[event.path] = life
        else:
            life.renamed_ns = event.end_ns
            if event.other in files:
                timeline.gone[event.other] = files[event.other]
            files[event.other] = life
