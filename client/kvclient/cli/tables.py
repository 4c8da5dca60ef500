"""Tables for people, drawn with rich: colour only on a terminal, as wide as needed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from kvclient.cli.options import Output
from kvclient.cli.output import Printer, console

_STATE_STYLES = {"alive": "green", "slow": "yellow", "suspect": "yellow", "rebuilding": "yellow", "dead": "bold red"}
_TROUBLE = {
    "hints_dropped": "dropped",
    "oldest_hint_s": "oldest s",
    "divergent_partitions": "divergent",
    "quarantined": "quarantined",
    "trees_unknown": "no trees",
}
_WIDTH_MAX = 1_000
_BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """A bar for a share between 0 and 1, to an eighth of a character, padded to `width`."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def _table(columns: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table


def _print(table: Table, *, title: str = "") -> None:
    """Whole, even where the terminal is too narrow for it; without the blanks that fill a line up, which are noise in a pipe."""
    to = console(width=_WIDTH_MAX)
    with to.capture() as captured:
        to.print(table)
    with Printer(Output.HUMAN) as printer:
        for line in [title] * bool(title) + captured.get().splitlines():
            printer.line(line.rstrip())


def status_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a row a node; the columns of trouble only where there is any, so that a healthy cluster fits 80 columns."""
    trouble = [name for name in _TROUBLE if any(row[name] for row in rows)]
    left, right = ("node", "address", "zone", "state"), ("epoch", "keys", "hints", *(_TROUBLE[name] for name in trouble))
    doubted = any(row["seen_as"] for row in rows)
    columns = [*((name, "left") for name in left), *((name, "right") for name in right), ("version", "left")]
    table = _table([*columns, *([("seen as", "left")] if doubted else [])])
    for row in rows:
        silent = row["state"] == "dead"  # its numbers are not known
        figures = ["-" if silent else f"{row[name]:,.0f}" for name in ("ring_epoch", "keys", "hints_pending", *trouble)]
        said = "rebuilding" if row["rebuilding"] and not silent else row["state"]
        state = Text(said, style=_STATE_STYLES.get(said, ""))
        seen_as = [row["seen_as"] or "-"] if doubted else []
        table.add_row(row["id"], row["address"], row["zone"] or "-", state, *figures, row["version"] or "-", *seen_as)
    _print(table)


def peers_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a row an opinion: who thinks what of whom, since when, and on what grounds."""
    figures = ("since s", "flaps", "latency ms", "incarnation")
    table = _table([("node", "left"), ("peer", "left"), ("state", "left"), *((name, "right") for name in figures)])
    for row in rows:
        state = Text(row["state"], style=_STATE_STYLES.get(row["state"], ""))
        latency = f"{row['latency_ms']:,.1f}" if row["latency_ms"] else "-"
        table.add_row(
            row["node"], row["peer"], state, f"{row['since_s']:,.0f}", str(row["flaps"]), latency, str(row["incarnation"])
        )
    _print(table)


def repair_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a row a node: what was compared, found and brought together."""
    right = ("partitions", "differing", "keys", "repaired", "unknown", "s")
    table = _table([("node", "left"), *((name, "right") for name in right), ("unreachable", "left")])
    for row in rows:
        figures = [f"{row[name]:,}" for name in ("compared", "differing", "differences", "repaired", "unknown")]
        table.add_row(row["id"], *figures, f"{row['elapsed_s']:.1f}", ", ".join(row["unreachable"]) or "-")
    _print(table)


def namespaces_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a row a namespace: what it gives, on how many replicas, and whose clients may use how much of it."""
    right = ("n", "r", "w", "ttl s", "operations/s", "bytes/s")
    table = _table(
        [*((name, "left") for name in ("namespace", "preset", "policy")), *((name, "right") for name in right), ("", "left")]
    )
    for row in rows:
        figures = [row["n"], row["r"], row["w"], row["ttl_s"], row["quota_operations_per_s"], row["quota_bytes_per_s"]]
        shown = [f"{figure:,g}" if figure else "-" for figure in figures]
        kept = row["storage"] if row["storage"] == "memory" else "" if row["durability"] == "fsync" else "not synced"
        said = ", ".join(filter(None, (kept, "configured" if row["configured"] else "")))
        table.add_row(row["name"], row["preset"], row["policy"], *shown, said)
    _print(table)


def memory_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints a row a node: what a namespace takes of its memory."""
    figures = ("keys", "bytes", "max_bytes", "evictions")
    table = _table([("node", "left"), *((name.replace("_", " "), "right") for name in figures)])
    for row in rows:
        table.add_row(row["node"], *(f"{row[name]:,}" for name in figures))
    _print(table)


def ring_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> None:
    """Prints a bar a member; shares are of all replicas of all partitions."""
    left, right = ("node", "address", "zone"), ("first of", "replicas of", "share")
    table = _table([*((name, "left") for name in left), *((name, "right") for name in right), ("", "left")])
    for row in rows:
        share = Text(bar(row["share"]), style="cyan")
        counts = (str(row["partitions_first"]), str(row["partitions"]), f"{row['share']:.1%}")
        table.add_row(row["id"], row["address"], row["zone"] or "-", *counts, share)
    _print(table, title=title)


def latency_table(rows: Sequence[Mapping[str, Any]], *, title: str) -> None:
    """Prints a row a kind of operation: count, rate and latencies in milliseconds."""
    names = ("ops", "ops/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms")
    table = _table([("", "left"), *((name, "right") for name in names)])
    for row in rows:
        latencies = (f"{row[name] / 1000:.3f}" for name in ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"))
        table.add_row(row["kind"], f"{row['ops']:,}", f"{row['ops_per_s']:,.0f}", *latencies)
    _print(table, title=title)
