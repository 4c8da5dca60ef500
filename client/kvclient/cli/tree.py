"""The command tree, lazy: a command's module is imported when it is invoked, its short help stands here.

Other distributions add commands (`plugins`); one that cannot be loaded never takes the others down with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from kvclient import __version__
from kvclient.cli import options, output, plugins
from kvclient.cli.exit_codes import ExitCode, exit_code_of
from kvclient.cli.help_pages import ExampleGroup
from kvclient.cli.options import Options, Output
from kvclient.cli.suggestions import SuggestingGroup
from kvproto.errors import KvError

COMPLETE_VARIABLE = "_KV_COMPLETE"  # set by the scripts of `kv completion`

# name: (module and attribute, one line of help)
BUILT_IN: dict[str, tuple[str, str]] = {
    "put": ("kvclient.cli.data:put", "Store a value under a key."),
    "get": ("kvclient.cli.data:get", "Print the value of one or more keys."),
    "del": ("kvclient.cli.data:delete", "Delete one or more keys."),
    "touch": ("kvclient.cli.data:touch", "Give a key another time to live."),
    "cas": ("kvclient.cli.conditional:cas", "Store a value if the key holds another one."),
    "lock": ("kvclient.cli.conditional:lock", "Run a command while holding a lock."),
    "incr": ("kvclient.cli.typed:incr", "Add to a counter and print what it holds."),
    "decr": ("kvclient.cli.typed:decr", "Take from a counter and print what it holds."),
    "sadd": ("kvclient.cli.typed:sadd", "Add members to a set."),
    "srem": ("kvclient.cli.typed:srem", "Remove members from a set."),
    "smembers": ("kvclient.cli.typed:smembers", "Print the members of a set, one a line."),
    "sismember": ("kvclient.cli.typed:sismember", "Tell whether something is in a set."),
    "hset": ("kvclient.cli.typed:hset", "Store a value in a field of a map."),
    "hget": ("kvclient.cli.typed:hget", "Print the value of a field of a map."),
    "hdel": ("kvclient.cli.typed:hdel", "Delete a field of a map."),
    "scan": ("kvclient.cli.scan:scan", "List keys and values in key order."),
    "load": ("kvclient.cli.load:load", "Store every line of a JSON Lines file; resumable."),
    "dump": ("kvclient.cli.dump:dump", "Write a namespace as JSON Lines; resumable."),
    "shell": ("kvclient.cli.shell:shell", "Type commands at a prompt, over one connection."),
    "status": ("kvclient.cli.cluster:status", "One row a node: state, epoch, hints, divergence."),
    "namespace": ("kvclient.cli.namespace:namespace", "Make, list, show and drop namespaces."),
    "repair": ("kvclient.cli.repair:repair", "Compare replicas now, and repair what differs."),
    "ring": ("kvclient.cli.cluster:ring", "Who owns what: shares of the ring, owners of a key."),
    "dial": ("kvclient.cli.dial:dial", "What a consistency setting promises, survives and costs."),
    "bench": ("kvclient.cli.bench:bench", "Measure the cluster under load."),
    "completion": ("kvclient.cli.completion:completion", "Print the script that completes kv in a shell."),
}

# How `kv --help` groups them. Commands that other distributions of this project add have their place here too.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Commands for data": ("put", "get", "del", "touch", "cas", "lock", "scan", "load", "dump", "shell"),
    "Commands for counters, sets and maps": ("incr", "decr", "sadd", "srem", "smembers", "sismember", "hset", "hget", "hdel"),
    "Commands for clusters": ("status", "ring", "namespace", "repair", "dev", "serve", "demo"),
    "Commands that measure and test": ("dial", "bench", "sim", "chaos", "pacelc"),
    "Commands for your terminal": ("completion",),
}
OTHERS = "Commands of installed packages"

EXAMPLES = """
kv put alice 'hello'   kv get alice
kv scan user/ --limit 10   kv -o json get alice
kv --at 127.0.0.1:7410 status   kv bench run --workload mix
"""


class LazyGroup(SuggestingGroup, ExampleGroup):
    """The root of the tree: built-in commands by name, then those of other distributions."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, in the order of the sections, without importing any."""
        return [name for names in sections().values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none. Raises `BadRequest` if it cannot be imported."""
        if cmd_name in BUILT_IN:
            module, _, attribute = BUILT_IN[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
        else:
            entry_point = plugins.find_entry_points().get(cmd_name)
            if entry_point is None:
                return None
            command = plugins.load_command(entry_point)
        if cmd_name not in self.commands:
            self.commands[cmd_name] = options.accept_global_options(command)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As in every group; a command that spells a global option its own way also gets what stood before its name."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None and (defaults := options.given_before(ctx, command)):
            ctx.default_map = {name: defaults}
        return name, command, rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, and the options below them: unlike those, they are the same everywhere."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `kv --help`, section by section."""
        found = sections()
        width = max(len(name) for names in found.values() for name in names)
        for title, names in found.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", line_of_help(name)) for name in names])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """As in every group, but without importing the commands whose names are offered."""
        names = [] if incomplete[:1] == "-" else [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [CompletionItem(name, help=line_of_help(name)) for name in names] + options


def sections() -> dict[str, list[str]]:
    """The names of all commands that are installed, by section; empty sections left out."""
    installed = {**BUILT_IN, **plugins.find_entry_points()}
    found = {title: [name for name in names if name in installed] for title, names in SECTIONS.items()}
    found[OTHERS] = sorted(set(installed).difference(*SECTIONS.values()))
    return {title: names for title, names in found.items() if names}


def line_of_help(name: str) -> str:
    """What an installed command does, in one line: for a built-in one from the table, for others from their source."""
    if name in BUILT_IN:
        return BUILT_IN[name][1]
    try:
        return plugins.one_line_of_help(plugins.find_entry_points()[name])
    except KvError as error:
        return f"({error.message})"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
    examples=EXAMPLES,
    epilog="kv COMMAND --help tells more. These options are accepted before a command and behind it.",
)
@click.version_option(__version__, prog_name="kv")
def root() -> None:
    """A replicated key-value store whose place between consistency and availability is yours to choose."""


options.accept_global_options(root, root=True)


def run(arguments: list[str], *, within: click.Context | None = None) -> int:
    """Runs one command line; returns its exit code. Errors become one sentence on stderr, or one JSON object with `-o json`.

    `within` is the context of a shell in which the line was typed: its options hold unless the line says otherwise. There
    `OutputClosed` is raised, since it is the shell that has nobody to talk to any more.
    """
    asked = options.output_asked(arguments, Options.of(within).output if within else Output.HUMAN)
    try:
        return guarded(lambda: _invoke(arguments, within), asked)
    except output.OutputClosed:
        if within is not None:
            raise
        return output.abandon_stdout()


def guarded(work: Callable[[], int], asked: Output) -> int:
    """The exit code of `work`; its errors, but for `OutputClosed`, printed and turned into theirs."""
    errors = output.ErrorPrinter(asked)
    try:
        return work()
    except KvError as error:
        errors.print_error(error)
        return exit_code_of(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.REFUSED
    except click.ClickException as error:
        errors.print_usage(error)
        return ExitCode.REFUSED
    except (click.Abort, KeyboardInterrupt):
        errors.print_interrupted()
        return ExitCode.INTERRUPTED
    except output.OutputClosed:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug ends 1, with its traceback
        errors.print_internal(error)
        return ExitCode.INTERNAL


def _invoke(arguments: list[str], within: click.Context | None) -> int:
    """What click's own `main` does, but for its way with Ctrl-C, which prints an empty line."""
    if COMPLETE_VARIABLE in os.environ and within is None:
        import_module("kvclient.cli.completion")  # for bash it knows better than click
        root.main(args=arguments, prog_name="kv", complete_var=COMPLETE_VARIABLE)  # answers the shell and ends the process
    color = None if output.may_have_colour() else False
    try:
        with root.make_context("" if within else "kv", arguments, parent=within, color=color) as context:
            result: Any = root.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return result if isinstance(result, int) else ExitCode.DONE
