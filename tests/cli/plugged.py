"""Commands as another distribution would add them."""

from __future__ import annotations

import click

from kvclient.cli.options import Options

ODD = "not a command"


@click.command()
@click.pass_context
def hello(ctx: click.Context) -> None:
    """Says hello. Then it ends."""
    options = Options.of(ctx)
    click.echo(f"hello {options.namespace} {options.output}")


@click.command()
@click.option("-o", "--output", "form", default="text")
def own(form: str) -> None:
    """Has an -o of its own."""
    click.echo(form)
