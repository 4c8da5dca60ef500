"""The names the rest of the core speaks with."""

from __future__ import annotations

from typing import NewType

NodeId = NewType("NodeId", str)
Partition = NewType("Partition", int)
