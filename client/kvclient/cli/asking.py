"""Before what cannot be undone whoever sits at the terminal types the name again."""

from __future__ import annotations

import sys

import click

from kvproto.errors import BadRequest


def ask_again(name: str, *, what: str, question: str, instead: str, subject: str) -> None:
    """Asks `question`, and returns when `name` was typed. Raises `BadRequest` if it was not, which says that `instead` is so, and
    where nobody can be asked, which says `what` would happen."""
    if not sys.stdin.isatty():
        raise BadRequest(f"{what} for ever: say --yes where nobody can be asked", subject="yes")
    typed = click.prompt(question, default="", show_default=False, err=True)
    if typed != name:
        raise BadRequest(f"{typed!r} is not {name!r}: {instead}", subject=subject)
