"""Many seeds on all cores: spawned processes that run one schedule after the other; results in the order of the seeds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

from kvchaos.checkers.violations import Violation
from kvchaos.simulation.run import run
from kvchaos.simulation.scenarios import SCENARIOS

WINDOW = 400


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What became of one seed."""

    seed: int
    violations: tuple[Violation, ...]
    digest: str
    simulated_s: float
    acknowledged: int


def run_seed(scenario: str, bug: str | None, seed: int) -> SeedResult:
    """Runs one seed in this process."""
    outcome = run(SCENARIOS[scenario](seed), bug=bug)
    return SeedResult(seed, tuple(outcome.violations), outcome.digest, outcome.simulated_s, outcome.acknowledged)


def run_seeds(
    seeds: Iterable[int], *, scenario: str = "swarm", bug: str | None = None, processes: int | None = None
) -> Iterator[SeedResult]:
    """Runs `seeds` and yields their results in order. Leaving the loop early ends the processes."""
    work: Callable[[int], SeedResult] = partial(run_seed, scenario, bug)
    count = processes or _cores()
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
        self._pool = multiprocessing.get_context("spawn").Pool(count, initializer=_ignore_interrupts)

    def imap(self, work: Callable[[int], SeedResult], seeds: Iterable[int]) -> Iterator[SeedResult]:
        return self._pool.imap(work, seeds, chunksize=4)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ignore_interrupts() -> None:
    """Ctrl-C is for the process that owns the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
