"""What happened, in words: a call and what its client was told, an execution, a fault. One line each, alike in every process."""

from __future__ import annotations

from typing import Any

from kvchaos.history import CHANGES, WRITES, Call, Event
from kvchaos.simulation.names import Names

_LINKS = (("source", "target", " → "), ("left", "right", " ↔ "))


def asked(call: Call) -> str:
    """What a client asks for."""
    facts = call.invoke.facts
    said = f"{'put' if call.f == 'write' else call.f} {call.key}"
    if call.f in WRITES and "write" in facts:
        knew = ", ".join((*facts.get("knew", ()), *facts.get("meant", ())))
        said += f" {call.write} " + ("over whatever is there" if call.overwrites else f"knowing {knew or 'nothing'}")
    if call.f in CHANGES:
        said += f" {call.invoke.value}"
    if facts.get("ttl_ms"):
        said += f" for {facts['ttl_ms']} ms"
    level = facts.get("level", "preset")
    return said if level == "preset" else f"{said} at level {level}"


def told(call: Call, names: Names) -> str:
    """What the client was told, and after how long."""
    end = call.end
    if end is None:
        return "never told anything"
    took = f"after {(end.time_ns - call.began_ns) / 1e6:.1f} ms"
    if end.type != "ok":
        outcome = (
            "may have been applied" if end.type == "info" else "certainly not applied" if call.f in WRITES | CHANGES else "not read"
        )
        return f"{outcome}, {took}: {end.facts.get('error', '')}"
    by = "+".join(end.facts.get("acknowledged", ()))
    if call.f in WRITES:
        return f"acknowledged by {by} as {names.version(end.facts.get('version', ''))}, {took}"
    if call.f == "touch":
        return f"touched by {by}, {took}"
    if call.f in CHANGES:
        return f"acknowledged by {by}, {took}"
    if call.f == "view":
        return f"found {end.value['n']} and {'+'.join(end.value['s']) or 'no elements'} on {by}, {took}"
    if "siblings" not in end.facts:  # of a register
        return f"found {'nothing' if end.value is None else end.value} on {by}, {took}"
    found = ", ".join(call.siblings) or "nothing"
    return f"found {found} on {by}, {took}; has seen {names.context(end.facts.get('context', ''))}"


def executed(event: Event, names: Names) -> str:
    """Who minted what over which siblings."""
    value = event.value
    base = value["base"]
    over = "an unknown record" if base is None else ", ".join(names.write(dot) for dot in base) or "nothing"
    again = ": this version was taken already" if value.get("dot_taken") else ""
    if value.get("remembered"):
        again = f": again, it remembers {names.version(value['remembered'])}"
    return f"executes {value['write'] or 'the delete'} of {event.key} as {names.version(value['version'])} over {over}{again}"


def faulted(event: Event) -> str:
    """`crash n1+n2`, `slow n1 → n2, ms=400`."""
    rest = dict(event.value) if isinstance(event.value, dict) else {}
    where = ""
    for one, other, arrow in _LINKS:
        if one in rest and other in rest:
            where = f"{rest.pop(one)}{arrow}{rest.pop(other)}"
    for name in ("node", "nodes", "running"):
        if name in rest:
            where = _plain(rest.pop(name), "+")
    if "groups" in rest:
        where = _plain([_plain(group, "+") for group in rest.pop("groups")], " | ")
    kind = rest.pop("kind", "") if event.f == "skipped" else ""
    said = " ".join(part for part in (event.f.replace("_", " "), str(kind), where) if part)
    return ", ".join([said, *(f"{name}={_plain(value, '+')}" for name, value in rest.items())])


def noted(event: Event) -> str:
    """What a checker looked at that is neither call nor execution."""
    value = event.value
    facts = ", ".join(f"{name}={part}" for name, part in value.items()) if isinstance(value, dict) else str(value)
    return f"{event.f}: {facts}"


def count(number: int, one: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _plain(value: Any, between: str) -> str:
    return between.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
