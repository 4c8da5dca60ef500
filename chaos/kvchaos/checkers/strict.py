"""Strict quorum reads are regular: with R+W>N a read sees every write acknowledged before it began, or what superseded it. Pure.

Judged pair by pair, by what receipts say was needed, so that one history may mix levels; answers that say they were degraded, or
that stand-ins took part in, claim nothing. Two witnesses: the context that the read
returned covers the write's version, and the values it found are the write or something that may have superseded it.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.causality import KeyStory, covers, vector_of
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call

REGULAR = "strict quorum reads are regular"


def check_strict(stories: Iterable[KeyStory], n: int) -> list[Violation]:
    """At most one violation for each read; `n` is how many replicas a key has."""
    violations = []
    for story in stories:
        acknowledged = [call for call in story.writes.values() if call.is_ok and _is_strict(call)]
        for read in filter(_is_strict, story.reads):
            for write in acknowledged:
                if write.ended_ns < read.began_ns and read.fact("needed", 0) + write.fact("needed", 0) > n:
                    text = stale(story, read, write)
                    if text:
                        violations.append(Violation(REGULAR, story.key, text, events_of(read, write)))
                        break
    return violations


def _is_strict(call: Call) -> bool:
    return not call.fact("degraded") and not call.fact("hinted")


def stale(story: KeyStory, read: Call, write: Call) -> str:
    """Why the read has not seen the write, which was acknowledged before it began; "" if it has."""
    name = write.write
    found = ", ".join(read.siblings) or "nothing"
    by = f"a read by {read.fact('needed')}"
    if not covers(vector_of(str(read.fact("context", ""))), str(write.fact("version", ""))):
        return f"{by} found {found} and has not heard of {name}, acknowledged by {write.fact('needed')} before"
    if write.f != "delete" and name not in read.siblings and not story.may_have_been_superseded(name, read.ended_ns):
        return f"{by} found {found}: {name}, acknowledged before, is missing and nothing superseded it"
    for old in read.siblings:
        if old != name and old in story.surely_knew(name) and story.is_executed_once(old):
            return f"{by} still found {old}, which {name}, acknowledged before, had superseded"
    return ""
