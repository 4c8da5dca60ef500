"""One page of a node's records, as replicas read it and scans merge it."""

from __future__ import annotations

from collections.abc import Sequence


class Page:
    """Records of a namespace held by one node, in key order; with `more` complete only up to `last`. `lost` keys cannot be read.
    `rebuilding`: the node has lost records, and does not know which, so the page is no vote."""

    __slots__ = ("keys", "lost", "more", "rebuilding", "records")

    def __init__(
        self,
        keys: Sequence[bytes],
        records: Sequence[bytes],
        more: bool,
        lost: Sequence[bytes] = (),
        *,
        rebuilding: bool = False,
    ) -> None:
        self.rebuilding = rebuilding
        self.keys = keys
        self.records = records
        self.more = more
        self.lost = lost

    @property
    def last(self) -> bytes:
        """The last key it covers, readable or lost; empty for an empty page."""
        return max(self.keys[-1] if self.keys else b"", self.lost[-1] if self.lost else b"")
