"""Planted bugs: each a patch of the production code, applied in the simulation only, that leaves one safety rule out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Applies the bug `name` for the time of the block. Raises `KeyError` for one that there is not."""
    raise KeyError(name)
    yield
