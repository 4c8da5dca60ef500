"""The scenarios there are, by name, and what each kind of them promises. `scenario` adds one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvchaos.simulation.generate import generate, promises_for
from kvchaos.simulation.schedule import GRACE_MS, Schedule

Scenario = Callable[[int], Schedule]

FORGOTTEN = frozenset({"siblings", "reads", "answers", "strict", "whole", "accumulated"})
"""Promises that are judged by what the state at rest has seen, which is forgotten with tombstones; "ended" is asserted instead."""


def over_frames(schedule: Schedule) -> Schedule:
    """`schedule` as drawn from its seed, three of four with frames between nodes. No draw: that would change all others."""
    return replace(schedule, frames=bool(schedule.seed % 4))


SCENARIOS: dict[str, Scenario] = {"swarm": lambda seed: over_frames(generate(seed))}
DESCRIPTIONS = {"swarm": "Each seed draws which kinds of faults and operations exist at all, then how many and when."}


KEPT_BY_SIBLINGS = frozenset({"siblings", "reads", "strict", "whole", "accumulated"})
"""Promises that lww does not give: it loses concurrent writes, by name."""


OF_REGISTERS = ("membership", "resources", "linearizable")
"""What a linearizable namespace promises."""


OF_TIMELINES = ("membership", "resources", "timeline")
"""What one promises whose replicas answer alone."""


OF_NAMESPACES = ("membership", "resources", "namespaces")
"""What is promised of namespaces made at run time, whatever is in them."""


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """Registers a scenario."""

    def register(draw: Scenario) -> Scenario:
        def named(seed: int) -> Schedule:
            schedule = draw(seed)
            promised = OF_REGISTERS if schedule.has_registers else promises_for(schedule.faults)
            if schedule.preset == "pc-el" or any(one.level == "timeline" for one in schedule.operations):
                promised = OF_TIMELINES
            if schedule.makes_namespaces:
                promised = OF_NAMESPACES
            if schedule.policy == "lww":  # of two writes at once the earlier ends, whatever it was told
                kept = [promise for promise in promised if promise not in KEPT_BY_SIBLINGS]
                promised = tuple("stays_ended" if promise == "ended" else promise for promise in kept)
            if schedule.grace_ms < GRACE_MS and not schedule.has_registers:
                promised = tuple(promise for promise in promised if promise not in FORGOTTEN)
            further = tuple(promise for promise in schedule.promises if promise == "served")  # what a scenario says for itself
            if schedule.sessions:  # one value has a place in an order that its writes follow too
                further += ("sessions",) if schedule.has_registers else ("session_reads",)
            if schedule.zones:
                further += ("zone",)
            if any(one.level == "atomic" for one in schedule.operations):
                further += ("atomic",)
            return over_frames(replace(schedule, scenario=name, promises=(*promised, *further)))

        SCENARIOS[name] = named
        DESCRIPTIONS[name] = " ".join((draw.__doc__ or "").split())
        return draw

    return register


HARMLESS = ("cut", "partition", "isolate", "stall", "mute", "reset", "crash", "pause", "slow_disk")
"""Faults that take no copies away."""

OF_ACCEPTORS = (*HARMLESS, "power", "stop", "slow", "lossy", "wipe", "failing_disk", "flip", "skew", "epoch")
"""Everything but a disk that is put back to an older copy, of which an acceptor need not know."""
