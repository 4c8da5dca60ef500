"""Replaces attributes of the production code for the time of a run: to plant bugs, and to look on."""

from __future__ import annotations

from typing import Any


class Patch:
    """Replaces attributes and puts them back."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, replacement: Any) -> Any:
        """`owner.name` is `replacement` from now on; returns what it was."""
        before = getattr(owner, name)
        self._before.append((owner, name, before))
        setattr(owner, name, replacement)
        return before

    def undo(self) -> None:
        """Everything is as it was."""
        while self._before:
            owner, name, before = self._before.pop()
            setattr(owner, name, before)
