"""Histories: what clients asked, what they were told and which faults happened, on one monotonic clock, one JSON object a line.

    {"header": {"seed": …, "preset": …, "levels": …, "scenario": …, "versions": …}}
    {"index": 0, "time": …, "process": 3, "type": "invoke", "f": "write", "key": "k1", "value": "c1.7", "node": "n2", …}

`type` is invoke, ok, fail (certainly not applied) or info (unknown; also what faults and facts are). A process has one call open at
a time and a new number after a call of unknown outcome. Beyond the fields that every checker of the world knows there are causal
ones (`FACTS`), without which a store of siblings cannot be judged. Knows neither a store nor a workload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

NEMESIS = "nemesis"
"""The process of fault events; `f` is the plane's call, `value` its arguments."""

HARNESS = "harness"
"""The process of what is told about whoever wrote the history down (stalls.py)."""

FACTS = {
    "write": "of a write: its id, unique in the history; deletes have one too, since they leave no value to read",
    "knew": "of a write: ids of the writes whose context it was made in; it supersedes them, and what they knew",
    "overwrites": "of a write: True if it also supersedes whatever its coordinator held (a write without a context)",
    "siblings": "of a read: the ids of the writes whose values it found",
    "context": "the token that the store returned, in hex",
    "version": "of a write: the dot it was given, in hex",
    "level": "what was asked for",
    "needed": "how many replicas that takes",
    "acknowledged": "the replicas that answered in time, by the receipt",
    "epoch": "the ring epoch that the receipt names",
    "final": "of a read: made after the last heal, when all has come to rest",
    "meant": "of a write: ids it was told to supersede where its coordinator can find them",
    "attempts": "of a call: how often the client sent it, where that is known",
    "timeout_ms": "how long it may take",
    "ttl_ms": "of a write or touch: how long the value is to live",
    "error": "of a fail or info: what the client was told",
    "found": "of a condition that did not hold: the value that was there",
    "mismatch": "of a condition that did not hold: True, where it is not known what was there",
    "result": "of an increment: what it came to",
    "order": "of a write or read: the place of its value in the key's order of commits, greater for later ones",
    "session": "whose promises a call is under, where that is not its process alone",
    "lease_ms": "of an acquire: how long the lock may be held",
}

CHANGES = frozenset({"count", "insert", "take"})
"""Writes to counters and sets; a `view` reads them. What one is about is its `value`."""

WRITES = frozenset({"write", "delete", "add", "increment"})

CHANGING = WRITES | CHANGES | {"cas", "put_if_absent"}
"""Whatever may change what a key holds."""

Value = Any
"""Whatever JSON can say."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line. `facts` are its causal fields (`FACTS`); `key`, `value` and `node` may be None."""

    index: int
    time_ns: int
    process: int | str
    type: str
    f: str
    key: str | None = None
    value: Value = None
    node: str | None = None
    facts: Mapping[str, Value] = field(default_factory=dict)

    def row(self) -> dict[str, Value]:
        """The event as its JSON object."""
        row: dict[str, Value] = {
            "index": self.index,
            "time": self.time_ns,
            "process": self.process,
            "type": self.type,
            "f": self.f,
            "key": self.key,
            "value": self.value,
            "node": self.node,
        }
        return {**row, **self.facts}


def event_of(row: Mapping[str, Value]) -> Event:
    """The event of a JSON object. Raises `ValueError` naming what is missing."""
    rest = dict(row)
    try:
        index, time_ns, process, type_, f = (rest.pop(name) for name in ("index", "time", "process", "type", "f"))
    except KeyError as error:
        raise ValueError(f"an event without {error.args[0]!r}: {row}") from error
    return Event(index, time_ns, process, type_, f, rest.pop("key", None), rest.pop("value", None), rest.pop("node", None), rest)


