"""The README is true: every command in it exists, with the options it is shown with, and every Python block compiles.

`kv` and `make` commands are asked (`--help`, a dry run); those that start a cluster are run by the integration tests and the demo.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.house.readme import Command, commands, split
from tests.house.repository import ROOT

README = ROOT / "README.md"
KV = Path(sys.executable).parent / "kv"
PAGE = README.read_text(encoding="utf-8") if README.is_file() else ""
# Programs that are everybody's; they are not ours to check.
OTHERS = {
    ".",
    "cd",
    "git",
    "pip",
    "python",
    "python3",
    "source",
    "echo",
    "cat",
    "curl",
    "grpcurl",
    "sudo",
    "apt-get",
    "head",
    "jq",
    "kill",
    "uv",
}


def written(program: str) -> list[Command]:
    """The README's commands that call `program`."""
    return [command for command in commands(PAGE) if command.program == program]


@cache
def help_of(*path: str) -> str:
    """What `kv … --help` says; fails the test when there is no such command."""
    assert KV.is_file(), "the kv command is not installed here: run `make install`"
    done = subprocess.run([KV, *path, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"kv {' '.join(path)}: {done.stderr}"
    return done.stdout


def names_in(help_text: str) -> set[str]:
    """The sub-commands that a help page lists."""
    _, _, listed = help_text.partition("\nCommands")
    return set(re.findall(r"^(?:  |│ )([a-z][a-z-]*)\b", listed, re.MULTILINE))


def command_path(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The sub-command that is called, `("dev", "restart")` for `kv dev restart n1 --data x`; global options may stand before it."""
    path: tuple[str, ...] = ()
    for word in arguments:
        known = names_in(help_of(*path))
        if word in known:
            path = (*path, word)
        elif path:
            break
    return path


def test_the_readme_shows_the_two_commands_everything_starts_with() -> None:
    assert {"demo", "test"} <= {command.arguments[0] for command in written("make")}


@pytest.mark.parametrize("command", written("kv"), ids=lambda command: command.line)
def test_a_kv_command_of_the_readme_exists_with_its_options(command: Command) -> None:
    if not command.arguments or command.arguments == ("…",):
        return
    path = command_path(command.arguments)
    assert path or command.arguments[0] in {"--help", "--version"}, f"no command in: {command.line}"
    known = help_of() + help_of(*path)
    behind_dashes = command.arguments.index("--") if "--" in command.arguments else len(command.arguments)
    options = [word.partition("=")[0] for word in command.arguments[:behind_dashes] if re.match(r"--?[a-z]", word)]
    assert [option for option in options if not re.search(rf"(?<![\w-]){re.escape(option)}\b", known)] == []


@pytest.mark.parametrize("command", written("make"), ids=lambda command: command.line)
def test_a_make_target_of_the_readme_exists(command: Command) -> None:
    dry = subprocess.run(["make", "-n", *command.arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert dry.returncode == 0, dry.stderr


def test_the_readme_calls_no_program_that_nobody_checks() -> None:
    assert {command.program for command in commands(PAGE)} - OTHERS - {"kv", "make", "run"} == set()


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_a_python_block_of_the_readme_compiles(block: str) -> None:
    compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_readme_links_to_files_that_exist() -> None:
    targets = re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+)", PAGE)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_commands_are_found_in_blocks_behind_pipes_and_between_backticks() -> None:
    page = "Try `make demo` and:\n```console\n$ KV_AT=x:1 kv get k -o json | jq . > out\noutput\n$ kv put a \\\n    'b c'\n```\n"
    assert [command.words for command in commands(page)] == [
        ("kv", "get", "k", "-o", "json"),
        ("jq", "."),
        ("kv", "put", "a", "b c"),
        ("make", "demo"),
    ]


def test_other_blocks_hold_no_commands() -> None:
    assert commands("```python\n$ kv get\n```\n```\n$ make demo\n```\n") == []


def test_a_program_is_known_without_its_folder() -> None:
    assert [command.program for command in split(".venv/bin/kv status && make test")] == ["kv", "make"]


def test_sub_commands_are_read_from_plain_and_from_framed_help_pages() -> None:
    page = "Usage: kv\n\nCommands:\n  get   Reads, at\n        length.\n\n"
    page += "Commands of installed packages:\n  dev   Runs.\n\n  Examples:\n    kv x\n"
    assert names_in(page) == {"get", "dev"}
    assert names_in("Usage: kv\n╭─\nCommands ─╮\n│ get   Reads. │\n") == {"get"}
    assert names_in("Options:\n  --help  Says so.\n") == set()
