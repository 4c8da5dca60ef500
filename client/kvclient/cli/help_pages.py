"""How help looks: what a command does, then how it is used, then the details.

Examples stand above the options, because that is what most who ask for help are looking for.
"""

from __future__ import annotations

from typing import Any

import click


class Formatter(click.HelpFormatter):
    """Headings stand out where the terminal can show it."""

    def write_heading(self, heading: str) -> None:
        """A section's title."""
        super().write_heading(click.style(heading, bold=True))


class Context(click.Context):
    """The context of every command of `kv`."""

    formatter_class = Formatter


class Examples(click.Command):
    """A command whose help shows examples, one a line; a mixin for groups too."""

    def __init__(self, *arguments: Any, examples: str = "", **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.examples = examples.strip().splitlines()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The description, and the examples below it."""
        super().format_help_text(ctx, formatter)
        write_examples(formatter, self.examples)


class ExampleGroup(Examples, click.Group):
    """A group whose help shows examples."""


def write_examples(formatter: click.HelpFormatter, lines: list[str]) -> None:
    """A section of lines that are not wrapped; what stands behind three blanks has a column of its own."""
    if not lines:
        return
    rows = [line.strip().partition("   ") for line in lines]
    width = max(len(typed) for typed, _, _ in rows)
    with formatter.section("Examples"):
        for typed, _, comment in rows:
            line = f"{typed:<{width}}   {comment.strip()}".rstrip()
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")