@dataclass(slots=True)
class History:
    """The header and the events, in the order in which they happened."""

    header: dict[str, Value] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The file's lines, without their ends."""
        yield json.dumps({"header": self.header}, sort_keys=True)
        for event in self.events:
            yield json.dumps(event.row())

    def write(self, path: Path) -> None:
        """Writes the file."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self.lines())


def read_history(source: Path | TextIO) -> History:
    """Reads a file. Raises `ValueError` with the line's number where one is not as it should be."""
    lines = source.read_text(encoding="utf-8").splitlines() if isinstance(source, Path) else list(source)
    history = History()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if "header" in row and "index" not in row:
                history.header = row["header"]
            else:
                history.events.append(event_of(row))
        except (ValueError, TypeError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return history


class Recorder:
    """Writes a history down as it happens; `now_ns` is the one clock."""

    def __init__(self, now_ns: Callable[[], int], header: Mapping[str, Value] | None = None) -> None:
        self._now_ns = now_ns
        self.history = History(dict(header or {}))

    def note(
        self,
        process: int | str,
        type_: str,
        f: str,
        *,
        key: str | None = None,
        value: Value = None,
        node: str | None = None,
        **facts: Value,
    ) -> Event:
        """Adds one event as of now."""
        events = self.history.events
        event = Event(len(events), self._now_ns(), process, type_, f, key, value, node, facts)
        events.append(event)
        return event

    def fault(self, f: str, value: Value = None) -> Event:
        """Adds a fault event."""
        return self.note(NEMESIS, "info", f, value=value)


@dataclass(slots=True)
class Call:
    """An invocation and its end, if it has one."""

    invoke: Event
    end: Event | None = None

    @property
    def f(self) -> str:
        """What was called."""
        return self.invoke.f

    @property
    def key(self) -> str:
        """The key it was about, "" for none."""
        return self.invoke.key or ""

    @property
    def is_ok(self) -> bool:
        """Whether it was acknowledged."""
        return self.end is not None and self.end.type == "ok"

    @property
    def is_refused(self) -> bool:
        """Whether it was certainly not applied."""
        return self.end is not None and self.end.type == "fail"

    @property
    def write(self) -> str:
        """The id of a write."""
        return str(self.invoke.facts["write"])

    @property
    def knew(self) -> frozenset[str]:
        """Ids of the writes it was told to supersede."""
        return frozenset(self.invoke.facts.get("knew", ()))

    @property
    def overwrites(self) -> bool:
        """Whether it also superseded what its coordinator held."""
        return bool(self.invoke.facts.get("overwrites", False))

    @property
    def siblings(self) -> tuple[str, ...]:
        """What a read found."""
        return tuple(self.fact("siblings", ()))

    @property
    def began_ns(self) -> int:
        """When it was invoked."""
        return self.invoke.time_ns

    @property
    def ended_ns(self) -> float:
        """When its effect was over: for ever if the outcome is unknown."""
        return self.end.time_ns if self.end is not None and self.end.type in ("ok", "fail") else float("inf")

    def fact(self, name: str, default: Value = None) -> Value:
        """A causal field of its end."""
        return default if self.end is None else self.end.facts.get(name, default)


def calls_of(events: Iterable[Event]) -> list[Call]:
    """The calls in the order of their invocation; faults and facts left out. Raises `ValueError` for an end without a beginning."""
    calls: list[Call] = []
    open_calls: dict[int | str, Call] = {}
    for event in events:
        if isinstance(event.process, str):
            continue
        if event.type == "invoke":
            if event.process in open_calls:
                raise ValueError(f"event {event.index}: process {event.process} has a call open already")
            call = open_calls[event.process] = Call(event)
            calls.append(call)
        else:
            begun = open_calls.pop(event.process, None)
            if begun is None or begun.f != event.f:
                raise ValueError(f"event {event.index}: process {event.process} has no {event.f} open")
            begun.end = event
    return calls


def writes_of(calls: Iterable[Call]) -> list[Call]:
    """Those that write."""
    return [call for call in calls if call.f in WRITES]


def reads_of(calls: Iterable[Call], *, final: bool | None = None) -> list[Call]:
    """The reads that were answered; with `final`, those made after all had come to rest, or the others."""
    return [
        call
        for call in calls
        if call.f == "read" and call.is_ok and (final is None or bool(call.invoke.facts.get("final", False)) is final)
    ]
