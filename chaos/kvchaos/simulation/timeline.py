"""A run as a person reads it: what broke, in a sentence, and the few lines that led to it, in virtual time.

At most `LINES_MAX` lines, unless all are asked for. Kept is what concerns the keys of the violation: first what accuses, then
faults, then calls and executions, then messages, those near to the accusing events before others; a line counts what is left out.
A run in which every promise held shows its faults, and between them how the calls went. The same text in every process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from kvchaos.checkers.violations import Violation
from kvchaos.history import NEMESIS, Call, Event, calls_of
from kvchaos.simulation.names import Names
from kvchaos.simulation.run import Outcome
from kvchaos.simulation.schedule import FAULTS
from kvchaos.simulation.wire import Wire
from kvchaos.simulation.wording import asked, count, executed, faulted, noted, told
from kvstore.simulation.loop import START_NS

LINES_MAX = 40
WIDTH_MAX = 160
SERVERS_OWN = frozenset({"storage_failed", "record_quarantined"})
"""What nodes log that explains what they do next."""


class Weight(IntEnum):
    """What a line is about; the lower, the more it tells."""

    ACCUSING = 0
    FAULT = 1
    OWN = 2
    MESSAGE = 3
    ANSWER = 4
    OTHER = 5  # shown only where everything is


_WeightOf = Callable[..., Weight]
"""Of a key and the indices of the events that a line is about."""


class Text(NamedTuple):
    """A line of the report, and how it may be set off on a terminal: title, accusing, fault, message, plain or faint."""

    style: str
    text: str


_STYLES = {
    Weight.ACCUSING: "accusing",
    Weight.FAULT: "fault",
    Weight.OWN: "plain",
    Weight.MESSAGE: "message",
    Weight.ANSWER: "message",
    Weight.OTHER: "faint",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One happening; `times` it happened again at once."""

    time_ns: float
    weight: Weight
    who: str
    text: str
    times: int = 1

    def render(self) -> Text:
        """`>   2732.5  p1       put r0 …`."""
        mark = ">" if self.weight is Weight.ACCUSING else " "
        again = f"  (×{self.times})" if self.times > 1 else ""
        return Text(_STYLES[self.weight], _cut(f"{mark}{self.time_ns / 1e6:10.1f}  {self.who:<8}  {self.text}{again}"))


def render_timeline(outcome: Outcome, *, notes: Iterable[str] = (), command: str = "", full: bool = False) -> list[Text]:
    """The report of a run whose events were kept; `notes` stand below the sentence, `command` replays it."""
    violations = outcome.violations
    head = _head(violations) + [Text("faint", _cut(f"        {line}")) for line in (size_of(outcome), *notes)]
    columns = [Text("plain", ""), Text("faint", f"{'ms':>11}  {'who':<8}  what")]
    foot = [Text("plain", ""), Text("title", f"{'again' if violations or full else 'more':<8}{command}")] if command else []
    if violations or full:
        lines = list(_lines(outcome, violations[0] if violations else None, full=full))
    else:
        lines = list(_faults_and_counts(outcome))
    lines.sort(key=lambda line: (line.time_ns, line.weight))
    folded = list(_folded(lines))
    room = len(folded) if full else LINES_MAX - len(head) - len(columns) - len(foot) - 1
    kept = _choose(folded, room)
    body = [line.render() for line in kept]
    if left_out := Counter(line.weight for line in folded) - Counter(line.weight for line in kept):
        body.append(Text("faint", f"{'':>11}  {_counted(left_out)} left out"))
    return [*head, *columns, *body, *foot]


def size_of(outcome: Outcome) -> str:
    """How large the run was."""
    schedule = outcome.schedule
    return ", ".join(
        [
            f"seed {schedule.seed}: {count(schedule.nodes, 'node')} (n={schedule.copies} r={schedule.r} w={schedule.w})",
            count(schedule.clients, "client"),
            count(len(schedule.operations), "operation"),
            count(len(schedule.faults), "fault"),
        ]
    )


def sentence_of(violation: Violation) -> str:
    """The broken promise, the key, and what was seen instead."""
    key = f" ({violation.key})" if violation.key else ""
    return f"{violation.promise}{key}: {violation.text.partition(chr(10))[0]}"


def _head(violations: Sequence[Violation]) -> list[Text]:
    if not violations:
        return [Text("title", "HELD    every promise")]
    others = sorted({found.promise for found in violations} - {violations[0].promise})
    also = [Text("faint", _cut(f"        also: {', '.join(others)}"))] if others else []
    return [Text("broken", _cut(f"BROKEN  {sentence_of(violations[0])}", WIDTH_MAX * 2)), *also]


def _cut(line: str, width: int = WIDTH_MAX) -> str:
    first, _, more = line.partition("\n")
    return first if len(first) <= width and not more else f"{first[: width - 1]}…"


# --- what there is to tell


