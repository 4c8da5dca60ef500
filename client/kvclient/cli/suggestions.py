"""The nearest name to one that does not exist, the same whatever version of click is installed."""

from __future__ import annotations

from collections.abc import Iterable

import click

from kvproto.errors import BadRequest


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing where no known name is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises `BadRequest` with the nearest name, or with all of them, unless `name` is one of them."""
    names = list(known)
    if name not in names:
        hint = did_you_mean(name, names) or f" There are: {', '.join(names)}."
        raise BadRequest(f"no such {what}: {name!r}.{hint}")


def sentence(error: click.ClickException) -> str:
    """What a command line did wrong, in one line."""
    if isinstance(error, click.NoSuchOption):
        return f"No such option {error.option_name!r}.{did_you_mean(error.option_name, error.possibilities or ())}"
    return " ".join(error.format_message().split())


class SuggestingGroup(click.Group):
    """A group that compares an unknown sub-command with those it has."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click. Raises `click.UsageError` with the nearest name, or with all of them where none is near."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            known = self.list_commands(ctx)
            hint = did_you_mean(name, known) or f" There are: {', '.join(known)}."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)
