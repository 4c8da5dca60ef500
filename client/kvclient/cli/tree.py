"""The command tree, lazy: a command's module is imported when it is invoked, its short help stands here.

Other distributions add commands (`plugins`); one that cannot be loaded never takes the others down with it.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from kvclient import __version__
from kvclient.cli import options, output, plugins
from kvclient.cli.exit_codes import ExitCode, exit_code_of
from kvclient.cli.suggestions import SuggestingGroup
from kvproto.errors import KvError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

COMPLETE_VARIABLE = "_KV_COMPLETE"  # set by the completion scripts that click generates

# name: (module and attribute, one line of help)
BUILT_IN: dict[str, tuple[str, str]] = {
    "put": ("kvclient.cli.data:put", "Store a value under a key."),
    "get": ("kvclient.cli.data:get", "Print the value of one or more keys."),
    "del": ("kvclient.cli.data:delete", "Delete one or more keys."),
    "scan": ("kvclient.cli.scan:scan", "List keys and values in key order."),
    "load": ("kvclient.cli.load:load", "Store every line of a JSON Lines file; resumable."),
    "dump": ("kvclient.cli.dump:dump", "Write a namespace as JSON Lines; resumable."),
    "status": ("kvclient.cli.cluster:status", "One row a node: state, epoch, hints, divergence."),
    "ring": ("kvclient.cli.cluster:ring", "Who owns what: shares of the ring, owners of a key."),
    "bench": ("kvclient.cli.bench:bench", "Measure the cluster under load."),
}

EPILOG = """\b
Examples:
  kv put alice 'hello'              kv get alice
  kv scan user/ --limit 10          kv -o json get alice
  kv --at 127.0.0.1:7410 status     kv bench run --workload mix"""


class LazyGroup(SuggestingGroup):
    """The root of the tree: built-in commands by name, then those of other distributions."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, built-in ones first, without importing any."""
        return [*BUILT_IN, *sorted(set(plugins.find_entry_points()) - set(BUILT_IN))]

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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `kv --help`; built-in lines come from the table, others from the command itself."""
        rows = [(name, text) for name, (_, text) in BUILT_IN.items()]
        added = [(name, _help_line(entry)) for name, entry in sorted(plugins.find_entry_points().items()) if name not in BUILT_IN]
        for title, lines in (("Commands", rows), ("Commands of installed packages", added)):
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)


def _help_line(entry_point: EntryPoint) -> str:
    try:
        return plugins.one_line_of_help(entry_point)
    except KvError as error:
        return f"({error.message})"


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="kv")
def root() -> None:
    """A replicated key-value store whose place between consistency and availability is yours to choose."""


options.accept_global_options(root, root=True)


def run(arguments: list[str]) -> int:
    """Runs one command line; returns its exit code. Errors become one sentence on stderr, or one JSON object with `-o json`."""
    errors = output.ErrorPrinter(options.output_asked(arguments))
    try:
        return _invoke(arguments)
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
        return output.abandon_stdout()
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug ends 1, with its traceback
        errors.print_internal(error)
        return ExitCode.INTERNAL


def _invoke(arguments: list[str]) -> int:
    """What click's own `main` does, but for its way with Ctrl-C, which prints an empty line."""
    if COMPLETE_VARIABLE in os.environ:
        root.main(args=arguments, prog_name="kv", complete_var=COMPLETE_VARIABLE)  # answers the shell and ends the process
    try:
        with root.make_context("kv", arguments) as context:
            result: Any = root.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return result if isinstance(result, int) else ExitCode.DONE
