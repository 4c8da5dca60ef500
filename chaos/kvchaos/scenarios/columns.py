"""The settings that every scenario judges, each a namespace of one cluster with a load and a verdict of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EVENTUAL_PROMISES = ("invented", "siblings", "reads", "answers", "ended", "receipts", "minted", "resources")
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
    registers: bool = False
    """Whether it is linearizable: it has compare-and-set, and no siblings."""
    bound_ms: int | None = None
    """How old its reads may be; None: nothing is promised, or they are never old."""


PA_EL = Column("pa-el", "el", {"id": 2, "preset": "pa-el"}, "preset", EVENTUAL_PROMISES, 1, 1)
PA_EC = Column("pa-ec", "ec", {"id": 3, "preset": "pa-ec"}, "preset", EVENTUAL_PROMISES, 2, 2)
STRICT = Column("strict", "strict", {"id": 4, "preset": "pa-ec"}, "quorum", STRICT_PROMISES, 2, 2)

PC_EC = Column("pc-ec", "pc", {"id": 5, "preset": "pc-ec"}, "preset", ("linearizable", "resources"), 2, 2, registers=True)
# The bound is the default of cluster.timeline_bound_s.
PC_EL = Column(
    "pc-el", "pl", {"id": 6, "preset": "pc-el"}, "preset", ("timeline", "resources"), 1, 2, registers=True, bound_ms=1000
)

COLUMNS = (PA_EL, PA_EC, STRICT, PC_EC, PC_EL)

PARTITIONS = 256
"""The default of cluster.partitions."""


def namespaces(columns: tuple[Column, ...] = COLUMNS) -> dict[str, Mapping[str, str | int]]:
    """Tables of node.toml by name."""
    return {"default": {"preset": "pa-ec"}, **{column.namespace: column.settings for column in columns}}
