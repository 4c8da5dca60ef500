"""`kv serve --config node.toml`: one node, until it is told to stop or cannot go on.

Only entry points edit the environment: gRPC's event engine is switched off here, before grpc is imported anywhere
(docs/performance.md: a third of the latency of a single put), unless the user has chosen for himself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvproto.errors import KvError, UserError
from kvstore.commands.outcomes import Exit, chosen_output, exit_code, output_option, print_event, report_error
from kvstore.commands.ports import why_not_listen
from kvstore.config import NodeConfig, load_config

if TYPE_CHECKING:
    from kvstore.node import Node

GRPC_EXPERIMENTS = "-event_engine_client,-event_engine_listener"
STDIN = 0


@click.command()
@click.option("--config", "config_path", required=True, type=click.Path(path_type=Path), help="The node's TOML file.")
@output_option
@click.option("--stop-with-parent", is_flag=True, hidden=True, help="Stop cleanly when standard input ends.")
def serve(config_path: Path, output: str | None, stop_with_parent: bool) -> None:
    """Run one node. Stops cleanly on SIGINT and SIGTERM; ends with 2 when it refuses to start."""
    os.environ.setdefault("GRPC_EXPERIMENTS", GRPC_EXPERIMENTS)
    chosen = chosen_output(output)
    try:
        config = load_config(config_path)
        _refuse_taken_ports(config)
    except KvError as error:
        report_error(error, output=chosen)
        sys.exit(Exit.REFUSED)
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        code = runner.run(run_node(config, config_path=config_path, output=chosen, stop_with_parent=stop_with_parent))
    sys.exit(code)


async def run_node(config: NodeConfig, *, config_path: Path, output: str, stop_with_parent: bool = False) -> Exit:
    """Starts the node, prints one line when it is ready, stops it when asked to; the exit code says how it went."""
    from kvstore.node import Node  # noqa: PLC0415  # grpc must not be imported before the environment is set

    node = Node(config)
    asked_to_stop = _listen_for_stop(stop_with_parent=stop_with_parent)
    try:
        if not await _first(node.start(), asked_to_stop):
            await node.stop()
            return Exit.DONE
    except KvError as error:
        report_error(error, output=output)
        return Exit.REFUSED
    _print_ready(config, config_path, output)
    if not await _first(node.wait_closed(), asked_to_stop):
        await node.stop()
    return _outcome(node, output)


def _refuse_taken_ports(config: NodeConfig) -> None:
    for key, address in (("listen", config.listen), ("http", config.http)):
        reason = why_not_listen(address) if address else None
        if reason:
            raise UserError(f"{config.node_id} cannot start: {reason} ({key})", subject=address)


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415  # absent on Windows
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _listen_for_stop(*, stop_with_parent: bool) -> asyncio.Event:
    """An event that SIGINT, SIGTERM and, for a child of `kv dev`, the end of the parent set."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)

    def on_stdin() -> None:
        # The parent holds the other end and writes nothing: it can only end, with the parent, however that died.
        if not os.read(STDIN, 1024):
            loop.remove_reader(STDIN)
            asked.set()

    if stop_with_parent:
        loop.add_reader(STDIN, on_stdin)
    return asked


async def _first(work: asyncio._CoroutineLike[None], asked_to_stop: asyncio.Event) -> bool:
    """Whether `work` ended before anybody asked to stop; then it has been cancelled. Raises what `work` raises."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(asked_to_stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        await working
        return True
    working.cancel()
    await asyncio.wait((working,))
    return False


def _print_ready(config: NodeConfig, config_path: Path, output: str) -> None:
    if output == "json":
        print_event(
            {
                "event": "ready",
                "id": config.node_id,
                "address": config.advertise,
                "http": config.http,
                "pid": os.getpid(),
                "data": str(config.data),
                "config": str(config_path),
            }
        )
        return
    http = f", http://{config.http}" if config.http else ""
    click.echo(f"{config.node_id} is ready on {config.listen}{http} (cluster {config.cluster.id}, {len(config.nodes)} nodes)")


def _outcome(node: Node, output: str) -> Exit:
    failure: KvError | None = node.failure
    if failure is None:
        return Exit.DONE
    report_error(failure, output=output)
    # A node that gave up cannot serve until somebody looks at it, whatever class of error made it stop.
    return Exit.INTERNAL if exit_code(failure) is Exit.INTERNAL else Exit.UNAVAILABLE


if __name__ == "__main__":
    serve()
