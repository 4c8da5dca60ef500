"""`kv chaos`: the group of its commands."""

from __future__ import annotations

import click

from kvchaos.history_commands import check, export
from kvchaos.report.command import report_command
from kvchaos.scenarios.command import list_command, pacelc_command, run_command, split_command
from kvclient.cli.help_pages import ExampleGroup


@click.group(
    cls=ExampleGroup,
    short_help="Faults on real clusters, every promise checked.",
    examples="""
kv chaos list
kv chaos split
kv chaos run F1
kv chaos run --all --out results
kv chaos pacelc
kv chaos run --target redis
kv chaos report results
kv chaos check results/F1-pa-ec.jsonl
""",
)
def chaos() -> None:
    """Put real clusters under real faults, and check every promise of every consistency setting.

    Each scenario starts a cluster of its own on this machine, every link of it through a Toxiproxy, and ends it. Nothing that runs
    already is touched.
    """


for command in (list_command, run_command, split_command, pacelc_command, report_command, check, export):
    chaos.add_command(command)
