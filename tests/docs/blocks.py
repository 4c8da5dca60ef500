"""The fenced blocks of a Markdown page, and what of them is run. Pure.

`console` blocks are typed line by line, `python` blocks executed (with top-level await), `toml` blocks read as a node's settings.
One that cannot be run says so in a comment right above it, which readers of the page do not see:

    <!-- not run by the tests: it takes ten minutes -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

RUN = frozenset({"console", "python", "toml"})
SHOWN = frozenset({"", "text", "json", "yaml", "ini", "promql"})  # diagrams, outputs, other programs' files
_MARK = re.compile(r"<!-- not run by the tests: (?P<reason>[^>]+?) -->")
_FENCE = re.compile(
    r"(?:^[ ]*<!-- not run by the tests: (?P<reason>[^>]+?) -->\n+)?"
    r"^(?P<indent>[ ]*)```(?P<language>[^\s`]*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """One block; `line` is where it begins in the page, `excuse` why it is not run, "" where it is."""

    language: str
    body: str
    line: int
    excuse: str = ""


@dataclass(frozen=True, slots=True)
class Typed:
    """One command of a console block, and the output that the page shows below it ("" where it shows none)."""

    command: str
    shown: str = ""


def blocks_of(page: str) -> list[Block]:
    """Every block of the page, in order."""
    return [
        Block(
            found["language"],
            "\n".join(line.removeprefix(found["indent"]) for line in found["body"].splitlines()) + "\n",
            page.count("\n", 0, found.start("language")) + 1,
            found["reason"] or "",
        )
        for found in _FENCE.finditer(page)
    ]


def marks_of(page: str) -> int:
    """How many comments excuse a block; more than there are excused blocks: one of them stands in the wrong place."""
    return len(_MARK.findall(page))


def typed_in(body: str) -> Iterator[Typed]:
    """The commands of a console block: what stands behind `$ `, continued behind a backslash; the rest is output."""
    command, shown = "", list[str]()
    continues = False
    for line in body.splitlines():
        if continues:
            command += "\n" + line
        elif line.startswith("$ "):
            if command:
                yield Typed(command, "\n".join(shown))
            command, shown = line.removeprefix("$ "), []
        else:
            shown.append(line)
        continues = line.endswith("\\")
    if command:
        yield Typed(command, "\n".join(shown).strip("\n"))


def output_matches(shown: str, output: str) -> bool:
    """Whether a command printed what the page shows; `…` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None
