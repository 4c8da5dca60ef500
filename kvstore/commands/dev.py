"""`kv dev`: a local cluster, one process per node, until Ctrl-C; and actions on one node of it from another terminal."""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from kvclient.cli.help_pages import ExampleGroup
from kvproto.errors import ClusterError, KvError
from kvstore.commands.control import is_running, send_action, serve_control
from kvstore.commands.local_cluster import Death, LocalCluster
from kvstore.commands.local_layout import NODES_MAX, plan_layout, read_cluster_file
from kvstore.commands.outcomes import Exit, chosen_output, output_option, print_event, run_command
from kvstore.commands.waiting import STOP_SIGNALS, done_before, set_at_end_of_stdin, stop_on_signals
from kvstore.config.loading import PRESETS
from kvstore.config.values import DEFAULT_NAMESPACE, LINEARIZABLE
from kvstore.core.catalog.settings import NAME
from kvstore.core.policies.registry import POLICIES
from kvstore.runtime import system_random

CHOICES = (*POLICIES, LINEARIZABLE)
"""What a namespace of `kv dev` may be: eventual with a policy, or linearizable."""

DEFAULT_ADDRESS = "127.0.0.1:7400"
data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="The cluster's directory."
)


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What `kv dev` was asked for; None: not given."""

    nodes: int | None
    base_port: int
    data: Path | None
    preset: str | None
    restart: bool
    output: str
    stop_with_parent: bool = False
    tls: bool = False
    policies: Mapping[str, str] = field(default_factory=dict)


@click.group(
    cls=ExampleGroup,
    invoke_without_command=True,
    examples="""
