"""`kv load`: every line of a JSON Lines file into a namespace, batch after batch.

Batches go one after the other: of two lines with the same key the later one must win, and a file's progress must be one number.
Inside a batch the client spreads the keys over all nodes. After a failure or an interruption the same command continues behind the
last batch that was acknowledged; a batch that is loaded twice leaves the same values. Counters, sets and maps are read first, and
made equal to their line (typed_load.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from kvclient.cli import connection
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, Output
from kvclient.cli.output import Printer, note
from kvclient.cli.progress_bar import Advance, progress_bar
from kvclient.cli.progress_file import Progress, ProgressFile
from kvclient.cli.transfer_rows import Row, decode_row
from kvclient.cli.typed_load import store_typed
from kvclient.cli.typed_rows import TypedRow
from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from kvclient.cli.connection import Client, Namespace

BATCH_ROWS_MAX = 2_000
BATCH_BYTES_MAX = 4 << 20
BATCH_TIMEOUT_S = 30.0  # unless --timeout says otherwise: a slow disk is no reason to give a load up
FINGERPRINT_BYTES = 1 << 16

wall_clock_s: Callable[[], float] = time.time  # only to turn a time of expiry into what is left of it


@dataclass(slots=True)
class Batch:
    """Consecutive lines of a file, the last row of each key, and where behind them the file continues."""

    rows: dict[bytes, Row | TypedRow] = field(default_factory=dict)
    size_bytes: int = 0
    lines: int = 0
    offset_bytes: int = 0

    @property
    def full(self) -> bool:
        """Whether the next line belongs to the next batch."""
        return len(self.rows) >= BATCH_ROWS_MAX or self.size_bytes >= BATCH_BYTES_MAX


@click.command(
    cls=Examples,
    short_help="Store every line of a JSON Lines file; resumable.",
    examples="""
