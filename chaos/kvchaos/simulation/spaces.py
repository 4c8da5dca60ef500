"""Schedules whose keys lie in namespaces that keep them differently: which lies where, and what is promised of each. Pure.

A key that begins with `u` is in one that is not synced, with `m` in one in memory, every other in one that is synced to the disk.
What a power cut takes of what is not synced is judged as what a wiped disk takes; of what is in memory only that nothing comes back
that was deleted or superseded, and that nothing is there that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from kvchaos.checkers.judge import judge
from kvchaos.checkers.violations import Violation
from kvchaos.history import NEMESIS, Event, History
from kvchaos.simulation.schedule import Schedule
from kvclient.async_client import AsyncClient

SYNCED, UNSYNCED, MEMORY = "default", "unsynced", "memory"
SPACES = {"u": UNSYNCED, "m": MEMORY}
ENDS_LIVES = ("crash", "power")
WHERE_COPIES_WENT = frozenset({"reads", "answers"})
OF_MEMORY = ("invented", "receipts", "stays_ended", "minted_once")
OF_UNSYNCED_EVERYWHERE = ("invented", "receipts", "minted_once")


def space_of(schedule: Schedule, key: str) -> str:
    """The namespace of a key."""
    return SPACES.get(key[:1], SYNCED) if schedule.memory_bytes else SYNCED


class BySpace:
    """A client's namespaces as one store: each key in its own."""

    def __init__(self, client: AsyncClient, schedule: Schedule) -> None:
        self._client = client
        self._schedule = schedule

    def _of(self, key: str) -> Any:
        return self._client.namespace(space_of(self._schedule, key))

    def get(self, key: str, **options: Any) -> Awaitable[Any]:
        """See kvchaos.performer.Store."""
        found: Awaitable[Any] = self._of(key).get(key, **options)
        return found

    def put(self, key: str, value: bytes, **options: Any) -> Awaitable[Any]:
        """See kvchaos.performer.Store."""
        done: Awaitable[Any] = self._of(key).put(key, value, **options)
        return done

    def touch(self, key: str, ttl_s: float, **options: Any) -> Awaitable[Any]:
        """See kvchaos.performer.Store."""
        done: Awaitable[Any] = self._of(key).touch(key, ttl_s, **options)
        return done

    def delete(self, key: str, **options: Any) -> Awaitable[Any]:
        """See kvchaos.performer.Store."""
        done: Awaitable[Any] = self._of(key).delete(key, **options)
        return done


def judge_by_space(schedule: Schedule, history: History) -> list[Violation]:
    """Every violation, of each namespace's keys by what it promises."""
    if not schedule.memory_bytes:
        return judge(history)
    robbed = _ended(schedule)
    has_copies = len(robbed) < min(2, schedule.w)  # whatever one node alone has lost, another one has
    kept = tuple(name for name in schedule.promises if name not in WHERE_COPIES_WENT)
    unsynced = kept if has_copies else OF_UNSYNCED_EVERYWHERE
    promised = {SYNCED: schedule.promises, UNSYNCED: unsynced, MEMORY: OF_MEMORY}
    return [
        violation
        for space, promises in promised.items()
        for violation in judge(
            History(
                {**history.header, "promises": list(promises)},
                [event if space == SYNCED else _as_robbed(event) for event in history.events if _is_of(schedule, event, space)],
            )
        )
    ]


def _ended(schedule: Schedule) -> set[str]:
    """The nodes whose lives are ended without their being asked."""
    return {node for fault in schedule.faults if fault.kind in ENDS_LIVES for node in fault.args["nodes"]}


def _is_of(schedule: Schedule, event: Event, space: str) -> bool:
    return event.key is None or space_of(schedule, event.key) == space


def _as_robbed(event: Event) -> Event:
    """What is not synced a power cut takes away."""
    if event.process == NEMESIS and event.f in ENDS_LIVES and len(event.value["nodes"]) == 1:
        return replace(event, f="wipe", value={"node": event.value["nodes"][0]})
    return event
