"""A preset's read that does not say `degraded` shows what was acknowledged while nodes were away (safety rule 12). Pure.

Judged once every link has been whole for a while: while a node is away nothing is known of it. Where copies are taken away notes of
who has missed what may be gone as well, and nothing is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvchaos.causality import KeyStory
from kvchaos.checkers.strict import stale
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import NEMESIS, Call, Event

WHOLE = "a read that is not degraded shows what was acknowledged while nodes were away"
LINKED_NS = 1_000_000_000
"""Links are up, and every node is heard, so long after the last fault."""
HARMLESS = frozenset({"slow_disk", "skew", "crash_at"})  # where a crash is to be, and not that there was one
NOTES = frozenset({"skipped", "not started", "not stopped", "install_epoch"})
"""What is told beside the faults."""
AT_ONCE = frozenset({"reset", "start", "healed"})
AWAY = frozenset({"cut", "partition", "isolate", "stall", "slow", "mute", "pause", "crash", "power", "stop"})
JUDGED = AWAY | AT_ONCE | HARMLESS | NOTES


def check_whole(stories: Iterable[KeyStory], events: Sequence[Event]) -> list[Violation]:
    """At most one violation for each read."""
    faults = [event for event in events if event.process == NEMESIS]
    kinds = {event.f.removeprefix("end of ") for event in faults}
    if not kinds <= JUDGED:
        return []
    violations = []
    for story in stories:
        partial = [call for call in story.writes.values() if call.is_ok and (call.fact("degraded") or call.fact("hinted"))]
        for read in story.reads:
            if not _says_whole(read) or not _is_linked(faults, read.began_ns):
                continue
            for write in partial:
                text = stale(story, read, write) if write.ended_ns < read.began_ns else ""
                if text:
                    violations.append(Violation(WHOLE, story.key, text, events_of(read, write)))
                    break
    return violations


def _says_whole(read: Call) -> bool:
    level = read.invoke.facts.get("level", "preset")
    return level == "preset" and read.fact("needed", 0) > 1 and not read.fact("degraded") and not read.fact("hinted")


def _is_linked(faults: Iterable[Event], at_ns: float) -> bool:
    under_way = 0
    for event in faults:
        kind = event.f.removeprefix("end of ")
        if event.time_ns > at_ns or kind in HARMLESS or kind in NOTES:
            continue
        if event.time_ns + LINKED_NS > at_ns:
            return False
        if event.f == "healed":
            under_way = 0
        elif kind not in AT_ONCE:
            under_way += -1 if event.f.startswith("end of ") else 1
    return under_way == 0
