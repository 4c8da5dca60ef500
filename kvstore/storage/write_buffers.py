"""How large a node's write buffer is: less than the limit by a share of its own, so that replicas do not flush at the same time.

Replicas take the same writes. Where their buffers have one size they are full at one moment, and while a full one is written to a
table each sync of the log waits for it: at every replica at once, so that no quorum is left that answers soon (ADR 28). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

SHARE_MAX = 0.3
"""The smallest buffer is by so much smaller than the largest."""
GOLDEN = 0.618033988749895
"""Multiples of it are spread evenly over 0 to 1, however many there are."""


def buffer_bytes_of(node: str, nodes: Sequence[str], bytes_max: int) -> int:
    """The write buffer of `node`, one of `nodes`, in bytes: between 70 % of `bytes_max` and all of it."""
    share = sorted(nodes).index(node) * GOLDEN % 1.0
    return int(bytes_max * (1.0 - SHARE_MAX * share))
