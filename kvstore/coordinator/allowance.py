"""How much a batch may make the node hold, as the coordinators see it. The API's (intake.py) counts for a connection; who calls
a coordinator from within this process has none.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Allowance(Protocol):
    """What is charged is released again by the one who charged it."""

    @property
    def has_room(self) -> bool:
        """Whether the batch may make the node hold more now."""

    def charge(self, size_bytes: int) -> None:
        """So much more is held for the batch."""

    def release(self, size_bytes: int) -> None:
        """So much less."""

    async def turn(self, operations: int) -> None:
        """Waits until so many operations of the batch may be begun: what is begun takes the processor at once."""

    async def room(self) -> None:
        """Waits until the batch may make the node hold more. Raises the `KvError` that ends what is left of it."""


class _Unlimited:
    has_room = True

    def charge(self, size_bytes: int) -> None:
        """Nobody counts."""

    def release(self, size_bytes: int) -> None:
        """Nobody counts."""

    async def turn(self, operations: int) -> None:
        """At once, but not in the same turn of the loop."""
        await asyncio.sleep(0)

    async def room(self) -> None:
        """There is always room."""


UNLIMITED: Allowance = _Unlimited()
