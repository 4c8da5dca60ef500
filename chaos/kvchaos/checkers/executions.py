"""What the disks showed: a dot names one execution for ever, and whoever remembers a write does not execute it again. Pure.

Facts `execute` (see kvchaos.causality) carry for this `dot_taken` (another execution had the version before) and `remembered` (the
record it was minted on knew the write's request id). Only a simulation that watches every disk can tell them.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.checkers.violations import Violation
from kvchaos.history import Event

DOTS = "a dot is minted once"
RETRIES = "a write that is remembered is not executed again"
LATE = "what was on its way for longer than the retry window is not executed"
SLACK_MS = 500
"""How long a disk may take to show what was executed."""


def check_executions(events: Iterable[Event], *, window_ms: int = 0) -> list[Violation]:
    """Every execution that reused a dot, or a request id that it could have known; and, where a retry window is given, those of ids
    that are older than two of it: where a node has to compare wall clocks (docs/adr/0015) it is wrong by one at most."""
    violations = []
    executed = [event for event in events if event.f == "execute"]
    for event, age_ms in _ages_ms(executed) if window_ms else ():
        if age_ms > 2 * window_ms + SLACK_MS:
            name = event.value["write"] or "a delete"
            text = f"{event.node} executed {name} {age_ms:.0f} ms after it was asked for, the window is {window_ms} ms"
            violations.append(Violation(LATE, event.key or "", text, (event.index,)))
    for event in executed:
        name, version = event.value["write"] or "a delete", event.value["version"]
        if event.value.get("dot_taken"):
            violations.append(Violation(DOTS, event.key or "", f"{event.node} minted {version} again, for {name}", (event.index,)))
        if event.value.get("remembered"):
            text = f"{event.node} executed {name} as {version}, though its record remembered it as {event.value['remembered']}"
            violations.append(Violation(RETRIES, event.key or "", text, (event.index,)))
    return violations


def _ages_ms(executed: Iterable[Event]) -> list[tuple[Event, float]]:
    """How old each execution's request id was, against the promptest of the same client: its clock has an origin of its own."""
    rows = []
    least: dict[str, float] = {}
    for event in executed:
        request = str(event.value.get("request") or "")
        if not request.strip("0"):
            continue
        client, apart_ms = request[12:24], event.time_ns / 1e6 - int(request[:12], 16)
        least[client] = min(least.get(client, apart_ms), apart_ms)
        rows.append((event, client, apart_ms))
    return [(event, apart_ms - least[client]) for event, client, apart_ms in rows]
