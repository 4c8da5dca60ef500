"""`kv bench run`: puts, gets or a mix of both from single-operation callers, and what they took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note
from kvclient.cli.suggestions import SuggestingGroup
from kvproto.errors import AvailabilityError, BadRequest

WORKLOADS = ("put", "get", "mix")


@click.group(cls=SuggestingGroup, short_help="Measure the cluster under load.")
def bench() -> None:
    """Measure the cluster under load. It writes keys that begin with bench/ into the namespace."""


@bench.command("run", short_help="A closed loop of puts, gets or both.")
@click.option("--workload", type=click.Choice(WORKLOADS), required=True, help="What to do: mix is half gets, half puts.")
@click.option(
    "--in-flight", type=click.IntRange(1, 100_000), default=64, show_default=True, help="Callers, each with one operation."
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="How long to measure.")
@click.option("--warm-up", "warm_up_s", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before that.")
@click.option("--value-bytes", type=click.IntRange(0), default=100, show_default=True, help="Size of a value.")
@click.option("--keys", type=click.IntRange(1), default=100_000, show_default=True, help="Size of the key space.")
@click.option(
    "--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Client processes that share the callers."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the keys chosen and the values written.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the report there."
)
@click.pass_context
def run(ctx: click.Context, /, json_file: Path | None, **settings: Any) -> int:
    """Measure single operations in a closed loop: every caller awaits one before it begins the next.

    For get and mix every key is put first. Ends 5 if no operation succeeded.
    """
    options = Options.of(ctx)
    if settings["processes"] > settings["in_flight"]:
        raise BadRequest(f"{settings['in_flight']} callers cannot be shared by {settings['processes']} processes")
    row = measure(options, settings)
    if json_file is not None:
        json_file.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print_report(options.output, row)
    if not row["ops"]:
        raise AvailabilityError(f"no operation succeeded: {row['errors'] or 'none ended within the time'}")
    return ExitCode.DONE


def measure(options: Options, settings: dict[str, Any]) -> dict[str, Any]:
    """Loads, runs, and returns the report."""
    from kvclient.bench import kv_operations, loop
    from kvclient.bench.processes import measure_in_processes
    from kvclient.bench.report import report
    from kvclient.bench.worker import Share

    parameters = {name: settings[name] for name in ("workload", "keys", "value_bytes", "seed")}
    parameters |= {"at": options.at, "namespace": options.namespace, "timeout_s": options.timeout_s, "level": options.level}
    if settings["workload"] != "put":
        note(f"loading {settings['keys']:,} keys of {settings['value_bytes']} bytes")
        loop.run(kv_operations.load_keys(parameters))
    overhead_ns = loop.run(loop.measure_overhead_ns())
    share = Share(kv_operations.FACTORY, parameters, settings["in_flight"], settings["seconds"], settings["warm_up_s"])
    note(f"measuring {settings['workload']} for {settings['seconds']:g} s with {settings['in_flight']} in flight")
    return report(settings, measure_in_processes(share, settings["processes"]), overhead_ns=overhead_ns)


def print_report(output: Output, row: dict[str, Any]) -> None:
    """A table for people, else one JSON object; errors by code on stderr."""
    if output is not Output.HUMAN:
        with Printer(output) as printer:
            printer.json(row)
        return
    from kvclient.bench.report import table_rows
    from kvclient.cli.tables import latency_table

    title = (
        f"{row['workload']}, {row['in_flight']} in flight, {row['value_bytes']} bytes, {row['keys']:,} keys, {row['seconds']:g} s"
    )
    latency_table(table_rows(row), title=title)
    for code, count in row["errors"].items():
        note(f"kv: {count:,} operations failed with {code}")
