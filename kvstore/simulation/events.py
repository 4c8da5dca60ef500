"""What happened in a world, in order: a digest of every line, and the lines themselves if somebody wants to read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xxhash import xxh3_128

LINES_AT_ONCE = 256


@dataclass(slots=True, frozen=True)
class Event:
    """One thing that happened. `kind` is a word; `facts` are plain values."""

    at_ns: int
    kind: str
    facts: dict[str, Any]
    payload: object = None

    def __str__(self) -> str:
        return f"{self.at_ns / 1e9:12.6f} {self.kind:<10} " + " ".join(f"{name}={value}" for name, value in self.facts.items())


class EventLog:
    """`add` from anywhere in the world; `digest` is equal for equal runs, in whatever process. `kept`: also keep the events."""

    def __init__(self, *, kept: bool = False) -> None:
        self.is_kept = kept
        self.kept: list[Event] = []
        self.count = 0
        self.listeners: list[Callable[[Event], None]] = []
        self._hash = xxh3_128()
        self._lines: list[str] = []

    def add(self, at_ns: int, kind: str, payload: object = None, /, **facts: Any) -> None:
        """`kind` happened at `at_ns` of the loop's time; the values of `facts` have a `repr` that is the same in every process.
        `payload` is kept for readers and not part of the digest."""
        self.count += 1
        lines = self._lines
        lines.append(f"{at_ns} {kind} {facts}")
        if len(lines) >= LINES_AT_ONCE:
            self._flush()
        if self.is_kept or self.listeners:
            event = Event(at_ns, kind, facts, payload)
            if self.is_kept:
                self.kept.append(event)
            for listener in self.listeners:
                listener(event)

    @property
    def digest(self) -> str:
        """Of everything added so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        if self._lines:
            self._hash.update(("\n".join(self._lines) + "\n").encode())
            self._lines.clear()
