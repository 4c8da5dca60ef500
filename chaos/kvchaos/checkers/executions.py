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


def check_executions(events: Iterable[Event]) -> list[Violation]:
    """Every execution that reused a dot, or a request id that it could have known."""
    violations = []
    for event in events:
        if event.f != "execute":
            continue
        name, version = event.value["write"] or "a delete", event.value["version"]
        if event.value.get("dot_taken"):
            violations.append(Violation(DOTS, event.key or "", f"{event.node} minted {version} again, for {name}", (event.index,)))
        if event.value.get("remembered"):
            text = f"{event.node} executed {name} as {version}, though its record remembered it as {event.value['remembered']}"
            violations.append(Violation(RETRIES, event.key or "", text, (event.index,)))
    return violations
