"""The word under the cursor of a line that is still being typed, and values spelled so that a shell reads them back. Pure."""

from __future__ import annotations

import re
import shlex

_PLAIN = re.compile(r"[\w@%+=:,./-]")


def last_word_start(line: str) -> int:
    """Where the last word of `line` begins, quotes and backslashes read as a shell reads them; the line's end behind a blank."""
    start, quote, at = len(line), "", 0
    within = False
    while at < len(line):
        character = line[at]
        if not within and not character.isspace():
            start, within = at, True
        if quote:
            at += quote == '"' and character == "\\"
            quote = "" if character == quote else quote
        elif character == "\\":
            at += 1
        elif character in "\"'":
            quote = character
        elif character.isspace():
            start, within = len(line), False
        at += 1
    return start


def quoted(value: str) -> str:
    """As a shell takes it, in quotes where it needs any."""
    return shlex.quote(value)


def escaped(value: str) -> str:
    """As a shell takes it, with a backslash before each character that means something to it."""
    return "".join(character if _PLAIN.match(character) else f"\\{character}" for character in value)
