"""Of which partitions a home replica may have missed more than there are hints for: some were dropped, over their cap or too old.

What a hint says can be found again by comparing records, and is; until it was, this node owes something of the partition that it
cannot name, and tells the others so (safety rule 12). Durable in the batch of the write whose hint was dropped. Pure but for the
engine it is loaded from; part of hints.py.
"""

from __future__ import annotations

from kvstore.storage.engine import Engine
from kvstore.storage.layout import system_key, system_name_range

_NAME = b"hint-gap/"
_START = len(system_key(_NAME))


class HintGaps:
    """(target, partition) of which hints were dropped since their records were last found to be the same."""

    __slots__ = ("_at", "_moment")

    def __init__(self) -> None:
        self._at: dict[tuple[str, int], int] = {}
        self._moment = 0

    def load(self, engine: Engine) -> None:
        """Takes up what an earlier life has left. Raises `StorageError`."""
        for name in engine.keys(*system_name_range(_NAME)):
            self._at[name[_START:-2].decode(), int.from_bytes(name[-2:], "big")] = 0

    @property
    def partitions(self) -> set[int]:
        """Of which there are gaps, whoever is the target."""
        return {partition for _, partition in self._at}

    @property
    def all(self) -> list[tuple[str, int]]:
        """All of them, in order."""
        return sorted(self._at)

    def has(self, target: str) -> bool:
        """Whether `target` may have missed more than it will be handed."""
        return any(name == target for name, _ in self._at)

    def note(self, target: str, partition: int) -> list[tuple[bytes, bytes]]:
        """A hint was dropped. What to write in the batch of its record."""
        is_new = (target, partition) not in self._at
        self._at[target, partition] = self._moment
        return [(_row(target, partition), b"")] if is_new else []

    def moment(self) -> int:
        """For `closed`: whatever is noted from now on is later."""
        self._moment += 1
        return self._moment

    def closed(self, target: str, since: int) -> list[bytes]:
        """All records that are shared with `target` were durable and compared after the `moment` `since`, and are the same. What to
        delete."""
        gone = [gap for gap, noted in self._at.items() if gap[0] == target and noted < since]
        for gap in gone:
            del self._at[gap]
        return [_row(*gap) for gap in gone]


def _row(target: str, partition: int) -> bytes:
    return system_key(_NAME + target.encode() + partition.to_bytes(2, "big"))
