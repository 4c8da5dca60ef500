"""Which of several values is the latest: by hybrid stamp, then by dot, so that every replica chooses the same one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kvstore.core.policies.operations import Event
from kvstore.core.versions import Sibling


def latest(siblings: Iterable[Sibling]) -> Sibling:
    """The one that wins; there is at least one."""
    return max(siblings, key=lambda sibling: (sibling.hlc, sibling.dot))


def stamped(event: Event, held: Iterable[Sibling]) -> Event:
    """`event` with a stamp later than all of `held`: a write that has seen another never loses to it, whatever the clocks say."""
    return replace(event, hlc=max([event.hlc, *(sibling.hlc + 1 for sibling in held)]))
