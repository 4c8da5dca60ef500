"""`kv chaos report`: the page of results that were kept."""

from __future__ import annotations

from pathlib import Path

import click

from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer


@click.command("report", cls=Examples, short_help="Make the page of results that were kept.", examples="kv chaos report results")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def report_command(context: click.Context, folder: Path) -> int:
    """Make index.html in DIR, anew, from the results.json, pacelc.json and histories that kv chaos has kept there.

    Verdicts, plots and what was broken, on one page that needs no other file.
    """
    from kvchaos.report.making import make_page

    page = make_page(folder)
    with Printer(Options.of(context).output) as printer:
        if printer.output is Output.JSON:
            printer.json({"page": str(page)})
        else:
            printer.line(str(page))
    return ExitCode.DONE
