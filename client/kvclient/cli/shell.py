"""`kv shell`: the commands of `kv`, typed at a prompt or piped in, over a connection that is kept from one to the next.

A line is split as a shell splits it, and runs as `kv LINE` would: the same commands, options, output and errors. The shell itself
understands `use NAMESPACE`, `help` and `exit`.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from kvclient.cli import connection, tree
from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.help_pages import Examples
from kvclient.cli.options import Options, set_option
from kvclient.cli.output import OutputClosed, note
from kvclient.cli.session import Session
from kvproto.errors import BadRequest, UnknownNamespace

if TYPE_CHECKING:
    from kvclient.cli.connection import Client

OWN = {
    "use": "Choose the namespace of the commands that follow.",
    "help": "Say what there is, or how one command is used.",
    "exit": "Leave (Ctrl-D does too).",
}
OUTSIDE = ("shell", "serve")  # a shell within the shell, and a node, have no place in one
EXAMPLES = """
kv -n users shell
kv shell < commands.txt   runs every line; ends as the first that failed
printf 'put a 1\\nget a\\n' | kv shell -o json
"""


@click.command(cls=Examples, short_help="Type commands at a prompt, over one connection.", examples=EXAMPLES)
@click.option("-e", "--exit-on-error", is_flag=True, help="Piped: leave at the first command that does not end 0.")
@click.pass_context
def shell(ctx: click.Context, exit_on_error: bool) -> int:
    """Type commands at a prompt: as outside, without kv before them, over one connection.

    Tab completes commands, options, keys and namespaces; Ctrl-C ends a command, Ctrl-D the shell. Where the commands are piped in
    there is no prompt; it then ends as the first command that failed, and 0 where none did.
    """
    # Some commands start processes at once; without this gRPC would complain about each on the screen.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    with Session() as session:
        runner = Runner(session, dict(ctx.meta))
        if sys.stdin.isatty() and sys.stdout.isatty():
            from kvclient.cli.prompt import lines_of_terminal

            runner.greet()
            runner.run_lines(lines_of_terminal(runner))
            return ExitCode.DONE
        return runner.run_lines(_lines_of_stdin(), exit_on_error=exit_on_error, interruptible=False)


class Runner:
    """Runs lines one after the other. `base` holds the options that the shell was started with, as a context's `meta`."""

    def __init__(self, session: Session, base: dict[str, Any]) -> None:
        self._session = session
        self._base = {**base, connection.KEEPER: session}

    @property
    def options(self) -> Options:
        """The options of a line that gives none."""
        return Options.of(self.context())

    def context(self) -> click.Context:
        """A parent for one line's contexts; what the line sets ends with it."""
        context = click.Context(click.Command("kv"), info_name="")
        context.meta.update(self._base)
        return context

    def commands(self) -> dict[str, str]:
        """Every command that can be typed here, with a line of help."""
        names = [name for names in tree.sections().values() for name in names if name not in OUTSIDE]
        return {**{name: tree.line_of_help(name) for name in names}, **OWN}

    def greet(self) -> None:
        """Says what can be done, and connects while that is read."""
        self._session.connect_soon(self.options)
        note("help lists the commands, Tab completes, Ctrl-D leaves")

    def run_lines(self, lines: Iterable[str], *, exit_on_error: bool = False, interruptible: bool = True) -> int:
        """Runs every line up to `exit`; returns the code of the first that failed, 0 where none did."""
        first_failure = ExitCode.DONE.value
        try:
            for line in lines:
                code = self.run_line(line)
                if code is None:
                    break
                if code == ExitCode.INTERRUPTED and not interruptible:
                    return code
                first_failure = first_failure or code
                if code and exit_on_error:
                    break
        except OutputClosed:
            from kvclient.cli.output import abandon_stdout

            abandon_stdout()
        return first_failure

    def run_line(self, line: str) -> int | None:
        """Runs one line; its exit code, or None where it asks to leave."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            note(f"kv: {error}: {line.strip()}")
            return ExitCode.REFUSED
        if words[:1] == ["kv"]:  # as it was copied from elsewhere
            words = words[1:]
        if not words:
            return ExitCode.DONE
        if words in (["exit"], ["quit"]):
            return None
        return self._run(words)

    def _run(self, words: list[str]) -> int:
        name, rest = words[0], words[1:]
        if name == "help" and not rest:
            self._list_commands()
            return ExitCode.DONE
        if name == "help":
            words = [*rest, "--help"]
        elif name == "use":
            return tree.guarded(lambda: self._use(rest), self.options.output)
        elif name in OUTSIDE:
            note(f"kv: {name} is for outside of the shell")
            return ExitCode.REFUSED
        try:
            return tree.run(words, within=self.context())
        except SystemExit as ended:  # how commands of other distributions tell their code
            return ended.code if isinstance(ended.code, int) else ExitCode.DONE

    def _use(self, names: list[str]) -> int:
        if len(names) != 1:
            raise BadRequest("use takes a namespace: use NAME")
        (name,) = names

        async def known(client: Client) -> list[str]:
            return [namespace.name for namespace in (await client.admin.describe()).namespaces]

        found = self._session.run(self.options, known)
        if name not in found:
            raise UnknownNamespace(f"no namespace {name!r}; there are: {', '.join(found)}", subject=name)
        set_option(self._base, "namespace", name)
        return ExitCode.DONE

    def _list_commands(self) -> None:
        width = max(map(len, self.commands()))
        for name, text in self.commands().items():
            click.echo(f"  {name:<{width}}  {text}")
        click.echo("\nhelp COMMAND tells more. Options are those of kv: -n users, -o json, --level all, …")


def _lines_of_stdin() -> Iterable[str]:
    """Line after line as it comes; a command that reads standard input itself (`put KEY -`) takes what is left of it."""
    while line := sys.stdin.buffer.readline():
        yield line.decode("utf-8", "surrogateescape")
