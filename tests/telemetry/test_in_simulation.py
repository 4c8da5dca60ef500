"""Simulated nodes count as real ones do, in virtual seconds, and serve no http."""

from __future__ import annotations

from kvproto.columns import Kind
from kvstore.simulation.world import World


def test_a_simulated_cluster_counts_what_its_client_asked() -> None:
    async def scenario(world: World) -> tuple[int, float, int]:
        await world.start()
        client = world.client("c1")
        for number in range(20):
            await client.put(f"k{number}", b"v")
            await client.get(f"k{number}")
        counted, seconds, commits = 0, 0.0, 0
        for machine in world.machines.values():
            assert machine.node is not None and machine.node.local is not None and machine.node.parts.http is None
            told = machine.node.local.telemetry
            assert told.requests is not None and told.commits is not None
            for kind in (Kind.PUT, Kind.GET):
                for meter in told.requests.operations[kind]:
                    counted += meter.ok
                    seconds += meter.durations.total
            commits += told.commits.sizes.count
        return counted, seconds, commits

    counted, seconds, commits = World(1).run(scenario)
    assert counted == 40 and commits > 20
    assert 0 < seconds < 40
    assert World(1).run(scenario) == (counted, seconds, commits), "the same seed counts the same"
