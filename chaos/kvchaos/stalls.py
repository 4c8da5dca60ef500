"""Moments in which the process that has the clients, and their clock, was not run: its machine was busy, or stood still.

Whoever judges how long a call took has to know of them, or a machine that was paused is a store that was late. A thread of its own
is the witness: it does nothing but wake up. Nobody is excused who was busy, or who waited for a file on the event loop: that holds
up the loop and not the witness, and is a defect of a client.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from kvchaos.history import HARNESS, Event, Recorder

STALL = "stall"
LOOK_S = 0.05
STALL_S_MIN = 0.2
RAN_SHARE_MAX = 0.5
"""A process that ran for more of a stall than this was not kept from running: it kept its threads from it."""


class Stalls:
    """From entering to leaving, when they are told as facts `stall`: {"from_ns", "to_ns"} of the history's clock, which is the
    system's monotonic one, and {"ran_ms"}, what the process used of the processor."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._found: list[dict[str, int]] = []
        self._over = threading.Event()
        self._witness = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._witness.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._witness.join()
        for value in self._found:
            self._recorder.note(HARNESS, "info", STALL, value=value)

    def _watch(self) -> None:
        seen_ns, ran_ns = time.monotonic_ns(), time.process_time_ns()
        due_ns, is_over = int(LOOK_S * 1e9), False
        while not is_over:
            is_over = self._over.wait(LOOK_S)
            now_ns, now_ran_ns = time.monotonic_ns(), time.process_time_ns()
            if now_ns - seen_ns - due_ns >= STALL_S_MIN * 1e9:
                self._found.append({"from_ns": seen_ns + due_ns, "to_ns": now_ns, "ran_ms": (now_ran_ns - ran_ns) // 1_000_000})
            seen_ns, ran_ns = now_ns, now_ran_ns


def stood_still(events: Iterable[Event]) -> list[tuple[int, int]]:
    """From when to when, in nanoseconds of the history's clock, whoever wrote it down could not run."""
    stalls = [event.value for event in events if event.process == HARNESS and event.f == STALL]
    return [
        (stall["from_ns"], stall["to_ns"])
        for stall in stalls
        if stall["ran_ms"] * 1e6 <= RAN_SHARE_MAX * (stall["to_ns"] - stall["from_ns"])
    ]
