"""What the nodes of a world think of each other, as facts of its history: the incarnation of each life, opinions at rest."""

from __future__ import annotations

from kvchaos.history import Recorder
from kvstore.simulation.world import World

BOUND_MS = 60_000
"""From the heal until everybody is there to everybody. The dead are asked one an interval, and intervals grow up to eightfold with
a detector's doubt of itself: tens of seconds at the timing of a data centre."""

LOOK_S = 0.5
PRESENT = ("alive", "slow")


def note_incarnations(world: World, recorder: Recorder, *names: str) -> None:
    """Records the incarnation that each of `names` (all that run) uses, if it does by now, with the number of its life."""
    for name in names or world.running:
        detection = world.node(name).parts.detection if name in world.running else None
        if detection is not None and detection.is_running:
            value = {"life": world.machines[name].lives, "incarnation": detection.incarnation}
            recorder.note("world", "info", "incarnation", value=value, node=name)


async def agree(world: World, recorder: Recorder) -> None:
    """Waits until every node that runs takes every other one for present, at most `BOUND_MS`, and records what was found."""
    began_s = world.now_s
    while (doubted := _doubted(world)) and world.now_s - began_s <= BOUND_MS / 1000:
        await world.sleep(LOOK_S)
    note_incarnations(world, recorder)
    value = {"after_ms": round((world.now_s - began_s) * 1000), "bound_ms": BOUND_MS, "doubted": doubted}
    recorder.note("world", "info", "opinions", value=value)


def _doubted(world: World) -> list[list[str]]:
    """(node, whom it doubts, what it takes it for), of those that run."""
    found: list[list[str]] = []
    for name in world.running:
        detection = world.node(name).parts.detection
        opinions = detection.describe() if detection is not None else ()
        found += [[name, one.id, one.state] for one in opinions if one.id in world.running and one.state not in PRESENT]
    return found
