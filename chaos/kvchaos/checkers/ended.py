"""What was deleted, superseded or has expired does not come back, and nothing else ends. Pure.

What a node had that was away for longer than the grace, and nobody else has, ends in a file for the operator: so may a write that
nobody but such nodes has acknowledged.

For runs in which tombstones are reaped: then the state at rest no longer says what it has seen, and who superseded whom is taken
from what was told and acknowledged alone. `skew_ms` of the header is by how much clocks were wrong; times to live are judged up to
a second of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from kvchaos.causality import KeyStory
from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import Call, Event

BACK = "what was deleted or superseded stays so"
EXPIRED = "what has expired is absent"
GONE = "nothing ends before its time"
SKEW_MS_MAX = 1000

Filed = Mapping[str, Mapping[str, Collection[str]]]


def check_ended(stories: Iterable[KeyStory], *, skew_ms: int, touched: frozenset[str], filed: Filed) -> list[Violation]:
    """Every violation of every key that was read at rest. `touched`: keys whose times to live were changed; `filed`: see
    `filed_in`."""
    violations: list[Violation] = []
    for story in stories:
        if story.final is not None:
            violations += _back(story, story.final)
            if story.key not in touched:
                violations += _gone(story, story.final, filed.get(story.key, {}))
        if skew_ms <= SKEW_MS_MAX and story.key not in touched:
            violations += _expired(story, skew_ms)
    return violations


def _back(story: KeyStory, final: Call) -> Iterable[Violation]:
    for name in final.siblings:
        if name not in story.writes or not story.is_executed_once(name):
            continue
        for other, call in story.writes.items():
            if other != name and story.must_be_kept(call) and name in _knew(story, other, call):
                verb = "deleted" if call.f == "delete" else "superseded"
                text = f"{name} is there at rest, though {other} {verb} it and was acknowledged"
                yield Violation(BACK, story.key, text, events_of(story.writes[name], call, final))
                break


def _knew(story: KeyStory, name: str, call: Call) -> set[str]:
    """What `name` superseded whoever coordinated it: what it was told, and what the only coordinator held that minted it."""
    knew = set(call.knew)
    minted = story.by_write.get(name, ())
    if call.overwrites and len(minted) == 1:
        versions = {one.version: other for other, found in story.by_write.items() for one in found}
        knew |= {versions[at] for at in minted[0].base or () if at in versions}
    return knew


def _gone(story: KeyStory, final: Call, filed: Mapping[str, Collection[str]]) -> Iterable[Violation]:
    for name, call in story.writes.items():
        if name in filed and set(call.fact("acknowledged", ())) <= set(filed[name]):
            continue
        if call.f == "delete" or not story.must_be_kept(call) or call.invoke.facts.get("ttl_ms") or name in final.siblings:
            continue
        if not story.may_have_been_superseded(name, float("inf")):
            text = f"{name} was acknowledged and never expires; at rest the key holds {', '.join(final.siblings) or 'nothing'}"
            yield Violation(GONE, story.key, text, events_of(call, final))


def _expired(story: KeyStory, skew_ms: int) -> Iterable[Violation]:
    """Who minted its time of expiry, and who read, may be wrong by the skew, each into its direction."""
    for read in story.reads if story.final is None else [*story.reads, story.final]:
        for name in read.siblings:
            call = story.writes.get(name)
            ttl_ms = 0 if call is None else call.invoke.facts.get("ttl_ms", 0)
            if call is None or not ttl_ms or not call.is_ok:
                continue
            over_ns = read.began_ns - call.ended_ns - (ttl_ms + 2 * skew_ms) * 1_000_000
            if over_ns > 0:
                text = f"{name} was to live for {ttl_ms} ms and was read {over_ns / 1e6:.0f} ms too late"
                yield Violation(EXPIRED, story.key, text, events_of(call, read))


def touched_keys(calls: Iterable[Call]) -> frozenset[str]:
    """Keys of which a touch was asked for."""
    return frozenset(call.key for call in calls if call.f == "touch")


def filed_in(events: Iterable[Event]) -> Filed:
    """By key and write, the nodes that have put it into a file for their operator."""
    filed: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for event in events:
        for name in event.value if event.f == "filed" else ():
            filed[event.key or ""][name].add(event.node or "")
    return filed
