"""Tables for people, drawn with rich: colour only on a terminal, as wide as needed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from kvclient.cli.options import Output
from kvclient.cli.output import Printer, console

_STATE_STYLES = {"alive": "green", "slow": "yellow", "suspect": "yellow", "dead": "bold red"}
_BAR_WIDTH = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """A bar for a share between 0 and 1, to an eighth of a character, padded to `width`."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def _table(columns: Sequence[tuple[str, str]], title: str | None = None) -> Table:
    table = Table(box=None, title=title, title_justify="left", title_style="", header_style="bold", pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table


def _print(table: Table) -> None:
    """Without the blanks that fill a table's last column: they are noise in a pipe."""
    to = console()
    with to.capture() as captured:
        to.print(table)
    with Printer(Output.HUMAN) as printer:
        for line in captured.get().splitlines():
            printer.line(line.rstrip())


def status_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a row a node."""
    right = ("epoch", "keys", "hints", "dropped", "oldest", "divergent", "quarantined")
    table = _table(
        [
            *((name, "left") for name in ("node", "address", "zone", "state")),
            *((name, "right") for name in right),
            ("version", "left"),
        ]
    )
    for row in rows:
        table.add_row(
            row["id"],
            row["address"],
            row["zone"] or "-",
            Text(row["state"], style=_STATE_STYLES.get(row["state"], "")),
            str(row["ring_epoch"]),
            f"{row['keys']:,}",
            f"{row['hints_pending']:,}",
            f"{row['hints_dropped']:,}",
            f"{row['oldest_hint_s']:.0f} s",
            str(row["divergent_partitions"]),
            str(row["quarantined"]),
            row["version"],
        )
    _print(table)


def ring_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> None:
    """Prints a bar a member; shares are of all replicas of all partitions."""
    left, right = ("node", "address", "zone"), ("first of", "replicas of", "share")
    table = _table([*((name, "left") for name in left), *((name, "right") for name in right), ("", "left")], title=title)
    for row in rows:
        share = Text(bar(row["share"]), style="cyan")
        counts = (str(row["partitions_first"]), str(row["partitions"]), f"{row['share']:.1%}")
        table.add_row(row["id"], row["address"], row["zone"] or "-", *counts, share)
    _print(table)


def latency_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> None:
    """Prints a row a kind of operation: count, rate and latencies in milliseconds."""
    names = ("ops", "ops/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms")
    table = _table([("", "left"), *((name, "right") for name in names)], title=title)
    for row in rows:
        latencies = (f"{row[name] / 1000:.3f}" for name in ("p50_us", "p99_us", "p99_9_us", "max_us"))
        table.add_row(row["kind"], f"{row['ops']:,}", f"{row['ops_per_s']:,.0f}", *latencies)
    _print(table)
