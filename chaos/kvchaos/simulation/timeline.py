"""A failing run as a person reads it: what broke, and the few lines that led to it.

At most `LINES_MAX` lines. What accuses comes first, then faults, then what happened to the accused key (calls, executions,
messages); where there is no room the least telling goes, and a line says how many did. Versions read `n1a:5`: fifth dot of n1's
first life.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kvchaos.causality import dots_of, vector_of
from kvchaos.checkers.violations import Violation
from kvchaos.history import NEMESIS, Call, Event, calls_of
from kvchaos.simulation.run import Outcome
from kvchaos.simulation.wire import messages_of
from kvstore.simulation.loop import START_NS
from kvstore.storage.epochs import node_tag

LINES_MAX = 40
WIDTH_MAX = 200
ACCUSING, FAULT, OWN, MESSAGE, OTHER = range(5)


@dataclass(frozen=True, slots=True)
class Line:
    """One happening. The lower `weight`, the more it tells."""

    time_ns: float
    weight: int
    who: str
    text: str


def render_timeline(outcome: Outcome, *, notes: Iterable[str] = (), command: str = "") -> list[str]:
    """The lines of a run that broke something; `notes` stand below the title, `command` replays it."""
    violation = outcome.violations[0]
    schedule = outcome.schedule
    title = (
        f"seed {schedule.seed}: {schedule.nodes} nodes, n={schedule.copies} r={schedule.r} w={schedule.w}, "
        f"{schedule.clients} clients, {len(schedule.operations)} operations, {len(schedule.faults)} faults"
    )
    head = [title, *notes, f"BROKEN {violation.sentence()}"]
    others = sorted({found.promise for found in outcome.violations} - {violation.promise})
    if others:
        head.append(f"       also: {', '.join(others)}")
    foot = ["", f"again:  {command}"] if command else []
    room = LINES_MAX - len(head) - len(foot) - 2
    lines = sorted(_lines(outcome, violation), key=lambda line: (line.weight, line.time_ns))
    kept = sorted(lines[:room], key=lambda line: (line.time_ns, line.weight))
    body = [_render(line) for line in kept]
    if len(lines) > room:
        body.append(f"           … and {len(lines) - room} lines that tell less")
    return [_cut(line) for line in (*head, "", *body, *foot)]


def _cut(line: str) -> str:
    first = line.splitlines()[0] if line else ""
    return first if len(first) <= WIDTH_MAX else f"{first[: WIDTH_MAX - 1]}…"


def _render(line: Line) -> str:
    mark = ">" if line.weight == ACCUSING else " "
    return f"{mark}{line.time_ns / 1e6:9.1f} ms  {line.who:<9} {line.text}"


def _lines(outcome: Outcome, violation: Violation) -> Iterator[Line]:
    events, accusing = outcome.history.events, set(violation.events)
    keys = {violation.key} if violation.key else {event.key for event in events if event.index in accusing and event.key}
    names = _Names(events)
    for call in calls_of(events):
        told = {call.invoke.index} | ({call.end.index} if call.end is not None else set())
        own = not keys or call.key in keys
        weight = ACCUSING if told & accusing else OWN if own else OTHER
        who = "reader" if call.invoke.facts.get("final") else f"p{call.invoke.process}"
        yield Line(call.began_ns, weight, who, names.call(call))
    for event in events:
        if event.process == NEMESIS:
            yield Line(event.time_ns, FAULT, "fault", _fault(event))
        elif event.f == "execute":
            weight = ACCUSING if event.index in accusing else OWN if not keys or event.key in keys else OTHER
            yield Line(event.time_ns, weight, event.node or "?", names.execution(event))
        elif isinstance(event.process, str) and (event.index in accusing or event.f in ("invariant", "overrun")):
            yield Line(event.time_ns, ACCUSING, event.node or str(event.process), f"{event.f}: {event.value}")
    healed_ns = min((event.time_ns for event in events if event.f == "healed"), default=float("inf"))
    for message in messages_of(outcome.events):
        if message.keys & keys:
            late = f" (arrives after {(message.arrives_ns - message.at_ns) / 1e6:.1f} ms)"
            at_ns = message.at_ns - START_NS
            who = f"{message.source} > {message.target}"
            yield Line(at_ns, MESSAGE if at_ns < healed_ns else OTHER, who, message.text + late)


def _fault(event: Event) -> str:
    arguments = event.value if isinstance(event.value, dict) else {}
    return " ".join([event.f, *(f"{name}={_plain(value)}" for name, value in arguments.items())])


def _plain(value: Any) -> str:
    return "+".join(map(_plain, value)) if isinstance(value, list) else str(value)


class _Names:
    """Short names for versions, and sentences that use them."""

    def __init__(self, events: Iterable[Event]) -> None:
        nodes = {node_tag(f"n{number}").hex(): f"n{number}" for number in range(1, 32)}
        self._actors: dict[str, str] = {}
        self._writes: dict[str, str] = {}
        lives: dict[str, int] = {}
        for event in events:
            if event.f == "execute":
                version = event.value["version"]
                actor = version[:24]
                node = nodes.get(actor[:8], "?")
                if actor not in self._actors:
                    self._actors[actor] = f"{node}{chr(ord('a') + lives.get(node, 0) % 26)}"
                    lives[node] = lives.get(node, 0) + 1
                self._writes[version] = event.value["write"] or "a delete"

    def version(self, version: str) -> str:
        """`n1a:5`."""
        return f"{self._actors.get(version[:24], '?')}:{int(version[24:] or '0', 16)}"

    def context(self, token: str) -> str:
        """What a token has seen."""
        rows = [f"{self._actors.get(actor, '?')}:{counter}" for actor, counter in sorted(vector_of(token).items())]
        return " ".join([*rows, *(f"+{self.version(dot)}" for dot in dots_of(token))]) or "nothing"

    def call(self, call: Call) -> str:
        """A call and how it ended."""
        facts, end = call.invoke.facts, call.end
        what = f"{call.f} {call.key}"
        if "write" in facts:
            knew = ", ".join((*facts.get("knew", ()), *facts.get("meant", ())))
            what += f" {call.write} " + ("overwriting" if call.overwrites else f"knowing {knew or 'nothing'}")
        level = facts.get("level", "preset")
        asked = "" if level == "preset" else f" at {level}"
        if end is None:
            return f"{what}{asked}, never ended"
        took = f"after {(end.time_ns - call.began_ns) / 1e6:.1f} ms"
        if end.type != "ok":
            return f"{what}{asked}: {'unknown' if end.type == 'info' else 'refused'} {took}: {end.facts.get('error', '')}"
        by = "+".join(end.facts.get("acknowledged", ()))
        if call.f == "read":
            found = ", ".join(call.siblings) or "nothing"
            return f"{what}{asked}: found {found} {took}, from {by}; has seen {self.context(end.facts.get('context', ''))}"
        return f"{what}{asked}: ok {took} as {self.version(end.facts.get('version', ''))}, on {by}"

    def execution(self, event: Event) -> str:
        """Who minted what over which siblings."""
        value = event.value
        base = value["base"]
        over = "an unknown record" if base is None else ", ".join(self._writes.get(dot, "?") for dot in base) or "nothing"
        extra = " AGAIN: the dot was taken" if value.get("dot_taken") else ""
        if value.get("remembered"):
            extra = f" AGAIN: it remembered {self.version(value['remembered'])}"
        return f"executes {value['write'] or 'a delete'} of {event.key} as {self.version(value['version'])} over {over}{extra}"
