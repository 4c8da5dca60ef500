"""Numbers as the page writes them. Pure."""

from __future__ import annotations

from typing import Any

from kvchaos.report.evidence import Row

NONE = "–"
"""Where there is no number."""


def share(value: float | None) -> str:
    """As a percentage; 100 % and 0 % only where nothing and everything is left."""
    if value is None:
        return NONE
    if value in (0.0, 1.0):
        return f"{value:.0%}".replace("%", " %")
    return f"{min(max(value * 100, 0.1), 99.9):.1f} %"


def milliseconds(value: float | None) -> str:
    """With as many digits as say something."""
    if value is None:
        return NONE
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def round_trips(value: float | None) -> str:
    """As a multiple of the round trip between nodes."""
    return NONE if value is None else f"{value:.2f} RTT"


def versions_in_words(row: Row) -> str:
    """`kvstore 0.1.0, python 3.11.9`."""
    held: Any = row.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in held.items()) or NONE
