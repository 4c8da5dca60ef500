"""A progress bar on stderr where stderr is a terminal, and nothing at all where it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[int, int], None]


@contextmanager
def progress_bar(title: str, *, total: int | None, done: int = 0, unit: str = "keys") -> Iterator[Advance]:
    """Yields `advance(done, keys)`: how far it is (in the unit of `total`; None: unknown) and how many keys that were so far."""
    if not sys.stderr.isatty():
        yield lambda _done, _keys: None
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
