"""A read at `zone_quorum` shows what was acknowledged at `zone_quorum` in the same zone before it began, or what superseded it.
Pure.

Which zone that is follows from who coordinated (docs/adr/0016): the header of a history says in which each node lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvchaos.causality import KeyStory
from kvchaos.checkers.strict import stale
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

ZONE = "a read at zone_quorum shows what was acknowledged in its zone"
LEVEL = "zone_quorum"


def check_zones(stories: Iterable[KeyStory], zones: Mapping[str, str]) -> list[Violation]:
    """At most one violation for each read; `zones`: node to zone."""

    def zone_of(call: Call) -> str | None:
        """Of a call at the level; None for others."""
        if not call.is_ok or call.invoke.facts.get("level") != LEVEL or call.end is None:
            return None
        return zones.get(call.end.node or "")

    violations = []
    for story in stories:
        acknowledged = [(zone_of(call), call) for call in story.writes.values()]
        for read in story.reads:
            zone = zone_of(read)
            for of_write, write in acknowledged:
                if zone is None or of_write != zone or write.ended_ns >= read.began_ns:
                    continue
                if text := stale(story, read, write):
                    violations.append(Violation(ZONE, story.key, f"in zone {zone}, {text}", events_of(read, write)))
                    break
    return violations
