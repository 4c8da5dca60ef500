"""Reads the commands out of a page: console blocks, and `make …` or `kv …` between backticks. Pure; test_readme.py runs them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^```(?P<language>\S*)[^\n]*\n(?P<body>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:make|kv) [^`\n]+)`")
_PIPES = {"|", "&&", ";", "||", "&", ">", "<", ">>"}


@dataclass(frozen=True, slots=True)
class Command:
    """One program call of a page: the page's line, and its words without prompt, variables, pipes and comments."""

    line: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """The first word, without its folder: `.venv/bin/kv` is `kv`."""
        return self.words[0].rpartition("/")[2]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words behind the program."""
        return self.words[1:]


def console_lines(page: str) -> Iterator[str]:
    """The commands typed in the page's console blocks, continuation lines joined; what stands there without `$ ` is output."""
    for fence in _FENCE.finditer(page):
        if fence["language"] != "console":
            continue
        body = fence["body"].replace("\\\n", " ")
        yield from (line[2:].strip() for line in body.splitlines() if line.startswith("$ "))


def split(line: str) -> Iterator[Command]:
    """The program calls of one line; those behind a pipe count too. Raises ValueError on an unclosed quote."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in [*lexer, ";"]:
        if word in _PIPES:
            if words:
                yield Command(line, tuple(words))
            words, redirected = [], word in {">", "<", ">>"}
        elif redirected:
            redirected = False
        elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
            words.append(word)


def commands(page: str) -> list[Command]:
    """Every command of the page, in order, console blocks first."""
    prose = _FENCE.sub("", page)
    lines = [*console_lines(page), *(match.group(1) for match in _INLINE.finditer(prose))]
    return [command for line in lines for command in split(line)]
