"""Planted bugs: each a patch of the production code, applied in the simulation only, that leaves one rule of the store out.

The suite must be able to fail: every one of them is found by ordinary seeds. To add one, write a function that patches and mark it
with `bug`; say in a sentence what the store then does wrong.
"""

from __future__ import annotations

from kvchaos.simulation.bugs import (
    answers,
    crashes,
    dots,
    durability,
    found,
    hints,
    membership,
    memory,
    namespaces,
    policies,
    reaping,
    registers,
    retries,
    trees,
    zones,
)
from kvchaos.simulation.bugs.planting import BUGS, planted

__all__ = [
    "BUGS",
    "answers",
    "crashes",
    "dots",
    "durability",
    "found",
    "hints",
    "membership",
    "memory",
    "namespaces",
    "planted",
    "policies",
    "reaping",
    "registers",
    "retries",
    "trees",
    "zones",
]
