"""The shell's prompt: a line editor with history and completion, where there is a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import ShellComplete, split_arg_string
from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from kvclient.cli import completions, tree
from kvclient.cli.output import note
from kvclient.cli.words import last_word_start, quoted

if TYPE_CHECKING:
    from kvclient.cli.options import Options
    from kvclient.cli.shell import Runner

HISTORY_VARIABLE = "KV_HISTORY"


def lines_of_terminal(runner: Runner) -> Iterator[str]:
    """What is typed, line by line, until Ctrl-D. Ctrl-C drops the line."""
    session: PromptSession[str] = PromptSession(
        history=open_history(),
        completer=ThreadedCompleter(ShellCompleter(runner)),
        complete_while_typing=False,  # each completion may ask the cluster
        auto_suggest=AutoSuggestFromHistory(),
    )
    while True:
        try:
            yield session.prompt(prompt_of(runner.options))
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def prompt_of(options: Options) -> str:
    """Where commands go: the first address, how many others there are, and the namespace."""
    nodes = options.at.partition("?")[0].rpartition("://")[2].partition("/")[0]
    first, *others = nodes.rpartition("@")[2].split(",")
    return f"{first}{f'+{len(others)}' if others else ''}/{options.namespace}> "


def history_path() -> Path | None:
    """KV_HISTORY (empty: no file), else the place that the desktop standard names for it."""
    chosen = os.environ.get(HISTORY_VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "kv" / "history"


def open_history() -> History:
    """Lines of earlier shells, in a file that only its owner can read, for values are typed too; in memory where that fails."""
    path = history_path()
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        note(f"kv: no history is kept: {error}")
        return InMemoryHistory()
    return FileHistory(str(path))


class ShellCompleter(Completer):
    """Completes a line as bash would complete it behind `kv`, and the shell's own commands."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What could stand at the cursor, spelled so that the line can be split again."""
        line = document.text_before_cursor
        start = last_word_start(line)
        before, incomplete = split_arg_string(line[:start]), "".join(split_arg_string(line[start:]))
        for value, text in self._values(before, incomplete):
            yield Completion(quoted(value), start_position=start - len(line), display=value, display_meta=text)

    def _values(self, before: list[str], incomplete: str) -> Iterator[tuple[str, str]]:
        if not before or before == ["help"]:
            yield from ((name, text) for name, text in self._runner.commands().items() if name.startswith(incomplete))
            if not before and not incomplete.startswith("-"):
                return
        context = self._runner.context()
        if before == ["use"]:
            yield from ((name, "") for name in completions.namespaces(context, None, incomplete))
        elif before != ["help"]:
            found = ShellComplete(tree.root, {"parent": context}, "kv", "").get_completions(before, incomplete)
            yield from ((str(item.value), item.help or "") for item in found if item.type == "plain")
