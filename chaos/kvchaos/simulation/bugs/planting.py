"""The register of planted bugs, and how one is applied and taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kvchaos.simulation.patch import Patch


@dataclass(frozen=True, slots=True)
class Bug:
    """`sentence`: what goes wrong. `plant` patches. `scenario`: whose seeds show it."""

    name: str
    sentence: str
    plant: Callable[[Patch], None]
    scenario: str = "swarm"


BUGS: dict[str, Bug] = {}


def bug(name: str, sentence: str, *, scenario: str = "swarm") -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Registers the function that plants the bug `name`."""

    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        assert name not in BUGS, f"two planted bugs are called {name}"
        BUGS[name] = Bug(name, sentence, plant, scenario)
        return plant

    return register


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Applies the bug `name` for the time of the block. Raises `ValueError` for one that there is not."""
    if name not in BUGS:
        raise ValueError(f"no such bug: {name}; there are {', '.join(sorted(BUGS))}")
    patch = Patch()
    try:
        BUGS[name].plant(patch)
        yield
    finally:
        patch.undo()
