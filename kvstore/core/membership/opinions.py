"""Whom to avoid, as a value that the coordinators read with every round and the failure detector replaces when it thinks otherwise.

Local, and never the last word: whoever routes by it asks the avoided too before it gives up. It says nothing about who owns what.
"""

from __future__ import annotations


class Opinions:
    """`dead` and `slow` are node ids; everybody else is to be asked as usual, suspects too. Belongs to one event loop."""

    __slots__ = ("dead", "slow")

    def __init__(self) -> None:
        self.dead: frozenset[str] = frozenset()
        self.slow: frozenset[str] = frozenset()
