"""Reads one TOML table after another and collects every problem instead of stopping at the first.

A reader asks a `Table` for each setting it knows; what is left at the end is unknown, and the message names the nearest setting
that exists. A setting that cannot be used yields its default, so that reading goes on.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
N = TypeVar("N", int, float)

KINDS: Mapping[type, str] = {
    str: "text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be, or None."""
    found = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """The end of a sentence about a wrong name: the nearest valid one, else all of them."""
    near = nearest(name, known)
    return f"did you mean {near!r}?" if near else f"valid here: {', '.join(sorted(known))}"


class Problems:
    """What is wrong, as `key: sentence` lines in the order found; `elsewhere` maps a leaf name to its full paths."""

    def __init__(self, known_paths: Iterable[str] = ()) -> None:
        self.lines: list[str] = []
        self._known_paths = tuple(known_paths)

    def add(self, key: str, sentence: str) -> None:
        """Notes one problem of the setting `key` (its full path)."""
        self.lines.append(f"{key}: {sentence}")

    def elsewhere(self, leaf: str) -> str | None:
        """The full path of a setting with exactly this last name in another table, or None."""
        return next((path for path in self._known_paths if path.rpartition(".")[2] == leaf), None)


class Table:
    """One TOML table at `path` ("" is the file itself); getters return a usable value whatever was written."""

    def __init__(self, values: Mapping[str, object], path: str, problems: Problems) -> None:
        self._values = values
        self._path = path
        self._problems = problems
        self._asked: list[str] = []

    def key(self, name: str) -> str:
        """The full path of a setting of this table."""
        return f"{self._path}.{name}" if self._path else name

    def names(self) -> list[str]:
        """What the file sets here, in its order; for tables whose keys are the user's own names."""
        return list(self._values)

    def problem(self, name: str, sentence: str) -> None:
        """Notes a problem of one of this table's settings."""
        self._problems.add(self.key(name), sentence)

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """A string; required ones must not be empty."""
        value = self._typed(name, str, default)
        if required and not value and (name not in self._values or self._values[name] == ""):
            self.problem(name, "required, and not set")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings, empty when it is not set."""
        value = self._typed(name, list, [])
        if not all(isinstance(one, str) for one in value):
            self.problem(name, "must be a list of texts in quotes")
            return ()
        return tuple(value)

    def flag(self, name: str, default: bool) -> bool:
        """A boolean."""
        return self._typed(name, bool, default)

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """A whole number within bounds, both included."""
        value = self._typed(name, int, default)
        return self._bounded(name, value, default, minimum, maximum)

    def integer_or_none(self, name: str, *, minimum: int, maximum: int) -> int | None:
        """A whole number within bounds, or None when it is not set."""
        return self.integer(name, minimum, minimum=minimum, maximum=maximum) if self._is_set(name) else None

    def number(self, name: str, default: float, *, minimum: float, maximum: float) -> float:
        """A number, whole or not, within bounds."""
        value = float(self._typed(name, float, default))
        return self._bounded(name, value, default, minimum, maximum)

    def number_or_none(self, name: str, *, minimum: float, maximum: float) -> float | None:
        """A number within bounds, or None when it is not set."""
        return self.number(name, minimum, minimum=minimum, maximum=maximum) if self._is_set(name) else None

    def choice(self, name: str, default: str, *, available: Sequence[str], planned: Sequence[str] = ()) -> str:
        """One of `available`; one of `planned` is refused as not available yet rather than as unknown."""
        value = self._typed(name, str, default)
        if value in available:
            return value
        if value in planned:
            self.problem(name, f"{value!r} is not available yet in this version; available: {', '.join(available)}")
        else:
            self.problem(name, f"{value!r} is not known; {did_you_mean(value, [*available, *planned])}")
        return default

    def table(self, name: str) -> Table:
        """A table inside this one; empty when it is not set."""
        return Table(self._typed(name, dict, {}), self.key(name), self._problems)

    def optional_table(self, name: str) -> Table | None:
        """A table inside this one, or None when it is not set: where an empty table means something else."""
        return self.table(name) if self._is_set(name) else None

    def finish(self) -> None:
        """Reports whatever the file sets here and nobody asked for."""
        for name in self._values:
            if name not in self._asked:
                self.problem(name, f"unknown setting; {self._suggestion(name)}")

    def _suggestion(self, name: str) -> str:
        near = nearest(name, self._asked)
        if near:
            return f"did you mean {self.key(near)!r}?"
        elsewhere = self._problems.elsewhere(name)
        return f"did you mean {elsewhere!r}?" if elsewhere else did_you_mean(name, self._asked)

    def _is_set(self, name: str) -> bool:
        self._asked.append(name)
        return name in self._values

    def _typed(self, name: str, kind: type[T], default: T) -> T:
        self._asked.append(name)
        if name not in self._values:
            return default
        value = self._values[name]
        # TOML's true is no number, and Python's bool is an int: say so instead of reading it as 1.
        accepted = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not accepted or (isinstance(value, bool) and kind is not bool):
            self.problem(name, f"must be {KINDS[kind]}, not {json.dumps(value, default=str)}")
            return default
        return value  # type: ignore[return-value]  # an int where a float is asked; number() converts

    def _bounded(self, name: str, value: N, default: N, minimum: N, maximum: N) -> N:
        if minimum <= value <= maximum:
            return value
        self.problem(name, f"must be between {minimum:,} and {maximum:,}, not {value:,}")
        return default
