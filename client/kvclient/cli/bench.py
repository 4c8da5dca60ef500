"""`kv bench run`: YCSB's workloads and the plain ones from single-operation callers, and what they took."""

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

WORKLOADS = ("put", "get", "mix", "a", "b", "c", "d", "e", "f")
DISTRIBUTIONS = ("uniform", "zipfian", "latest")
IN_FLIGHT = 64
IN_FLIGHT_MAX_OPEN = 4_096


class SizeRange(click.ParamType[tuple[int, int]]):
    """A size in bytes, or the smallest and the largest: 100 or 100-1000."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(smallest, largest). Raises `UsageError`."""
        if isinstance(value, tuple):
            return value
        smallest, _, largest = str(value).partition("-")
        if not (smallest.isdecimal() and (largest or smallest).isdecimal() and int(smallest) <= int(largest or smallest)):
            self.fail(f"{value!r} is neither a size in bytes nor a range like 100-1000", param, ctx)
        return int(smallest), int(largest or smallest)


@click.group(cls=SuggestingGroup, short_help="Measure the cluster under load.")
def bench() -> None:
    """Measure the cluster under load. It writes keys that begin with bench/ into the namespace."""


@bench.command("run", short_help="YCSB's workloads a to f, or puts, gets or both.")
@click.option(
    "--workload",
    type=click.Choice(WORKLOADS),
    required=True,
    help="put, get, mix: half of each. YCSB's a half updates, b 5 %, c reads, d reads of the latest inserts, e short scans, "
    "f read-modify-write.",
)
@click.option(
    "--distribution", type=click.Choice(DISTRIBUTIONS), help="Of the keys. [default: uniform; a-c, e, f zipfian; d latest]"
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 100_000),
    help=f"Callers, each with one operation [{IN_FLIGHT}]; with --rate the most that may be under way [{IN_FLIGHT_MAX_OPEN}].",
)
@click.option(
    "--rate",
    "rate_per_s",
    type=click.FloatRange(0, min_open=True),
    metavar="OPS",
    help="Open loop: begin so many a second, and time each from when it was due.",
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="How long to measure.")
@click.option("--warm-up", "warm_up_s", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds before that.")
@click.option("--value-bytes", type=SizeRange(), default="100", show_default=True, help="Size of a value, or a range: 100-1000.")
@click.option("--keys", type=click.IntRange(1), default=100_000, show_default=True, help="Size of the key space.")
@click.option("--load/--no-load", default=True, help="Put every key first, where the workload reads; or: they are there.")
@click.option(
    "--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Client processes that share callers and rate."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the keys chosen and the values written.")
@click.option("--min-rate", type=click.FloatRange(0), metavar="OPS", help="End with 8 unless so many a second succeeded.")
@click.option("--max-p99-ms", type=click.FloatRange(0), metavar="MS", help="End with 8 if the p99 of any kind is longer.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Also write the report there."
)
@click.pass_context
def run(
    ctx: click.Context,
    /,
    json_file: Path | None,
    in_flight: int | None,
    load: bool,
    min_rate: float | None,
    max_p99_ms: float | None,
    **settings: Any,
) -> int:
    """Measure single operations. Closed loop: every caller awaits one before it begins the next; with --rate: an open loop.

    Ctrl-C ends it and shows what was measured. Ends 5 if no operation succeeded, 8 if a bar (--min-rate, --max-p99-ms) was missed,
    9 if a bar could not be judged because too much failed.
    """
    options = Options.of(ctx)
    settings["in_flight"] = in_flight or (IN_FLIGHT_MAX_OPEN if settings["rate_per_s"] else IN_FLIGHT)
    if settings["processes"] > settings["in_flight"]:
        raise BadRequest(f"{settings['in_flight']} callers cannot be shared by {settings['processes']} processes")
    row = measure(options, settings, load=load)
    code = judge(row, min_rate=min_rate, max_p99_ms=max_p99_ms)
    if json_file is not None:
        json_file.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    print_report(options.output, row)
    if row["interrupted"]:
        return ExitCode.INTERRUPTED
    if not row["ops"]:
        raise AvailabilityError(f"no operation succeeded: {row['errors'] or 'none ended within the time'}")
    return code


def measure(options: Options, settings: dict[str, Any], *, load: bool) -> dict[str, Any]:
    """Loads, runs, and returns the report."""
    from kvclient.bench import kv_operations, loop
    from kvclient.bench.processes import measure_in_processes
    from kvclient.bench.report import report
    from kvclient.bench.worker import Share
    from kvclient.bench.workloads import WORKLOADS as TABLE
    from kvclient.cli.progress_bar import progress_bar

    workload, sizes = TABLE[settings["workload"]], settings["value_bytes"]
    settings["distribution"] = settings["distribution"] or workload.distribution
    parameters = {name: settings[name] for name in ("workload", "distribution", "keys", "value_bytes", "seed")}
    parameters |= {"at": options.at, "namespace": options.namespace, "timeout_s": options.timeout_s, "level": options.level}
    settings["value_bytes"] = sizes[0] if sizes[0] == sizes[1] else list(sizes)
    if load and workload.needs_keys:
        note(f"loading {settings['keys']:,} keys of {_sizes(settings)}")
        with progress_bar("loading", total=settings["keys"]) as advance:
            loop.run(kv_operations.load_keys(parameters, advance))
    overhead_ns = loop.run(loop.measure_overhead_ns(kv_operations.null_operations(parameters).op))
    share = Share(
        kv_operations.FACTORY,
        parameters,
        settings["in_flight"],
        settings["seconds"],
        settings["warm_up_s"],
        rate_per_s=settings["rate_per_s"] or 0.0,
    )
    note(f"measuring {settings['workload']} for {settings['seconds']:g} s {_pace(settings)}")
    return report(settings, measure_in_processes(share, settings["processes"]), overhead_ns=overhead_ns)


def judge(row: dict[str, Any], *, min_rate: float | None, max_p99_ms: float | None) -> ExitCode:
    """Adds the bars that were given to the report, as `gates`, and returns the exit code they ask for."""
    from dataclasses import asdict

    from kvclient.bench import gates

    judged = gates.judge(row, min_rate=min_rate, max_p99_ms=max_p99_ms)
    if not judged:
        return ExitCode.DONE
    row["gates"] = [asdict(gate) for gate in judged]
    if not gates.is_conclusive(row):
        return ExitCode.INCONCLUSIVE
    return ExitCode.DONE if all(gate.met for gate in judged) else ExitCode.PROMISE_BROKEN


def print_report(output: Output, row: dict[str, Any]) -> None:
    """A table for people, else one JSON object; errors by code, what casts doubt on the figures, and missed bars on stderr."""
    from kvclient.bench.report import table_rows, warnings

    if output is Output.HUMAN:
        from kvclient.cli.tables import latency_table

        title = f"{row['workload']}, {_pace(row)}, {_sizes(row)}, {row['keys']:,} keys, {row['seconds']:g} s, {row['distribution']}"
        latency_table(table_rows(row), title=title)
        generator = row["generator"]
        note(f"the generator alone: {generator['overhead_ns_per_op'] / 1000:.1f} µs an operation, {generator['ops_per_s_max']:,}/s")
        for code, count in row["errors"].items():
            note(f"kv: {count:,} operations failed with {code}")
    else:
        with Printer(output) as printer:
            printer.json(row)
    for warning in warnings(row):
        note(f"kv: {warning}")
    for gate in row.get("gates", ()):
        if not gate["met"]:
            note(f"kv: bar missed: {gate['sentence']}")


def _pace(settings: dict[str, Any]) -> str:
    if settings["rate_per_s"]:
        return f"{settings['rate_per_s']:,.10g} a second"
    return f"{settings['in_flight']} in flight"


def _sizes(settings: dict[str, Any]) -> str:
    size = settings["value_bytes"]
    return f"{size} bytes" if isinstance(size, int) else f"{size[0]} to {size[1]} bytes"
