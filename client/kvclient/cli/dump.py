"""`kv dump`: a namespace as JSON Lines, in key order, to stdout or into a file.

A dump into a file grows under the name FILE.partial and gets its own name when it is complete, so FILE is always whole. If it is
interrupted, the same command continues behind the last whole line. It is no snapshot: each key is as it was when the scan
passed it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvclient.cli import connection
from kvclient.cli.arguments import to_bytes
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note
from kvclient.cli.progress_bar import progress_bar
from kvclient.cli.progress_file import ProgressFile
from kvclient.cli.transfer_rows import decode_key, line_of
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvclient.cli.connection import Client, ScannedEntry

ADVANCE_EVERY_KEYS = 1_000


@click.command(
    cls=Examples,
    short_help="Write a namespace as JSON Lines; resumable.",
    examples="""
kv dump backup.jsonl   goes on where it was interrupted
kv dump --prefix user: | wc -l
""",
)
@click.argument("target", metavar="[FILE|-]", default="-", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin so.")
@click.option("--after", default="", metavar="KEY", help="Begin behind this key (to continue a dump on stdout).")
@click.option("--fresh", is_flag=True, help="Begin at the beginning, whatever an earlier run has left.")
@click.pass_context
def dump(ctx: click.Context, target: str, prefix: str, after: str, fresh: bool) -> int:
    """Write every key with its value, every sibling and time of expiry to FILE (or stdout), a JSON object a line."""
    options = Options.of(ctx)

    async def work(client: Client) -> int:
        def scan(behind: bytes) -> AsyncIterator[ScannedEntry]:
            return client.namespace(options.namespace).scan(prefix=to_bytes(prefix), after=behind)

        if target == "-":
            await _dump_to_stdout(options, scan(to_bytes(after)))
            return ExitCode.DONE
        if after:
            raise BadRequest("--after is for a dump on stdout; a file continues by itself")
        cluster = await client.admin.describe()
        job = f"dump of {cluster.cluster_id}/{options.namespace} prefix {prefix!r}"
        keys = await _dump_to_file(Path(target), job, scan, fresh=fresh)
        _print_summary(options.output, keys, target)
        return ExitCode.DONE

    return connection.run(options, work)


async def _dump_to_stdout(options: Options, entries: AsyncIterator[ScannedEntry]) -> None:
    with Printer(options.output) as printer, progress_bar("dumping", total=None) as advance:
        keys = 0
        async for entry in entries:
            printer.line(line_of(entry))
            keys += 1
            if keys % ADVANCE_EVERY_KEYS == 0:
                advance(0, keys)


async def _dump_to_file(target: Path, job: str, scan: Callable[[bytes], AsyncIterator[ScannedEntry]], *, fresh: bool) -> int:
    """Returns the lines FILE now has."""
    partial, notes = target.with_name(target.name + ".partial"), ProgressFile(target)
    if fresh or not notes.path.exists():
        partial.unlink(missing_ok=True)  # without its note nobody knows of what it is a part
    notes.write(notes.resume(job, fresh=fresh))
    lines, last_key = _cut_to_whole_lines(partial)
    if lines:
        note(f"continuing behind line {lines:,} of {partial}")
    with partial.open("ab") as stream, progress_bar("dumping", total=None) as advance:
        async for entry in scan(last_key):
            stream.write(line_of(entry).encode() + b"\n")
            lines += 1
            if lines % ADVANCE_EVERY_KEYS == 0:
                advance(0, lines)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, target)
    notes.remove()
    return lines


def _cut_to_whole_lines(partial: Path) -> tuple[int, bytes]:
    """Drops a line that was cut short; returns how many whole ones remain and the last one's key (0 and b"" for none)."""
    partial.touch()
    lines, whole_bytes, last = 0, 0, b""
    with partial.open("r+b") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                lines, whole_bytes, last = lines + 1, whole_bytes + len(line), line
        stream.truncate(whole_bytes)
    return lines, decode_key(last) if lines else b""


def _print_summary(output: Output, keys: int, target: str) -> None:
    with Printer(output) as printer:
        if output is Output.JSON:
            printer.json({"dumped": keys, "file": target})
        else:
            printer.line(f"dumped {keys:,} keys to {target}")
