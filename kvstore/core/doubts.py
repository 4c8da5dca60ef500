"""Of which partitions this node may not know what others have acknowledged (safety rule 12).

A node that could not be reached may have taken writes in the place of others, of which nobody on this side knows. So from when its
link breaks until it has told what it has not handed over, it is a *stranger*; from then on it *owes* what it tells, until it tells
otherwise. While it is away nothing is known of it, and a read that finds its quorum says what this side has. Once it is there
again, and for as long as it may know more than that quorum, presets that prefer consistency say `degraded`: unless it is of that
quorum itself, for what a home replica has acknowledged it holds, whoever else it owes it to.

Pure; asked by get.py and scan.py once a round, told by repair/owing.py. Costs an attribute while all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable


class Doubts:
    """What is known of each of `others`; all are strangers at first. `is_reachable` is the transport's opinion."""

    __slots__ = ("_is_reachable", "_owing", "_strangers", "any")

    def __init__(self, others: Iterable[str], is_reachable: Callable[[str], bool]) -> None:
        self._is_reachable = is_reachable
        self._strangers = set(others)
        self._owing: dict[str, frozenset[int]] = {}
        self.any = bool(self._strangers)
        """Whether there is anything to ask `about`."""

    def lost(self, node: str) -> None:
        """The link to `node` broke, or `node` has lost its link to us: what it told is of before."""
        self._owing.pop(node, None)
        self._strangers.add(node)
        self.any = True

    def told(self, node: str, partitions: Iterable[int]) -> None:
        """`node` has undelivered hints of `partitions` and of no others."""
        owing = frozenset(partitions)
        self._strangers.discard(node)
        if owing:
            self._owing[node] = owing
        else:
            self._owing.pop(node, None)
        self.any = bool(self._strangers or self._owing)

    def knows(self, node: str) -> bool:
        """Whether `node` has told."""
        return node not in self._strangers

    def about(self, partitions: Collection[int]) -> frozenset[str]:
        """The nodes that can be reached and may have acknowledged something of `partitions` that a quorum of others has not."""
        owing = [node for node, owed in self._owing.items() if not owed.isdisjoint(partitions)]
        return frozenset(filter(self._is_reachable, (*self._strangers, *owing)))

    def everywhere(self) -> frozenset[str]:
        """The same of any partition at all."""
        return frozenset(filter(self._is_reachable, (*self._strangers, *self._owing)))
