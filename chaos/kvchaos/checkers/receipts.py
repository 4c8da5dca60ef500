"""A receipt tells the truth: as many replicas as the level takes, each going by the ring it names. Pure.

Only a preset may have stand-ins among them or make do with fewer, and the receipt says so: hinted, degraded.

Neither is said while nothing is wrong: a fault must have begun before the call ended. Fault events `install_epoch` ({"node",
"epoch"}) say when which node took up a ring; before that it went by epoch 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from kvchaos.checkers.violations import Violation, events_of
from kvchaos.history import CHANGING, NEMESIS, Call, Event

RECEIPTS = "a receipt names as many replicas as its level takes"
HEALTHY = "answers are degraded or hinted only when something is wrong"
EPOCHS = "acknowledgements of different ring epochs never add up"


def needed_at(level: str, n: int, preset: Mapping[str, int], *, reads: bool, near: int = 0) -> int:
    """How many replicas a level takes: one, quorum, all, preset, or a number; `near`: home replicas in the coordinator's zone."""
    if level == "zone_quorum":
        return near // 2 + 1
    fixed = {"one": 1, "quorum": n // 2 + 1, "atomic": n // 2 + 1, "all": n, "preset": preset["r" if reads else "w"]}
    return fixed[level] if level in fixed else int(level)


def check_receipts(
    calls: Iterable[Call],
    events: Sequence[Event],
    *,
    n: int,
    preset: Mapping[str, int],
    lossy: bool = False,
    exact: bool = False,
    zones: Mapping[str, str] | None = None,
) -> list[Violation]:
    """Every acknowledged call whose receipt says too little, or names a replica that went by another ring all the while. `lossy`:
    links lose messages by themselves, so that something may always be wrong. `exact`: r and w of the namespace were given, so its
    preset is met or refused as well. `zones`: node to zone, where every node is a home replica of every key."""
    epochs = _epochs(events)
    calls = list(calls)
    wrong_ns = 0 if lossy else min([*_faults_ns(events), *_unknown_ns(calls)], default=None)
    violations = []
    for call in calls:
        if not call.is_ok or "acknowledged" not in (call.end.facts if call.end is not None else {}):
            continue
        named = list(call.fact("acknowledged"))
        level = str(call.invoke.facts.get("level", "preset"))
        reads = call.f in ("read", "view")
        zone = (zones or {}).get((call.end.node if call.end is not None else None) or "")
        near = [node for node, of_node in (zones or {}).items() if of_node == zone]
        if level == "zone_quorum":
            named = [node for node in named if node in near]
        needed = needed_at(level, n, preset, reads=reads, near=len(near))
        degraded = bool(call.fact("degraded"))
        # A read may also be degraded because somebody who was away may know more (safety rule 12).
        enough = len(set(named)) > 0 and (reads or len(set(named)) < needed) if degraded else len(set(named)) >= needed
        if not enough or call.fact("needed") != needed or ((exact or level != "preset") and (degraded or call.fact("hinted"))):
            said = f"needed {call.fact('needed')} and names {', '.join(named) or 'none'}"
            said += ", degraded" if degraded else ", hinted" if call.fact("hinted") else ""
            text = f"level {level} takes {needed} of {n}; the receipt {said}"
            violations.append(Violation(RECEIPTS, call.key, text, events_of(call)))
        if (degraded or call.fact("hinted")) and (wrong_ns is None or call.ended_ns < wrong_ns):
            text = (
                f"{call.f} was answered {'degraded' if degraded else 'hinted'} by {', '.join(named)}, and nothing was wrong so far"
            )
            violations.append(Violation(HEALTHY, call.key, text, events_of(call)))
        for node in named:
            went_by = _went_by(epochs[node], call.began_ns, call.ended_ns)
            if call.fact("epoch") not in went_by:
                text = f"{node} is named by a receipt of epoch {call.fact('epoch')}, and went by {', '.join(map(str, went_by))}"
                violations.append(Violation(EPOCHS, call.key, text, events_of(call)))
                break
    return violations


def _faults_ns(events: Iterable[Event]) -> Iterable[float]:
    return (event.time_ns for event in events if event.process == NEMESIS)


def _unknown_ns(calls: Iterable[Call]) -> Iterable[float]:
    """When writes began of which nobody knows who has them: a disk that is too slow for a deadline is enough for that, and who has
    missed them is owed them from then on."""
    return (call.began_ns for call in calls if not call.is_ok and not call.is_refused and call.f in CHANGING)


def _epochs(events: Iterable[Event]) -> defaultdict[str, list[tuple[int, int]]]:
    epochs: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        if event.process == NEMESIS and event.f == "install_epoch":
            epochs[event.value["node"]].append((event.time_ns, event.value["epoch"]))
    return epochs


def _went_by(changes: list[tuple[int, int]], began_ns: float, ended_ns: float) -> list[int]:
    """The epochs a node went by between two moments."""
    before = [epoch for time_ns, epoch in changes if time_ns <= began_ns]
    during = [epoch for time_ns, epoch in changes if began_ns < time_ns <= ended_ns]
    return [before[-1] if before else 1, *during]
