"""A flood on virtual time: the real nodes and clients, disks that are slow, one client that asks for far too much."""

from __future__ import annotations

from kvclient import AsyncClient, QuotaExceeded
from kvproto.errors import KvError, Overloaded
from kvstore.config import ClusterConfig, NamespaceConfig, NodeLimits
from kvstore.simulation.world import World

VALUE = b"x" * 2000
LIMITS = NodeLimits(in_flight_bytes_max=8 << 20, in_flight_max=4096, connections_max=64, latency_target_ms=200)
"""Small, so that a flood is one with operations that a test can afford."""


async def flood(world: World, client: AsyncClient, told: dict[str, int], until_s: float) -> None:
    """Begins far more single writes than there is room for, whatever becomes of those before."""

    async def one(number: int) -> None:
        try:
            await client.put(f"greedy-{number % 500}", VALUE, timeout_s=1.0)
            told["ok"] = told.get("ok", 0) + 1
        except KvError as error:
            told[error.code.name] = told.get(error.code.name, 0) + 1

    number = 0
    tasks = []
    while world.now_s < until_s:
        for _ in range(150):
            tasks.append(world.spawn("greedy", one(number)))
            number += 1
        await world.sleep(0.1)
    for task in tasks:
        await task


async def modest(world: World, client: AsyncClient, acknowledged: dict[str, bytes], until_s: float) -> tuple[int, int]:
    """A tenth of that and less: one write every 100 ms. How many succeeded, and of how many."""
    number = ok = 0
    while world.now_s < until_s:
        key, value = f"modest-{number % 20}", b"%d" % number
        number += 1
        try:
            await client.put(key, value, timeout_s=2.0)
        except KvError:
            acknowledged.pop(key, None)  # unknown, perhaps: nothing is promised of this key until it is written again
        else:
            acknowledged[key] = value
            ok += 1
        await world.sleep(0.1)
    return ok, number


def test_a_flood_of_one_client_leaves_another_its_share_and_loses_nothing() -> None:
    """safety: what was acknowledged in the flood is there after it. bounds: the other one has at least nine of ten."""

    async def scenario(world: World) -> tuple[int, int, dict[str, int], int]:
        await world.start()
        for node in world.running:
            world.disk(node).slow_ms = 120
        greedy, other = world.client("greedy", timeout_s=1.0), world.client("modest", timeout_s=2.0)
        await greedy.put("warm", b"")
        await other.put("warm", b"")
        told: dict[str, int] = {}
        acknowledged: dict[str, bytes] = {}
        until_s = world.now_s + 8.0
        flooding = world.spawn("greedy", flood(world, greedy, told, until_s))
        ok, of = await modest(world, other, acknowledged, until_s)
        await flooding
        for node in world.running:
            world.disk(node).slow_ms = 0
        await world.sleep(2)
        for key, value in acknowledged.items():
            assert (await other.get(key, level="all")).value == value
        world.check()
        limits = [world.local(node).serving.intake.limit for node in world.running]
        assert all(limit.limit < LIMITS.in_flight_max for limit in limits)
        return ok, of, told, sum(world.local(node).serving.intake.operations for node in world.running)

    ok, of, told, under_way = World(1, limits=LIMITS).run(scenario)
    assert of >= 10 and ok >= 0.9 * of, (ok, of, told)
    assert told["ok"] > 0 and under_way == 0


def test_a_flood_is_the_same_in_every_run() -> None:
    async def scenario(world: World) -> dict[str, int]:
        await world.start()
        world.disk("n1").slow_ms = 200
        told: dict[str, int] = {}
        await flood(world, world.client("greedy", timeout_s=1.0), told, world.now_s + 2.0)
        return told

    worlds = [World(7, nodes=1, limits=LIMITS) for _ in range(2)]
    assert worlds[0].run(scenario) == worlds[1].run(scenario)
    assert worlds[0].events.digest == worlds[1].events.digest


def test_a_namespace_gets_what_its_quota_says_and_others_are_not_touched() -> None:
    """300 operations a second for three nodes are granted as 100 at each. Who asks for more is told by name, and when to come."""
    limited = NamespaceConfig(id=2, name="limited", quota_operations_per_s=300)
    cluster = ClusterConfig(id="sim", partitions=64, namespaces={"default": NamespaceConfig(), "limited": limited})

    async def scenario(world: World) -> tuple[int, list[KvError]]:
        await world.start()
        client = world.client("c1", timeout_s=0.3)
        space, ok, errors = client.namespace("limited"), 0, list[KvError]()

        async def put(number: int) -> None:
            nonlocal ok
            try:
                await space.put(f"k{number}", b"v")
                ok += 1
            except KvError as error:
                errors.append(error)

        for second in range(20):
            tasks = [world.spawn("c1", put(second * 200 + at)) for at in range(200)]
            await world.sleep(0.5)
            for task in tasks:
                await task
            assert (await client.put(f"free-{second}", b"v")).receipt.durable
        return ok, errors

    ok, errors = World(3, cluster=cluster).run(scenario)
    assert 0.6 * 300 * 10 <= ok <= 1.3 * 300 * 11
    refused = [error for error in errors if isinstance(error, QuotaExceeded)]
    assert refused and all(error.retry_after_s > 0 for error in refused) and issubclass(QuotaExceeded, Overloaded)
    assert {(error.subject, error.limit) for error in refused} == {("limited", 300)}
    assert "quota_operations_per_s" in refused[0].message and not any(error.may_have_applied for error in refused)


def test_quotas_are_shared_by_the_nodes_that_are_left_and_a_side_of_a_split_grants_no_more_than_all() -> None:
    """1. Three nodes grant a third each. 2. One is gone: the others grant half each. 3. It is back, and cut off: it grants all on
    its side, the others half each on theirs. 4. Healed: a third each."""
    limited = NamespaceConfig(id=2, name="limited", quota_operations_per_s=300, quota_bytes_per_s=6000)
    cluster = ClusterConfig(id="sim", partitions=64, namespaces={"default": NamespaceConfig(), "limited": limited})

    async def parts(world: World, wanted: dict[str, float]) -> None:
        def now() -> dict[str, float]:
            found = {}
            for name in world.running:
                quota = world.local(name).serving.quotas.of["limited"]
                quota.share()
                assert quota.buckets["bytes"].rate == 20 * quota.buckets["operations"].rate
                found[name] = quota.buckets["operations"].rate
            return found

        until_s = world.now_s + 60.0
        while now() != wanted:
            assert world.now_s < until_s, now()
            await world.sleep(0.1)

    async def scenario(world: World) -> None:
        await world.start()
        await parts(world, dict.fromkeys(("n1", "n2", "n3"), 100.0))
        world.crash("n3")
        await parts(world, {"n1": 150.0, "n2": 150.0})
        await world.restart("n3")
        await parts(world, dict.fromkeys(("n1", "n2", "n3"), 100.0))
        world.isolate("n3")
        await parts(world, {"n1": 150.0, "n2": 150.0, "n3": 300.0})
        world.heal_all()
        await parts(world, dict.fromkeys(("n1", "n2", "n3"), 100.0))

    World(5, cluster=cluster).run(scenario)
