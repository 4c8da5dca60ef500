"""The demo's data: every named character of the running Python's Unicode database, the name as key."""

from __future__ import annotations

import itertools
import sys
import unicodedata
from collections.abc import Iterator


def named_characters() -> Iterator[tuple[str, bytes]]:
    """(name, value) in code point order; a value reads "☃ U+2603 So": the character, its code point, its category."""
    for code_point in range(sys.maxunicode + 1):
        character = chr(code_point)
        name = unicodedata.name(character, "")
        if name:
            yield name, f"{character} U+{code_point:04X} {unicodedata.category(character)}".encode()


def first_characters(count: int | None) -> dict[str, bytes]:
    """The first `count` of them, None for all (about 150,000)."""
    return dict(itertools.islice(named_characters(), count))


def in_chunks(names: dict[str, bytes], size: int) -> Iterator[dict[str, bytes]]:
    """The same pairs, `size` at a time."""
    pairs = iter(names.items())
    while chunk := dict(itertools.islice(pairs, size)):
        yield chunk
