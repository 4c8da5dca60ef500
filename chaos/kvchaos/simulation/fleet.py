"""Many seeds on all cores: spawned processes that run one schedule after the other; results in the order of the seeds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from kvchaos.causality import stories_of
from kvchaos.checkers.judge import robbed_nodes
from kvchaos.checkers.violations import Violation
from kvchaos.history import Call, calls_of
from kvchaos.simulation.run import Outcome, run
from kvchaos.simulation.scenarios import SCENARIOS

WINDOW = 400
ANSWERED_SHARE_MIN = 0.05
"""Of the operations of a seed; with fewer, nothing was tried."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What became of one seed."""

    seed: int
    violations: tuple[Violation, ...]
    digest: str
    simulated_s: float
    operations: int
    acknowledged: int
    excused: int = 0
    """Acknowledged writes that may be lost: their answers were degraded, and all who acknowledged them were wiped."""

    @property
    def verdict(self) -> str:
        """held, broken, or inconclusive: too few operations were answered to say anything."""
        if self.violations:
            return "broken"
        return "held" if self.acknowledged >= max(1, ANSWERED_SHARE_MIN * self.operations) else "inconclusive"

    def row(self) -> dict[str, Any]:
        """As an object of JSON."""
        violations = [{"promise": one.promise, "key": one.key, "text": one.text} for one in self.violations]
        return {
            "seed": self.seed,
            "verdict": self.verdict,
            "violations": violations,
            "digest": self.digest,
            "operations": self.operations,
            "acknowledged": self.acknowledged,
            "excused": self.excused,
            "simulated_s": round(self.simulated_s, 3),
        }


def result_of(outcome: Outcome) -> SeedResult:
    """What is reported of a run. What is read at rest is nobody's operation."""
    calls = [call for call in calls_of(outcome.history.events) if not call.invoke.facts.get("final")]
    answered = sum(call.is_ok for call in calls)
    violations = tuple(outcome.violations)
    excused = excused_of(calls, robbed_nodes(outcome.history.events))
    return SeedResult(outcome.schedule.seed, violations, outcome.digest, outcome.simulated_s, len(calls), answered, excused)


def excused_of(calls: Sequence[Call], robbed: frozenset[str]) -> int:
    """How many acknowledged writes no checker asks for, because copies were taken away from all of `robbed`."""
    if not robbed:
        return 0
    stories = stories_of(calls, None, robbed)
    return sum(call.is_ok and not story.must_be_kept(call) for story in stories for call in story.writes.values())


def run_seed(scenario: str, bug: str | None, seed: int) -> SeedResult:
    """Runs one seed in this process."""
    return result_of(run(SCENARIOS[scenario](seed), bug=bug))


def run_seeds(
    seeds: Iterable[int], *, scenario: str = "swarm", bug: str | None = None, total: int | None = None
) -> Generator[SeedResult, None, None]:
    """Runs `seeds` and yields their results in order. Leaving the loop early ends the processes."""
    work: Callable[[int], SeedResult] = partial(run_seed, scenario, bug)
    count = _cores() if total is None else min(_cores(), total)
    if count == 1:
        yield from map(work, seeds)
        return
    with contextlib.closing(_Pool(count)) as pool:
        numbers = iter(seeds)
        while window := list(islice(numbers, WINDOW)):  # a pool takes in an iterator at once, and this one may have no end
            yield from pool.imap(work, window)


class _Pool:
    """A pool of spawned processes that ends with them."""

    def __init__(self, count: int) -> None:
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread():
            _ignore_interrupts()  # inherited: a process that is interrupted while it starts would print a traceback
        try:
            self._pool = multiprocessing.get_context("spawn").Pool(count, initializer=_ignore_interrupts)
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, before)

    def imap(self, work: Callable[[int], SeedResult], seeds: Iterable[int]) -> Iterator[SeedResult]:
        return self._pool.imap(work, seeds)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ignore_interrupts() -> None:
    """Ctrl-C is for the process that owns the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
