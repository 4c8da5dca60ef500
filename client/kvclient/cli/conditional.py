"""`kv cas` and `kv lock`: what linearizable namespaces are for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from kvclient.cli import connection
from kvclient.cli.arguments import keys_offered, to_bytes, value_bytes
from kvclient.cli.data import print_written
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options
from kvclient.cli.output import ErrorPrinter, note, printable
from kvproto.errors import AvailabilityError, BadRequest

if TYPE_CHECKING:
    from kvclient.cli.connection import Client, Lease

TOKEN_VARIABLE = "KV_LOCK_TOKEN"
SIGNALLED = 128
"""As shells do: a command that signal N ended, ended with 128 + N."""


@click.command(
    cls=Examples,
    short_help="Store a value if the key holds another one.",
    examples="""
kv -n orders cas 17 open paid
kv -n orders cas photo old - < new.jpg   the new value is what stdin holds
""",
)
@click.argument("key", shell_complete=keys_offered)
@click.argument("old")
@click.argument("new")
@click.option("--ttl", "ttl_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Expire after this time.")
@click.pass_context
def cas(ctx: click.Context, key: str, old: str, new: str, ttl_s: float | None) -> int:
    """Store NEW (or, with -, all of stdin) under KEY if it holds exactly OLD.

    Ends 4 if it holds something else, says what, and has certainly not stored anything. For a key that must not exist there is
    `kv put --if-absent`. Needs a linearizable namespace.
    """
    options = Options.of(ctx)
    data = value_bytes(new)

    async def work(client: Client) -> int:
        space = client.namespace(options.namespace)
        written = await space.compare_and_set(to_bytes(key), to_bytes(old), data, **options.call(ttl_s=ttl_s))
        print_written(options.output, "stored", to_bytes(key), written)
        return ExitCode.DONE

    return connection.run(options, work)


@click.command(
    cls=Examples,
    short_help="Run a command while holding a lock.",
    examples="""
kv -n orders lock nightly -- ./report.sh
kv -n orders lock deploy --timeout 60 --lease 30 -- make deploy   waits for up to a minute
""",
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND…")
@click.option(
    "--lease", "lease_s", type=click.FloatRange(min=0.1), default=10.0, metavar="SECONDS", help="How long others wait if we die."
)
@click.pass_context
def lock(ctx: click.Context, name: str, command: tuple[str, ...], lease_s: float) -> int:
    """Take the lock NAME, run COMMAND, give the lock back, and end with COMMAND's own code.

    Waits for as long as --timeout says, then ends 5 without running anything. KV_LOCK_TOKEN tells COMMAND a number that grows with
    every holder: give it to what the lock protects. Should the lease be lost, because no majority could be reached in time, COMMAND
    is sent SIGTERM. Needs a linearizable namespace.
    """
    options = Options.of(ctx)
    if shutil.which(command[0]) is None:
        raise BadRequest(f"there is no command {command[0]!r} that could be run", subject=command[0])

    async def work(client: Client) -> int:
        wait_s = {} if options.timeout_s is None else {"timeout_s": options.timeout_s}
        taken = client.namespace(options.namespace).lock(to_bytes(name), lease_s=lease_s, **wait_s)
        try:
            lease = await taken.acquire()
        except AvailabilityError as error:
            ErrorPrinter(options.output).print_error(error)
            return ExitCode.UNAVAILABLE
        try:
            return await run_holding(command, lease, name=printable(to_bytes(name)))
        finally:
            await taken.release()

    return connection.run(options, work)


async def run_holding(command: Sequence[str], lease: Lease, *, name: str) -> int:
    """Runs `command` to its end, told to end when the lease is lost; its exit code. Cancelled, it still waits for that end: whoever
    has the lock next must not find it running."""
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, TOKEN_VARIABLE: str(lease.token)})
    ended = asyncio.ensure_future(process.wait())
    lost = asyncio.ensure_future(lease.lost.wait())
    with passing_on_sigterm(process):
        try:
            await asyncio.wait({ended, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                note(f"kv: the lease of the lock {name} is lost: {command[0]} is told to end")
                tell_to_end(process)
            code = await asyncio.shield(ended)
        finally:
            lost.cancel()
            await ended  # Ctrl-C reached it too: it is of our group
    return code if code >= 0 else SIGNALLED - code


@contextlib.contextmanager
def passing_on_sigterm(process: asyncio.subprocess.Process) -> Iterator[None]:
    """Whoever tells us to end means the command; we end when it has, and give the lock back."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, tell_to_end, process)
    except (RuntimeError, ValueError, NotImplementedError):  # not in the main thread: in `kv shell`
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def tell_to_end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
