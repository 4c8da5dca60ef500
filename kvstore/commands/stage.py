"""Where the demo speaks: numbered steps on a terminal of 80 columns, the same words without colours or bars anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

WIDTH = 80
INDENT = "    "
PLAIN_PROGRESS_STEPS = 4


class Stage:
    """Prints to `console`; every line fits `WIDTH` columns unless a word alone is longer."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._steps = 0

    @property
    def can_draw_blocks(self) -> bool:
        """Whether the output can show more than ASCII."""
        return self.console.encoding.lower().startswith("utf")

    def title(self, text: str) -> None:
        """The first line."""
        self.console.print(Text(text, style="bold"))

    def step(self, title: str, *, shows: str, how: str) -> None:
        """The heading of a step: what it shows in one line, and the command that does the same."""
        self._steps += 1
        self.console.print()
        self.console.print(Text.assemble((f"{self._steps:>2}  ", "bold cyan"), (title, "bold")))
        self.console.print(Text(INDENT + shows))
        self.console.print(Text.assemble((INDENT + "$ ", "dim"), (how, "dim")))

    def say(self, text: str, *, style: str = "") -> None:
        """A line of a step."""
        self.console.print(Text(INDENT + text, style=style))

    def good(self, text: str) -> None:
        """A promise that was checked and held."""
        self.console.print(Text.assemble((INDENT + "✓ " if self.can_draw_blocks else INDENT + "ok: ", "bold green"), text))

    def bad(self, text: str) -> None:
        """A promise that was checked and did not hold."""
        self.console.print(Text.assemble((INDENT + "✗ " if self.can_draw_blocks else INDENT + "BROKEN: ", "bold red"), text))

    def picture(self, lines: Sequence[str]) -> None:
        """Lines that are drawn rather than written."""
        for line in lines:
            self.console.print(Text(INDENT + line, style="cyan", no_wrap=True), soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Yields a function to call with how many more are done: a bar on a terminal, a few lines elsewhere."""
        if not self.console.is_terminal:
            yield self._plain_progress(what, total)
            return
        columns = (
            TextColumn(INDENT + "{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(what, total=total, rate="")

            def advance(count: int) -> None:
                progress.update(task, advance=count, rate=_rate(progress.tasks[0].speed))

            yield advance

    def _plain_progress(self, what: str, total: int) -> Callable[[int], None]:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            before, done = done, done + count
            if done * PLAIN_PROGRESS_STEPS // max(total, 1) > before * PLAIN_PROGRESS_STEPS // max(total, 1):
                self.say(f"{what}: {done:,} of {total:,}")

        return advance


def _rate(speed: float | None) -> str:
    return f"{speed:,.0f}/s" if speed else ""