def _lines(outcome: Outcome, violation: Violation | None, *, full: bool) -> Iterator[Line]:
    events = outcome.history.events
    accusing = set(violation.events) if violation is not None else set()
    keys = _keys_of(violation, events)
    names = Names(events, outcome.schedule.node_ids)
    begun_ns = min((event.time_ns for event in events if event.type == "invoke"), default=0)

    def weight_of(key: str | None, *indices: int) -> Weight:
        if accusing.intersection(indices):
            return Weight.ACCUSING
        return Weight.OWN if not keys or key in keys else Weight.OTHER

    told_lines = [*_calls(calls_of(events), names, weight_of), *_happenings(events, accusing, names, weight_of)]
    yield from (line for line in told_lines if full or line.weight is not Weight.OTHER)
    healed_ns = min((event.time_ns for event in events if event.f == "healed"), default=float("inf"))
    for event in outcome.events:
        if event.kind == "log" and event.facts.get("event") in SERVERS_OWN:
            facts = ", ".join(f"{name}={value}" for name, value in event.facts.items() if name not in ("process", "level", "event"))
            yield Line(event.at_ns - START_NS, Weight.FAULT, event.facts["process"], f"{event.facts['event']}: {facts}")
    for message in Wire(names).messages(outcome.events):
        at_ns = message.at_ns - START_NS
        if full or (begun_ns <= at_ns < healed_ns and (not keys or message.keys & keys)):
            weight = Weight.ANSWER if message.is_answer else Weight.MESSAGE
            text = f"{message.text}  ·  arrives in {message.takes_ms:.1f} ms"
            yield Line(at_ns, weight, f"{message.source} → {message.target}", text)


def _keys_of(violation: Violation | None, events: Sequence[Event]) -> set[str]:
    if violation is None:
        return set()
    if violation.key:
        return {violation.key}
    return {key for index in violation.events if (key := events[index].key)}


def _calls(calls: Iterable[Call], names: Names, weight_of: _WeightOf) -> Iterator[Line]:
    for call in calls:
        final = bool(call.invoke.facts.get("final"))
        who = "at rest" if final else f"p{call.invoke.process}"
        indices = [call.invoke.index] + ([call.end.index] if call.end is not None else [])
        weight = weight_of(call.key, *indices)
        if final or call.end is None:
            yield Line(call.began_ns, weight, who, f"{asked(call)}: {told(call, names)}")
        else:
            yield Line(call.began_ns, weight, who, asked(call))
            name = call.write if "write" in call.invoke.facts else f"{call.f} {call.key}"
            yield Line(call.end.time_ns, weight, who, f"← {name}: {told(call, names)}")


def _happenings(events: Iterable[Event], accusing: set[int], names: Names, weight_of: _WeightOf) -> Iterator[Line]:
    for event in events:
        if event.process == NEMESIS:
            if not (event.f == "install_epoch" and event.value["epoch"] == 1):  # which every start goes through
                yield Line(event.time_ns, Weight.FAULT, "fault", faulted(event))
        elif event.f == "execute":
            yield Line(event.time_ns, weight_of(event.key, event.index), event.node or "?", executed(event, names))
        elif isinstance(event.process, str) and (event.index in accusing or event.f in ("invariant", "overrun")):
            yield Line(event.time_ns, Weight.ACCUSING, event.node or event.process, noted(event))


def _faults_and_counts(outcome: Outcome) -> Iterator[Line]:
    """Of a run in which nothing broke: each fault, and before it how the calls went that had begun since the last one."""
    calls = [call for call in calls_of(outcome.history.events) if not call.invoke.facts.get("final")]
    faults = [event for event in outcome.history.events if event.process == NEMESIS]
    at = 0
    for fault in faults:
        first = at
        shown = fault.f in FAULTS or fault.f == "healed"  # and not each of its consequences
        while shown and at < len(calls) and calls[at].began_ns < fault.time_ns:
            at += 1
        if at > first:
            yield Line(calls[first].began_ns, Weight.OWN, "clients", _how_they_went(calls[first:at]))
        if shown:
            yield Line(fault.time_ns, Weight.FAULT, "fault", faulted(fault))


def _how_they_went(calls: Sequence[Call]) -> str:
    unknown = sum(not call.is_ok and not call.is_refused for call in calls)
    refused = sum(call.is_refused for call in calls)
    parts = [f"{len(calls) - unknown - refused} answered", f"{refused} refused", f"{unknown} of unknown outcome"]
    return f"{count(len(calls), 'call')}: {', '.join(part for part in parts if not part.startswith('0 '))}"


# --- what there is room for


def _folded(lines: Iterable[Line]) -> Iterator[Line]:
    """Equal lines in a row as one."""
    last: Line | None = None
    for line in lines:
        if last is not None and (line.who, line.text, line.weight) == (last.who, last.text, last.weight):
            last = replace(last, times=last.times + 1)
            continue
        if last is not None:
            yield last
        last = line
    if last is not None:
        yield last


def _choose(lines: Sequence[Line], room: int) -> list[Line]:
    """The most telling, in order; among those of a weight the nearest to what accuses."""
    if len(lines) <= room:
        return list(lines)
    moments = [line.time_ns for line in lines if line.weight is Weight.ACCUSING]

    def importance(at: int) -> tuple[int, float, int]:
        line = lines[at]
        return line.weight, min((abs(line.time_ns - moment) for moment in moments), default=0.0), at

    return [lines[at] for at in sorted(sorted(range(len(lines)), key=importance)[:room])]


def _counted(left_out: Counter[Weight]) -> str:
    what = {Weight.FAULT: "fault", Weight.MESSAGE: "message", Weight.ANSWER: "answer"}
    counts: Counter[str] = Counter()
    for weight, number in sorted(left_out.items()):
        counts[what.get(weight, "line")] += number
    return ", ".join(count(number, name) for name, number in counts.items())
