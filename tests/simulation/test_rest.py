"""What is looked for when a simulated schedule is over: the work of a node that goes on, longer than any question of its own."""

from __future__ import annotations

import asyncio

import pytest

from kvchaos.checkers.resources import check_resources
from kvchaos.history import Recorder
from kvchaos.simulation.rest import OWN_QUESTION_S, Rest
from kvchaos.simulation.schedule import Schedule
from kvproto.errors import KvError
from kvstore.simulation.world import World


@pytest.mark.parametrize(("timeout_s", "is_left"), [(1.0, False), (2 * OWN_QUESTION_S, True)])
def test_bug_a_question_of_a_nodes_own_was_taken_for_work_that_outlives_its_deadline(timeout_s: float, is_left: bool) -> None:
    """Seed 142092 of `registers`: just then the node read the list of namespaces again, as it does once a minute."""

    async def scenario(world: World) -> None:
        await world.start()
        recorder = Recorder(lambda: round(world.now_s * 1e9))
        rest = Rest(world, Schedule(seed=1), recorder, nobody_to_revive)
        for node in world.running:
            world.disk(node).slow_ms = 3000 * OWN_QUESTION_S
        writing = world.spawn("c1", write(world, timeout_s))
        await world.sleep(0.1)
        assert sum(world.local(node).coordinator.in_flight for node in world.running) == 1
        await rest.note_resources()
        assert bool(check_resources(recorder.history.events)) is is_left
        await writing

    World(1).run(scenario)


def test_bug_a_node_that_was_killed_while_it_was_looked_at_broke_the_run_off() -> None:
    """Seed 400699 of the swarm: a node was to be killed at a step of a job, and came to it when the schedule was over."""

    async def scenario(world: World) -> None:
        await world.start()
        recorder = Recorder(lambda: round(world.now_s * 1e9))
        rest = Rest(world, Schedule(seed=1), recorder, nobody_to_revive)
        for node in world.running:
            world.disk(node).slow_ms = 3000 * OWN_QUESTION_S
        writing = world.spawn("c1", write(world, 1.0))
        await world.sleep(0.1)
        busy = next(node for node in world.running if world.local(node).coordinator.in_flight)
        noting = world.loop.main.spawn(rest.note_resources())
        await world.sleep(0.3)
        world.crash(busy)
        await noting
        assert busy not in [event.node for event in recorder.history.events]
        await writing

    World(1).run(scenario)


async def write(world: World, timeout_s: float) -> None:
    try:
        await world.client("c1").put("k", b"v", timeout_s=timeout_s)
    except KvError:
        return  # no disk is fast enough


async def nobody_to_revive() -> None:
    await asyncio.sleep(0)