kv load users.jsonl
kv dump -n users | kv load - -n copy
""",
)
@click.argument("source", metavar="FILE|-", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--skip", type=click.IntRange(min=0), metavar="LINES", help="Begin behind so many lines (for stdin, which has no notes)."
)
@click.option("--fresh", is_flag=True, help="Begin at the beginning, whatever an earlier run has noted.")
@click.pass_context
def load(ctx: click.Context, source: str, skip: int | None, fresh: bool) -> int:
    """Store every line of FILE (- for stdin): {"key": …, "value": …}, with _base64 behind a name where the bytes are not UTF-8.

    What `kv dump` wrote comes back with its siblings, times of expiry, counters, sets and maps. If it is interrupted, run the same
    command again.
    """
    options = Options.of(ctx)
    if source == "-" and connection.KEEPER in ctx.meta and sys.stdin.isatty():
        raise BadRequest("at the shell's prompt load takes a file: what is typed there are commands")

    async def work(client: Client) -> int:
        if source == "-":
            loader = Loader(client.namespace(options.namespace), options)
            await loader.load(sys.stdin.buffer, Progress("stdin"), skip or 0, total_bytes=None)
        else:
            loader = await _load_file(client, options, Path(source), skip=skip, fresh=fresh)
        _print_summary(options.output, loader)
        return ExitCode.DONE

    return connection.run(options, work)


class Loader:
    """Loads rows and counts them; `note_progress` is called after each acknowledged batch."""

    def __init__(self, namespace: Namespace, options: Options, note_progress: Callable[[Progress], None] = lambda _: None) -> None:
        self._namespace = namespace
        self._call = {"timeout_s": BATCH_TIMEOUT_S if options.timeout_s is None else options.timeout_s}
        self._note_progress = note_progress
        self.keys = 0
        self.expired = 0
        self.progress = Progress("")

    async def load(self, stream: IO[bytes], start: Progress, skip_lines: int, *, total_bytes: int | None) -> None:
        """Loads `stream`, which stands at `start`, but for its first `skip_lines`.

        Raises what the store raises, and `BadRequest` with the number of a line that cannot be read; what stands before the batch
        in question is then loaded and noted.
        """
        self.progress = start
        try:
            with progress_bar("loading", total=total_bytes, done=start.offset_bytes) as advance:
                waiting = batches(stream, start, skip_lines)
                while True:
                    with interrupts_at_once():
                        batch = next(waiting, None)
                    if batch is None:
                        break
                    await self._store(batch, advance)
        except BaseException:
            if self.progress.lines:
                note(f"loaded {self.keys:,} keys of the first {self.progress.lines:,} lines")
            raise

    async def _store(self, batch: Batch, advance: Advance) -> None:
        now_s = wall_clock_s()
        living = [row for row in batch.rows.values() if row.living(now_s)]
        untyped = [row for row in living if isinstance(row, Row)]
        plain = {row.key: row.values[0] for row in untyped if row.plain}
        work = [self._store_special(row, now_s) for row in untyped if not row.plain]
        work += [store_typed(self._namespace, row, now_s, self._call) for row in living if isinstance(row, TypedRow)]
        outcomes = await asyncio.gather(self._put_many(plain), *work, return_exceptions=True)  # all end before the first is raised
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        self.keys += len(living)
        self.expired += len(batch.rows) - len(living)
        self.progress = Progress(self.progress.job, batch.offset_bytes, batch.lines)
        self._note_progress(self.progress)
        advance(batch.offset_bytes, self.keys)

    async def _put_many(self, items: dict[bytes, bytes]) -> None:
        if items:
            await self._namespace.put_many(items, **self._call)

    async def _store_special(self, row: Row, now_s: float) -> None:
        """A value that expires, or siblings: the first supersedes what is there, the others know of nothing and stay beside it."""
        known: dict[str, bytes] = {}
        for value, left_s in row.living(now_s):
            ttl = {} if left_s is None else {"ttl_s": left_s}
            await self._namespace.put(row.key, value, **self._call, **ttl, **known)
            known = {"context": b""}


@contextmanager
def interrupts_at_once() -> Iterator[None]:
    """While lines are read, Ctrl-C ends the wait for one.

    The event loop's own handler would only note it for when the loop runs again, which it does not before the line has come. In a
    shell's thread, where no signal arrives, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def batches(stream: IO[bytes], start: Progress, skip_lines: int) -> Iterator[Batch]:
    """The lines of `stream` in batches that end behind whole lines; blank lines count as lines and hold nothing."""
    batch = Batch(lines=start.lines, offset_bytes=start.offset_bytes)
    for line in stream:
        batch.lines += 1
        batch.offset_bytes += len(line)
        if batch.lines <= skip_lines or not line.strip():
            continue
        try:
            row = decode_row(line)
        except BadRequest as error:
            raise BadRequest(f"line {batch.lines}: {error.message}", subject=f"line {batch.lines}") from error
        batch.rows[row.key] = row
        batch.size_bytes += row.size_bytes
        if batch.full:
            yield batch
            batch = Batch(lines=batch.lines, offset_bytes=batch.offset_bytes)
    yield batch


async def _load_file(client: Client, options: Options, path: Path, *, skip: int | None, fresh: bool) -> Loader:
    cluster = await client.admin.describe()
    notes = ProgressFile(path)
    with path.open("rb") as stream:
        job = f"load of {fingerprint(stream)} into {cluster.cluster_id}/{options.namespace}"
        start = Progress(job) if skip is not None else notes.resume(job, fresh=fresh)
        if start.lines:
            note(f"continuing behind line {start.lines:,} ({notes.path})")
        stream.seek(start.offset_bytes)
        loader = Loader(client.namespace(options.namespace), options, notes.write)
        await loader.load(stream, start, skip or 0, total_bytes=os.fstat(stream.fileno()).st_size)
    notes.remove()
    return loader


def fingerprint(stream: IO[bytes]) -> str:
    """Names a file by its beginning, so that a note is not continued with another file of the same name. Lines may be appended to
    a file longer than the part looked at. Leaves the stream at an unspecified place."""
    stream.seek(0)
    return hashlib.blake2b(stream.read(FINGERPRINT_BYTES), digest_size=8).hexdigest()


def _print_summary(output: Output, loader: Loader) -> None:
    with Printer(output) as printer:
        if output is Output.JSON:
            printer.json({"loaded": loader.keys, "expired": loader.expired, "lines": loader.progress.lines})
        else:
            expired = f", {loader.expired:,} had expired" if loader.expired else ""
            printer.line(f"loaded {loader.keys:,} keys{expired}")
