"""What a setting costs: round trips between nodes before the answer, messages, and copies of the value.

A client that knows the ring asks a home replica, which has a copy itself. Elsewhere add one round trip.
"""

from __future__ import annotations

from typing import NamedTuple

from kvclient.dial.setting import LINEARIZABLE, Level, Setting


class Cost(NamedTuple):
    """Round trips between nodes that an operation waits for: as a rule, and at most while nobody fails."""

    write: int
    write_max: int
    read: int
    read_max: int


def cost_of(setting: Setting) -> Cost:
    """Of one operation, or of a batch of them: a batch goes the same ways once."""
    others = setting.n > 1
    if setting.mode == LINEARIZABLE:
        # Timeline and bounded reads are answered by one replica, where it is proven to be fresh enough.
        read = int(others and setting.read not in (Level.TIMELINE, Level.BOUNDED))
        # A take-over asks for a promise, reads what there is, and writes again what was not chosen for sure.
        return Cost(int(others), 3 * int(others), read, 3 * int(others))
    write = int(setting.w > 1)
    read = int(setting.r > 1)
    return Cost(write, write, read, 2 * read if setting.read is Level.ATOMIC else read)