kv dev   three nodes on 7400, 7410 and 7420
kv dev --nodes 5 --data ./cluster   kept; comes up again as it was
kv dev --policy hits=counter --policy tags=set   namespaces for counters and sets
kv dev --policy orders=linearizable   a namespace for conditions and locks
kv dev stop n2 --data ./cluster   from another terminal
""",
)
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), metavar="N", help="How many nodes; 3 for a new cluster.")
@click.option(
    "--base-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    default=7400,
    show_default=True,
    help="First port; 0 finds free ones.",
)
@click.option("--preset", type=click.Choice(PRESETS), help="Preset of the default namespace; pa-ec for a new cluster.")
@click.option(
    "--policy", "policies", multiple=True, metavar="NAME=POLICY", help=f"A namespace with this policy: {', '.join(CHOICES)}."
)
@click.option("--tls", is_flag=True, help="With TLS: certificates are made below DATA/tls, and needed by clients.")
@click.option("--restart", "restart_dead", is_flag=True, help="Start a node again when it dies; else it is left down.")
@click.option("--stop-with-parent", is_flag=True, hidden=True, help="Stop cleanly when standard input ends.")
@data_option
@output_option
@click.pass_context
def dev(
    ctx: click.Context,
    nodes: int | None,
    base_port: int,
    preset: str | None,
    policies: tuple[str, ...],
    tls: bool,
    restart_dead: bool,
    stop_with_parent: bool,
    data: Path | None,
    output: str | None,
) -> None:
    """Run a local cluster, one process per node, until Ctrl-C.

    Without --data everything is removed at the end. With it the cluster is kept and comes up again as it was.
    """
    if ctx.invoked_subcommand is not None:
        return
    chosen = dict(map(_policy, policies))
    options = DevOptions(nodes, base_port, data, preset, restart_dead, chosen_output(output), stop_with_parent, tls, chosen)
    run_command(lambda: run_dev(options), output=options.output)


def _policy(text: str) -> tuple[str, str]:
    name, _, policy = text.partition("=")
    if not NAME.fullmatch(name) or name == DEFAULT_NAMESPACE or policy not in CHOICES:
        raise click.UsageError(f"--policy {text!r} is not NAME=POLICY: a name but default, and one of {', '.join(CHOICES)}")
    return name, policy


async def run_dev(options: DevOptions) -> Exit:
    """Brings the cluster up, says so, and ends it when asked to. Raises `KvError` when it does not come up."""
    asked_to_stop = stop_on_signals()
    if options.stop_with_parent:
        set_at_end_of_stdin(asked_to_stop)
    with ExitStack() as at_end:
        root = options.data.resolve() if options.data else Path(at_end.enter_context(tempfile.TemporaryDirectory(prefix="kv-dev-")))
        cluster = await _plan(root, options)
        try:
            async with serve_control(cluster):
                if await done_before(asked_to_stop, cluster.start()):
                    _print_ready(cluster, options)
                    await asked_to_stop.wait()
        finally:
            # Ctrl-C again while it stops: no more patience.
            for number in STOP_SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, cluster.kill_now)
            await cluster.stop()
    return Exit.DONE


async def _plan(root: Path, options: DevOptions) -> LocalCluster:
    kept = read_cluster_file(root)
    if kept and await is_running(root):
        raise ClusterError(f"kv dev is running on {root} already (pid {kept.get('supervisor_pid')})", subject=str(root))
    rng = system_random()
    layout = plan_layout(
        root,
        nodes=options.nodes,
        base_port=options.base_port,
        preset=options.preset,
        rng=rng,
        tls=options.tls,
        policies=options.policies,
        kept=kept,
    )

    def on_death(death: Death) -> None:
        click.echo(death.sentence() + ("" if death.restarted else f": kv dev restart {death.node} --data {root}"), err=True)
        if options.output == "json":
            print_event({"event": "died", "node": death.node, "pid": death.pid, "code": death.code, "restarted": death.restarted})

    return LocalCluster(layout, restart_dead=options.restart, on_death=on_death)


def _print_ready(cluster: LocalCluster, options: DevOptions) -> None:
    layout = cluster.layout
    client = {} if layout.certificates is None else layout.certificates.client_options()
    if options.output == "json":
        ready = {"event": "ready", "nodes": cluster.rows(), "cluster_id": layout.cluster_id, "data": str(layout.root)}
        print_event(ready | ({"tls": client} if client else {}))
        return
    kept = "kept" if options.data else "removed at the end"
    count = "1 node is" if len(layout.nodes) == 1 else f"{len(layout.nodes)} nodes are"
    click.echo(f"{count} ready, preset {layout.preset}; data in {layout.root} ({kept})")
    for row in cluster.rows():
        click.echo(f"  {row['id']:<4} {row['address']:<21} pid {row['pid']}")
    first = layout.nodes[0].address
    at = "" if first == DEFAULT_ADDRESS else f" --at {first}"
    tls = "".join(f" --{name} {shlex.quote(file)}" for name, file in client.items())
    click.echo(f"Use it    kv{at}{tls} put greeting hello")
    click.echo(f"Break it  kv dev stop {layout.nodes[-1].id} --data {layout.root}    (also: restart, pause, resume, wipe)")
    click.echo("Ctrl-C ends all nodes.")


def _nodes_offered(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """What Tab offers for a node: those of the cluster in --data where it is given already, else of the one that answers."""
    root = _data_of(ctx)
    if root is None:
        from kvclient.cli import completions

        return completions.nodes(ctx, parameter, incomplete)
    try:
        found = (read_cluster_file(root) or {}).get("nodes")
    except KvError:
        return []
    ids = [str(row.get("id")) for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    return [node_id for node_id in ids if node_id.startswith(incomplete)]


def _data_of(ctx: click.Context) -> Path | None:
    """`--data` as given behind the action, or before it."""
    found: Path | None = ctx.params.get("data") or (ctx.parent.params.get("data") if ctx.parent else None)
    return found


def _action(name: str, help_text: str) -> click.Command:
    @click.argument("node", metavar="ID", shell_complete=_nodes_offered)
    @data_option
    @output_option
    def act(node: str, data: Path | None, output: str | None) -> None:  # noqa: ARG001 - `data` is read from the context
        chosen = chosen_output(output)
        root = _data_of(click.get_current_context())
        if root is None:
            raise click.UsageError("--data DIR is needed: kv dev prints it when it is ready")
        run_command(lambda: _send(name, node, root.resolve(), chosen), output=chosen)

    return click.command(name, help=help_text, short_help=help_text.partition(":")[0].partition(",")[0])(act)


async def _send(action: str, node: str, root: Path, output: str) -> Exit:
    row = await send_action(root, action, node)
    if output == "json":
        print_event({"event": action, **row})
    else:
        pid = f" (pid {row['pid']})" if row["pid"] else ""
        click.echo(f"{node} is {row['state']}{pid}")
    return Exit.DONE


for _name, _help in (
    ("restart", "Stop a node if it runs, and start it."),
    ("stop", "Stop a node cleanly; it stays down."),
    ("pause", "Freeze a node (SIGSTOP): it keeps its connections and answers nothing."),
    ("resume", "Let a paused node go on (SIGCONT)."),
    ("wipe", "Kill a node and delete its data, as a lost disk would; it stays down until restarted."),
):
    dev.add_command(_action(_name, _help))


if __name__ == "__main__":
    dev()
