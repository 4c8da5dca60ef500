"""What a workload's process does, as plain data, and how the values look that it writes. Pure.

A value begins with the id of its write; a set's elements or a counter's totals follow: `w7`, `w7 w3,w5,w7`, `w7 p1=3,p2=1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """What a process does, not before `at_ms` and not before it is done with its previous one.

    `f`: get, put, delete, add or increment. `context` of a put or delete: "none" (overwrite), "empty" (I know nothing), "read" (of
    the process's last read of the key) or "own" (of its last acknowledged write of it); the last two are "empty" where there is
    none. `level`: preset, one, quorum, all, or a number. `name` is the id of its write.
    """

    process: int
    at_ms: int
    f: str
    key: str
    name: str
    context: str = "none"
    level: str = "preset"


def encode_value(name: str) -> bytes:
    """The value of a put."""
    return name.encode()


def encode_set(name: str, elements: Iterable[str]) -> bytes:
    """The value of an addition."""
    return f"{name} {','.join(sorted(elements))}".encode()


def encode_counter(name: str, totals: Mapping[str, int]) -> bytes:
    """The value of an increment."""
    return f"{name} {','.join(f'{writer}={totals[writer]}' for writer in sorted(totals))}".encode()


def name_of(value: bytes) -> str:
    """The id of the write that made a value; of bytes that nobody wrote, something that is no id."""
    name = value.partition(b" ")[0].decode(errors="replace")
    return name if name.isprintable() and name else "?"


def merge_sets(values: Iterable[bytes]) -> set[str]:
    """The elements of all siblings of a set."""
    return {element for value in values for element in _payload(value)}


def merge_counters(values: Iterable[bytes]) -> dict[str, int]:
    """Each writer's highest total among all siblings of a counter."""
    totals: dict[str, int] = {}
    for value in values:
        for row in _payload(value):
            writer, _, total = row.partition("=")
            totals[writer] = max(totals.get(writer, 0), int(total) if total.isdigit() else 0)
    return totals


def _payload(value: bytes) -> list[str]:
    return [part for part in value.partition(b" ")[2].decode(errors="replace").split(",") if part]
