"""Nothing is read that was not written: by nobody, not yet, under another key, or in vain. Pure; judges every read."""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.causality import KeyStory
from kvchaos.checkers.violations import Violation, events_of

INVENTED = "only what was written is read"
REFUSED = "what was refused is not applied"


def check_invented(stories: Iterable[KeyStory]) -> list[Violation]:
    """One violation for each value and key."""
    violations = []
    for story in stories:
        told: set[str] = set()
        reads = story.reads if story.final is None else [*story.reads, story.final]
        for read in reads:
            for name in read.siblings:
                call = story.writes.get(name)
                if name in told:
                    continue
                if call is None:
                    violations.append(Violation(INVENTED, story.key, f"{name} was never written here", events_of(read)))
                elif call.began_ns > read.ended_ns:
                    text = f"{name} was read before it was written"
                    violations.append(Violation(INVENTED, story.key, text, events_of(read, call)))
                elif call.is_refused and call.ended_ns < read.began_ns:
                    text = f"{name} was refused as certainly not applied, and is there"
                    violations.append(Violation(REFUSED, story.key, text, events_of(call, read)))
                else:
                    continue
                told.add(name)
    return violations
