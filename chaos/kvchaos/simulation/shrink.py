"""Delta debugging over schedules: the smallest that can be found, in a bounded number of runs, which still breaks the same promise.

Leaves out faults, operations, clients and nodes, then puts settings back to the plainest. A candidate that asks for more than the
store promises (`is_fair`) is not tried (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002). Pure:
whoever calls it runs the candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from kvchaos.simulation.generate import is_fair
from kvchaos.simulation.schedule import Fault, Schedule

T = TypeVar("T")

Breaks = Callable[[Schedule], bool]
"""Whether a run of the schedule still breaks the promise."""

RUNS_MAX = 400
PLAIN: dict[str, Any] = {
    "loss": 0.0,
    "late_share": 0.5,
    "jitter_ms": 0.6,
    "delay_ms": 0.2,
    "disk_jitter_ms": 0.4,
    "write_ms": 0.1,
    "cache_bytes": 1 << 20,
    "retry_ids": 32,
    "retry_window_ms": 10_000,
    "timeout_ms": 1000,
    "timing": "lan",
}
"""What a setting is when it does not matter."""


class Shrinker:
    """Shrinks one schedule. `runs` counts the candidates that were run, of `runs_max`."""

    def __init__(self, breaks: Breaks, *, runs_max: int = RUNS_MAX) -> None:
        self._breaks = breaks
        self._runs_max = runs_max
        self._tried: set[str] = set()
        self.runs = 0

    def shrink(self, schedule: Schedule) -> Schedule:
        """The smallest found; `schedule` itself, which is known to break, if nothing smaller does."""
        while self.runs < self._runs_max:
            before = schedule
            schedule = self._leave_out(schedule, "operations")
            schedule = self._leave_out(schedule, "faults")
            schedule = self._first_of(schedule, _fewer_nodes)
            schedule = self._first_of(schedule, _fewer_clients)
            schedule = self._first_of(schedule, _plainer)
            schedule = self._first_of(schedule, _simpler_faults)
            if schedule == before:
                break
        return schedule

    def _leave_out(self, schedule: Schedule, name: str) -> Schedule:
        """Delta debugging: halves first, then smaller and smaller pieces."""
        rows: Sequence[Any] = getattr(schedule, name)
        pieces = 2
        while rows and self.runs < self._runs_max:
            size = max(1, len(rows) // pieces)
            for rest in _without_one_piece(rows, size):
                candidate = _with(schedule, name, tuple(rest))
                if self._still_breaks(candidate):
                    schedule, rows = candidate, rest
                    pieces = max(2, pieces - 1)
                    break
            else:
                if size == 1:
                    break
                pieces = min(len(rows), pieces * 2)
        return schedule

    def _first_of(self, schedule: Schedule, candidates: Callable[[Schedule], Iterable[Schedule]]) -> Schedule:
        """Takes the first candidate that still breaks, again and again, until none does."""
        found = True
        while found and self.runs < self._runs_max:
            found = False
            for candidate in candidates(schedule):
                if self._still_breaks(candidate):
                    schedule, found = candidate, True
                    break
        return schedule

    def _still_breaks(self, candidate: Schedule) -> bool:
        key = repr(candidate)
        if key in self._tried or not is_fair(candidate) or self.runs >= self._runs_max:
            return False
        self._tried.add(key)
        self.runs += 1
        return self._breaks(candidate)


def _with(schedule: Schedule, name: str, value: Any) -> Schedule:
    return replace(schedule, **{name: value})


def _without_one_piece(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`rows` without each piece of `size` in turn, from the end: what comes last is the least likely to matter."""
    for at in range(len(rows) - 1 - (len(rows) - 1) % size, -1, -size):
        yield [*rows[:at], *rows[at + size :]]


def _fewer_nodes(schedule: Schedule) -> Iterator[Schedule]:
    for nodes in range(1, schedule.nodes):
        copies = min(schedule.n, nodes)
        left = {f"n{number}" for number in range(1, nodes + 1)}
        smaller = replace(schedule, nodes=nodes, n=copies, r=min(schedule.r, copies), w=min(schedule.w, copies))
        yield replace(smaller, faults=tuple(fault for one in schedule.faults if (fault := _within(one, left))))


def _within(fault: Fault, nodes: set[str]) -> Fault | None:
    """The fault as far as it concerns `nodes` and clients; None if nothing is left of it."""
    args = dict(fault.args)
    for name in ("node", "source", "target", "left", "right"):
        if args.get(name, "c").startswith("n") and args[name] not in nodes:
            return None
    if "nodes" in args:
        args["nodes"] = [node for node in args["nodes"] if node in nodes]
        if not args["nodes"]:
            return None
    if "groups" in args:
        args["groups"] = [[node for node in group if node in nodes] for group in args["groups"]]
        if not all(args["groups"]):
            return None
    return replace(fault, args=args)


def _fewer_clients(schedule: Schedule) -> Iterator[Schedule]:
    for clients in range(1, schedule.clients):
        gone = {f"c{number}" for number in range(clients + 1, schedule.clients + 1)}
        faults = tuple(fault for fault in schedule.faults if not gone & {str(value) for value in fault.args.values()})
        yield replace(schedule, clients=clients, faults=faults)


def _plainer(schedule: Schedule) -> Iterator[Schedule]:
    for name, value in PLAIN.items():
        if getattr(schedule, name) != value:
            yield _with(schedule, name, value)
    for at, operation in enumerate(schedule.operations):
        if operation.level != "preset":
            plain = replace(operation, level="preset")
            yield replace(schedule, operations=(*schedule.operations[:at], plain, *schedule.operations[at + 1 :]))


def _simpler_faults(schedule: Schedule) -> Iterator[Schedule]:
    """Fewer nodes in a fault, and shorter ones."""
    for at, fault in enumerate(schedule.faults):
        nodes = fault.args.get("nodes", ())
        simpler = [
            replace(fault, args={**fault.args, "nodes": [node for node in nodes if node != one]})
            for one in (nodes if len(nodes) > 1 else ())
        ]
        if fault.for_ms > 40:
            simpler.append(replace(fault, for_ms=fault.for_ms // 2))
        for one in simpler:
            yield replace(schedule, faults=(*schedule.faults[:at], one, *schedule.faults[at + 1 :]))
