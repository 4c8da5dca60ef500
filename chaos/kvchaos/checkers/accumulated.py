"""Sets and counters through read-modify-write: every acknowledged addition is in the end, and nothing that was refused. Pure.

Each writer puts what it read, merged, and its own addition, in the context of what it read; concurrent writers leave siblings, and
a reader merges them. So an addition can only get lost where the store loses a write or hands out a context too wide for its values.
A set holds elements; a counter holds one total for each process, whose maximum counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kvchaos.causality import KeyStory
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

SETS = "additions to a set stay"
COUNTERS = "increments stay, each once"


def check_accumulated(stories: Iterable[KeyStory]) -> list[Violation]:
    """Every violation of every key that was read at rest and only added to."""
    violations: list[Violation] = []
    for story in stories:
        kinds = {call.f for call in story.writes.values()}
        if story.final is not None and kinds == {"add"}:
            violations += _check_set(story, story.final)
        elif story.final is not None and kinds == {"increment"}:
            violations += _check_counter(story, story.final)
    return violations


def _check_set(story: KeyStory, final: Call) -> Iterable[Violation]:
    held = set(final.end.value or ()) if final.end is not None else set()
    for name, call in story.writes.items():
        if story.must_be_kept(call) and name not in held:
            yield Violation(SETS, story.key, f"{name} was added and acknowledged, and is not in the set", events_of(call, final))
        if call.is_refused and name in held:
            yield Violation(SETS, story.key, f"adding {name} was refused, and it is in the set", events_of(call, final))
    for name in sorted(held - story.writes.keys()):
        yield Violation(SETS, story.key, f"{name} was never added", events_of(final))


def _check_counter(story: KeyStory, final: Call) -> Iterable[Violation]:
    """Writer to its own total: at least its last acknowledged one, at most its last one that was not refused."""
    totals: dict[str, int] = dict(final.end.value or {}) if final.end is not None else {}
    low: defaultdict[str, int] = defaultdict(int)
    high: defaultdict[str, int] = defaultdict(int)
    last: dict[str, Call] = {}
    for call in story.writes.values():
        writer, total = call.invoke.value
        if story.must_be_kept(call) and total >= low[writer]:
            low[writer], last[writer] = total, call
        if not call.is_refused:
            high[writer] = max(high[writer], total)
    for writer in sorted({*totals, *low}):
        total = totals.get(writer, 0)
        if not low[writer] <= total <= high[writer]:
            text = f"{writer} counted to {low[writer]} (acknowledged), at most {high[writer]}; the counter says {total}"
            yield Violation(COUNTERS, story.key, text, events_of(last.get(writer), final))
