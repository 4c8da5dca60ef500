"""The settings that every scenario judges, each a namespace of one cluster with a load and a verdict of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EVENTUAL_PROMISES = ("invented", "siblings", "reads", "answers", "ended", "receipts", "resources")
STRICT_PROMISES = (*EVENTUAL_PROMISES, "strict")


@dataclass(frozen=True, slots=True)
class Column:
    """Reads and writes of `namespace` at `level` ("preset": what the namespace gives). `promises` name checkers
    (`kvchaos.checkers.judge`); `r` and `w` are replicas that its receipts have to name."""

    name: str
    namespace: str
    settings: Mapping[str, str | int]
    level: str
    promises: tuple[str, ...]
    r: int
    w: int


PA_EL = Column("pa-el", "el", {"id": 2, "preset": "pa-el"}, "preset", EVENTUAL_PROMISES, 1, 1)
PA_EC = Column("pa-ec", "ec", {"id": 3, "preset": "pa-ec"}, "preset", EVENTUAL_PROMISES, 2, 2)
STRICT = Column("strict", "strict", {"id": 4, "preset": "pa-ec"}, "quorum", STRICT_PROMISES, 2, 2)

COLUMNS = (PA_EL, PA_EC, STRICT)


def namespaces(columns: tuple[Column, ...] = COLUMNS) -> dict[str, Mapping[str, str | int]]:
    """Tables of node.toml by name."""
    return {"default": {"preset": "pa-ec"}, **{column.namespace: column.settings for column in columns}}
