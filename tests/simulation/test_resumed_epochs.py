"""When a node that was stopped cleanly goes on under the name under which it minted before (safety rule 2)."""

from __future__ import annotations

from kvstore.simulation.world import World


async def write(world: World, count: int) -> None:
    """Some dots of n1, and of others."""
    client = world.client("c1", timeout_s=5.0)
    for number in range(count):
        await client.put(f"k{number}", b"v", level="quorum")


def test_a_clean_stop_is_gone_on_from_when_all_peers_say_that_nothing_came_after_it() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        await write(world, 20)
        actor = world.local("n1").ledger.actor
        await world.stop("n1")
        await world.restart("n1")
        assert world.local("n1").ledger.actor == actor

    World(1).run(scenario)


def test_bug_an_older_copy_of_a_clean_stop_was_gone_on_from_while_the_one_who_knew_better_was_away() -> None:
    """1. n1 is stopped cleanly while n3 is cut off, and its directory copied. 2. It goes on, and only n2 is told of its next lease.
    3. n2 stands still, n3 is back, and n1 starts from the copy: n3 remembers what the copy says, and nobody remembers more. 4. What
    it minted since, it minted again (seed 401559 of the swarm: a write that was acknowledged was lost)."""

    async def scenario(world: World) -> None:
        await world.start()
        await write(world, 20)
        actor = world.local("n1").ledger.actor
        world.partition(["n1", "n2"], ["n3"])
        await world.stop("n1")
        copy = world.backup("n1")
        await world.restart("n1", linked=False)
        await write(world, 20)
        world.crash("n1")
        world.restore("n1", copy)
        world.heal_all()
        world.pause("n2")
        await world.restart("n1", linked=False)
        assert world.local("n1").ledger.actor != actor
        world.resume("n2")

    World(1).run(scenario)
