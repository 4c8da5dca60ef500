"""A receipt with its explanation as a small picture: who answered what, and when, one line a node. Pure; plain characters only.

    explain: level quorum: 2 of 3 had to answer, n1 and n3 had; n1 coordinated in ring epoch 7
      n1  *                        answered from its own replica
      n3  ------*                  differs at 0 of 1   1.2 ms
      n2  --------------------*    failed: no route    4.1 ms

A line that is no node's is printed as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kvproto.columns import Receipt

BAR = 24
_NOTE = re.compile(r"(?P<node>[^\s:]+):? (?P<said>.*?)(?: after (?P<ms>[0-9.]+) ms)?", re.DOTALL)


class Note(NamedTuple):
    """One line of an explanation, taken apart; `ms` None: it does not say when."""

    node: str
    said: str
    ms: float | None


def read_note(line: str) -> Note | None:
    """What a line says of whom; None if it is of no node."""
    found = _NOTE.fullmatch(line)
    if found is None:
        return None
    ms = found["ms"]
    return Note(found["node"], found["said"], None if ms is None else float(ms))


def picture(receipt: Receipt) -> list[str]:
    """The lines; empty without an explanation."""
    if not receipt.explanation:
        return []
    notes = [read_note(line) for line in receipt.explanation]
    known = {*receipt.acknowledged, receipt.coordinator}
    of_nodes = [note for note in notes if note is not None and (note.ms is not None or note.node in known)]
    latest_ms = max((note.ms for note in of_nodes if note.ms is not None), default=0.0)
    names = max((len(note.node) for note in of_nodes), default=0)
    words = max((len(note.said) for note in of_nodes), default=0)
    zones = dict(zip(receipt.acknowledged, receipt.zones, strict=False))
    lines = [f"explain: {summary(receipt)}"]
    for text, note in zip(receipt.explanation, notes, strict=True):
        if note is None or note not in of_nodes:
            lines.append(f"  {text}")
            continue
        bar = "-" * round((note.ms or 0.0) / latest_ms * (BAR - 1) if latest_ms else 0) + "*"
        when = "" if note.ms is None else f"{note.ms:.1f} ms"
        zone = f"  zone {zones[note.node]}" if zones.get(note.node) else ""
        lines.append(f"  {note.node:<{names}}  {bar:<{BAR}}  {note.said:<{words}}  {when:>9}{zone}".rstrip())
    return lines


def summary(receipt: Receipt) -> str:
    """What was asked for and achieved, in a sentence."""
    had = ", ".join(receipt.acknowledged) or "nobody"
    said = f"level {receipt.level.name.lower()}: {receipt.needed} of {receipt.n} had to answer; {had} had"
    marks = [name for name in ("degraded", "hinted", "hedged") if getattr(receipt, name)]
    marked = f" ({', '.join(marks)})" if marks else ""
    by = f"; {receipt.coordinator} coordinated in ring epoch {receipt.ring_epoch}" if receipt.coordinator else ""
    return f"{said}{marked}{by}"
