"""The peer comparison: `python -m tests.bench.compare [--quick] [--only LIST] [--rounds N] [--seconds S] [--sides LIST] [--gate]`.

Starts kvstore's nodes and what they are compared with on one filesystem, each cluster with one client process of its own, loads
them with the same keys and measures them in alternating rounds (run.py; the lines are in catalogue.py). Prints one table.
Exit codes: 0; with --gate 8 if a bar is missed and 9 if a line could not be measured; 130 when interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests.bench.catalogue import GROUPS, choose
from tests.bench.facts import gather_facts
from tests.bench.lines import Line, decide_exit_code
from tests.bench.run import SIDES, Run
from tests.bench.table import render_table, report_json


async def run(arguments: argparse.Namespace, lines: list[Line]) -> int:
    """Measures, prints and returns the exit code."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="kvstore-bench-", dir=arguments.data) as folder:
        quick = arguments.quick
        measured = Run(
            Path(folder),
            lines,
            set(arguments.sides.split(",")),
            rounds=arguments.rounds or (1 if quick else 3),
            seconds=arguments.seconds or (1.0 if quick else 3.0),
            warm_up_s=0.3 if quick else 0.7,
        )
        measured.facts.update(gather_facts(Path(folder), rounds=measured.rounds, seconds=measured.seconds))
        await measured.compare()
    rows = measured.rows()
    print(render_table(rows, facts=measured.facts, notes=measured.notes), end="")
    if arguments.json:
        arguments.json.write_text(json.dumps(report_json(rows, facts=measured.facts, notes=measured.notes), indent=2) + "\n")
    return decide_exit_code(rows, gate=arguments.gate)


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description="Compares kvstore with etcd, Redis and raw LevelDB on this machine; prints one table."
    )
    parser.add_argument("--quick", action="store_true", help="one round of 1 s a measurement: does it run, not how fast is it")
    parser.add_argument("--only", default="", help=f"comma-separated lines or groups of lines: {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, help="alternating rounds, default 3")
    parser.add_argument("--seconds", type=float, help="of each measurement, default 3")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"comma-separated, of {', '.join(SIDES)}")
    parser.add_argument("--data", type=Path, help="folder for every side's data, removed at the end; default: the temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--gate", action="store_true", help="end with 8 if a bar is missed, 9 if a line could not be measured")
    arguments = parser.parse_args()
    if unknown := set(arguments.sides.split(",")) - set(SIDES):
        parser.error(f"--sides: {', '.join(sorted(unknown))} is not one of {', '.join(SIDES)}")
    try:
        lines = choose([name for name in arguments.only.split(",") if name])
    except ValueError as error:
        parser.error(f"--only: {error}")
    try:
        return asyncio.run(run(arguments, lines))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
