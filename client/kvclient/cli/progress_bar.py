"""How far a long command has come, on stderr: a bar where that is a terminal, elsewhere a line now and then, as a log wants it.

A line comes at every 5 % of what is known to be there, or at every 100,000 keys where that is not known. There is none in the first
ten seconds, so that short commands stay silent in scripts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int, int], None]

LINES_PER_TOTAL = 20
KEYS_PER_LINE = 100_000
SILENT_S = 10.0

clock_s: Callable[[], float] = time.monotonic


@contextmanager
def progress_bar(title: str, *, total: int | None, done: int = 0, unit: str = "keys") -> Iterator[Advance]:
    """Yields `advance(done, keys)`: how far it is (in the unit of `total`; None: unknown) and how many keys that were so far."""
    if not sys.stderr.isatty():
        yield _Lines(title, total, done, unit).advance
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from kvclient.cli.output import console

    columns = (
        TextColumn(title),
        BarColumn(),
        TextColumn("{task.fields[keys]:,} " + unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, keys=0)
        yield lambda done_now, keys: bar.update(task, completed=done_now, keys=keys)


class _Lines:
    """Counts the steps that were passed, and says the last of them."""

    def __init__(self, title: str, total: int | None, done: int, unit: str) -> None:
        self._title = title
        self._total = total
        self._unit = unit
        self._began_s = clock_s()
        self._step = self._step_of(done, 0)

    def advance(self, done: int, keys: int) -> None:
        """As `progress_bar` says."""
        step = self._step_of(done, keys)
        if step == self._step or clock_s() - self._began_s < SILENT_S:
            return
        from kvclient.cli.output import note

        self._step = step
        share = f"{done / self._total:.0%}, " if self._total else ""
        note(f"{self._title}: {share}{keys:,} {self._unit}")

    def _step_of(self, done: int, keys: int) -> int:
        return done * LINES_PER_TOTAL // self._total if self._total else keys // KEYS_PER_LINE
