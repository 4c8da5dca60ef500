"""Among reads at level `atomic` a value once seen is never un-seen: a later one has seen all that an earlier one had. Pure.

Such a read writes back what it is about to answer (Attiya, Bar-Noy and Dolev, JACM'95), so the answers of reads that do not overlap
grow. Reads at other levels are left out: between them values may come and go.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.causality import KeyStory, covers, reach_of
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

ATOMIC = "what an atomic read has seen, later ones see"
LEVEL = "atomic"


def check_atomic_reads(stories: Iterable[KeyStory]) -> list[Violation]:
    """At most one violation a key: the first read that un-sees something."""
    return [found for story in stories if (found := _check(story)) is not None]


def _check(story: KeyStory) -> Violation | None:
    reads = [call for call in story.reads if call.invoke.facts.get("level") == LEVEL]
    ended = sorted(reads, key=lambda call: call.ended_ns)
    seen: dict[str, tuple[int, Call]] = {}  # actor -> the highest counter of any answer so far, and whose
    single: dict[str, Call] = {}
    values: dict[str, Call] = {}
    at = 0
    for read in sorted(reads, key=lambda call: call.began_ns):
        while at < len(ended) and ended[at].ended_ns < read.began_ns:
            _remember(ended[at], seen, single, values)
            at += 1
        if (found := _unseen(story, read, seen, single, values)) is not None:
            text, before = found
            return Violation(ATOMIC, story.key, text, events_of(before, read))
    return None


def _remember(read: Call, seen: dict[str, tuple[int, Call]], single: dict[str, Call], values: dict[str, Call]) -> None:
    vector, dots = reach_of(str(read.fact("context", "")))
    for actor, counter in vector.items():
        if counter > seen.get(actor, (0, read))[0]:
            seen[actor] = counter, read
    single.update(dict.fromkeys(dots, read))
    for name in read.siblings:
        values.setdefault(name, read)


def _unseen(
    story: KeyStory, read: Call, seen: dict[str, tuple[int, Call]], single: dict[str, Call], values: dict[str, Call]
) -> tuple[str, Call] | None:
    vector, dots = reach_of(str(read.fact("context", "")))
    for actor, (counter, before) in seen.items():
        if vector.get(actor, 0) < counter:
            return f"an earlier read had seen event {counter} of actor {actor}, this one has seen {vector.get(actor, 0)}", before
    for dot, before in single.items():
        if dot not in dots and not covers(vector, dot):
            return f"an earlier read had seen {dot}, this one has not", before
    found = ", ".join(read.siblings) or "nothing"
    for name, before in values.items():
        if name not in read.siblings and name in story.writes and not story.may_have_been_superseded(name, read.ended_ns):
            return f"{name} was read, and then {found}, though nothing can have superseded it", before
    return None
