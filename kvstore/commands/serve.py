"""`kv serve --config node.toml`: one node, until it is told to stop or cannot go on.

Only entry points edit the environment: gRPC's event engine is switched off here, before grpc is imported anywhere
(docs/performance.md: a third of the latency of a single put), unless the user has chosen for himself.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvproto.errors import KvError, UserError
from kvproto.options import EVENT_ENGINE_OFF, GRPC_SILENT
from kvstore.commands.allocator import keep_freed_memory
from kvstore.commands.log_level import follow_file_on_hangup, level_at_start
from kvstore.commands.outcomes import Exit, chosen_output, exit_code, output_option, print_event, report_error
from kvstore.commands.ports import why_not_listen
from kvstore.commands.waiting import done_before, set_at_end_of_stdin, stop_on_signals
from kvstore.config import NodeConfig, load_config
from kvstore.event_loop import new_event_loop
from kvstore.telemetry import configure_logging

if TYPE_CHECKING:
    from kvstore.node import Node

FILES_WANTED = 65_536
COLLECT_AFTER = (100_000, 50, 50)
"""Allocations before the cycle collector looks at the youngest, and how rarely it looks at the older ones. A batch makes thousands
of tuples that no cycle holds; looking at them after every 700 took a tenth of a node's time under load."""


@click.command()
@click.option(
    "--config", "config_path", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The node's TOML file."
)
@output_option
@click.option("--stop-with-parent", is_flag=True, hidden=True, help="Stop cleanly when standard input ends.")
def serve(config_path: Path, output: str | None, stop_with_parent: bool) -> None:
    """Run one node. Stops cleanly on SIGINT and SIGTERM; ends with 2 when it refuses to start."""
    os.environ.setdefault("GRPC_EXPERIMENTS", EVENT_ENGINE_OFF)
    os.environ.setdefault("GRPC_VERBOSITY", GRPC_SILENT)
    chosen = chosen_output(output)
    try:
        config = load_config(config_path)
        level = level_at_start(config)
        _refuse_taken_ports(config)
    except KvError as error:
        report_error(error, output=chosen)
        sys.exit(Exit.REFUSED)
    configure_logging(node_id=config.node_id, level=level)
    _raise_file_limit()
    keep_freed_memory()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code = runner.run(run_node(config, config_path=config_path, output=chosen, stop_with_parent=stop_with_parent))
    sys.exit(code)


async def run_node(config: NodeConfig, *, config_path: Path, output: str, stop_with_parent: bool = False) -> Exit:
    """Starts the node, prints one line when it is ready, stops it when asked to; the exit code says how it went."""
    from kvstore.node import Node  # grpc must not be imported before the environment is set

    node = Node(config)
    asked_to_stop = stop_on_signals((signal.SIGINT, signal.SIGTERM))
    follow_file_on_hangup(config_path)
    if stop_with_parent:
        set_at_end_of_stdin(asked_to_stop)
    try:
        if not await done_before(asked_to_stop, node.start()):
            await node.stop()
            return Exit.DONE
    except KvError as error:
        report_error(error, output=output)
        return Exit.REFUSED
    _print_ready(config, config_path, output)
    if not await done_before(asked_to_stop, node.wait_closed()):
        await node.stop()
    return _outcome(node, output)


def _raise_file_limit() -> None:
    """To what this process is allowed: the usual 1,024 are for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says "unlimited" and takes less
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, FILES_WANTED) if hard > 0 else FILES_WANTED), hard))


def _refuse_taken_ports(config: NodeConfig) -> None:
    for key, address in (("listen", config.listen), ("http", config.http)):
        reason = why_not_listen(address) if address else None
        if reason:
            raise UserError(f"{config.node_id} cannot start: {reason} ({key})", subject=address)


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
    return Exit.INTERNAL if exit_code(failure) == Exit.INTERNAL else Exit.UNAVAILABLE


if __name__ == "__main__":
    serve()
