"""Namespaces made and dropped while a cluster runs: an id has one meaning for ever, all nodes agree in the end, what was
acknowledged is so, and nothing of a dropped namespace is seen under its name again (safety rule 6). Pure.

Calls: `create` and `drop` (ok: {"id", "preset"}), `write` and `read` in the namespace that is the key. Facts at rest, one a node:
`catalog` (value: {"revision", "live": {name: [id, preset]}, "next_id", "left": [what is held of dropped ones]}).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kvchaos.checkers.violations import Violation
from kvchaos.history import Call, Event

ONE_MEANING = "an id of a namespace has one meaning for ever"
AGREED = "at rest every node goes by the same namespaces"
KEPT = "a namespace that was made is there until it is dropped"
GONE = "a namespace that was dropped is gone"
FRESH = "nothing of a dropped namespace is readable under its name again"
ERASED = "at rest nothing is held of dropped namespaces"


def check_namespaces(calls: Sequence[Call], events: Iterable[Event]) -> list[Violation]:
    """Everything above."""
    at_rest = [event for event in events if event.f == "catalog"]
    return [
        *_one_meaning(calls, at_rest),
        *_agreed(at_rest),
        *_kept_and_gone(calls, at_rest),
        *_fresh(calls),
    ]


def _one_meaning(calls: Sequence[Call], at_rest: Sequence[Event]) -> list[Violation]:
    meant: dict[int, tuple[str, str, int]] = {}  # id -> name, preset, the event that says so
    found: list[Violation] = []

    def says(number: int, name: str, preset: str, index: int) -> None:
        before = meant.setdefault(number, (name, preset, index))
        if before[:2] != (name, preset):
            text = f"id {number:#x} is {name} with {preset}, and was {before[0]} with {before[1]}"
            found.append(Violation(ONE_MEANING, name, text, (before[2], index)))

    for call in calls:
        if call.is_ok and call.f in ("create", "drop"):
            assert call.end is not None
            says(call.end.value["id"], call.key, call.end.value["preset"], call.end.index)
    for event in at_rest:
        for name, (number, preset) in sorted(event.value["live"].items()):
            says(number, name, preset, event.index)
    return found


def _agreed(at_rest: Sequence[Event]) -> list[Violation]:
    found: list[Violation] = []
    for event in at_rest[1:]:
        first, this = at_rest[0], event
        if _gone_by(first.value) != _gone_by(this.value):
            text = f"{first.node} goes by {_gone_by(first.value)}, {this.node} by {_gone_by(this.value)}"
            found.append(Violation(AGREED, "", text, (first.index, this.index)))
    for event in at_rest:
        if event.value["left"]:
            text = f"{event.node} still holds {', '.join(event.value['left'])}"
            found.append(Violation(ERASED, "", text, (event.index,)))
    return found


def _gone_by(value: Any) -> tuple[int, int, list[Any]]:
    return value["revision"], value["next_id"], sorted(value["live"].items())


def _kept_and_gone(calls: Sequence[Call], at_rest: Sequence[Event]) -> list[Violation]:
    if not at_rest:
        return []
    dropped = {_id_of(call): call for call in calls if call.f == "drop" and call.is_ok}
    unsure = {call.key for call in calls if call.f == "drop" and not call.is_ok and not call.is_refused}
    last = at_rest[-1]
    live = {number for number, _ in last.value["live"].values()}
    found: list[Violation] = []
    for call in calls:
        if call.f != "create" or not call.is_ok:
            continue
        number = _id_of(call)
        if number not in live and number not in dropped and call.key not in unsure:
            text = f"id {number:#x} was made, nobody dropped it, and it is not there"
            found.append(Violation(KEPT, call.key, text, (_end(call), last.index)))
    for number, call in dropped.items():
        if number in live:
            text = f"id {number:#x} was dropped and is there"
            found.append(Violation(GONE, call.key, text, (_end(call), last.index)))
    return found


def _fresh(calls: Sequence[Call]) -> list[Violation]:
    """Of each read at rest: no value whose write was over before a drop began that was over before the read began. Before that a
    node may not have heard of the drop, and serve what it has; also, no value of another namespace, ever."""
    drops = [call for call in calls if call.f == "drop" and call.is_ok]
    writes = {call.write: call for call in calls if call.f == "write"}
    found: list[Violation] = []
    for read in calls:
        if read.f != "read" or not read.is_ok:
            continue
        assert read.end is not None
        for value in read.end.value:
            write = writes.get(value)
            if write is None:
                found.append(Violation(FRESH, read.key, f"{value!r} was never written", (_end(read),)))
                continue
            if write.key != read.key:
                text = f"{value} was written to {write.key}"
                found.append(Violation(FRESH, read.key, text, (write.invoke.index, _end(read))))
            for drop in drops if read.invoke.facts.get("final") else ():
                if drop.key == read.key and write.ended_ns < drop.began_ns and drop.ended_ns < read.began_ns:
                    text = f"{value} was written before id {_id_of(drop):#x} was dropped, and is read after that"
                    found.append(Violation(FRESH, read.key, text, (_end(write), _end(drop), _end(read))))
    return found


def _id_of(call: Call) -> int:
    assert call.end is not None
    return int(call.end.value["id"])


def _end(call: Call) -> int:
    return call.invoke.index if call.end is None else call.end.index
