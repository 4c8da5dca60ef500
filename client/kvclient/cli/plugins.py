"""Commands of other distributions: entry points of the group `kv.commands`, each a click command.

One is imported when it is invoked. Its line in `kv --help` is read from its source without importing it: a command may need what a
list of commands must not wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvproto.errors import BadRequest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "kv.commands"


def find_entry_points() -> dict[str, EntryPoint]:
    """The installed commands by name, none of them imported."""
    from importlib.metadata import entry_points  # 20 ms: only when a name is not built in, or for the list

    return {entry_point.name: entry_point for entry_point in entry_points(group=GROUP)}


def load_command(entry_point: EntryPoint) -> click.Command:
    """Imports the command. Raises `BadRequest` naming it where that fails."""
    try:
        command = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise BadRequest(f"the command {entry_point.name!r} ({entry_point.value}) cannot be loaded: {error}") from error
    if not isinstance(command, click.Command):
        raise BadRequest(f"the command {entry_point.name!r} ({entry_point.value}) is not a click command")
    return command


def one_line_of_help(entry_point: EntryPoint) -> str:
    """The first sentence of the command's docstring; from the loaded command where its source does not show it. Raises `BadRequest`
    where it cannot be loaded either."""
    text = _docstring(entry_point) or load_command(entry_point).help or ""
    sentence = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0]
    return sentence.removesuffix(".") + "."


def _docstring(entry_point: EntryPoint) -> str | None:
    import ast
    from importlib.util import find_spec

    try:
        spec = find_spec(entry_point.module)
        if spec is None or spec.origin is None:
            return None
        module = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError, ValueError):
        return None
    functions = (node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == entry_point.attr)
    return next((ast.get_docstring(function) for function in functions), None)
