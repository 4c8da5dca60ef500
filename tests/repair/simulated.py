"""Worlds for tests of repair: three nodes on virtual time that hand over no hints, so that only trees bring them together."""

from __future__ import annotations

from collections.abc import Callable

from kvstore.config import ClusterConfig, NamespaceConfig, NodeLimits
from kvstore.repair.anti_entropy import AntiEntropy
from kvstore.simulation.world import World

LIMITS = NodeLimits(hints_max=0, repair_interval_s=2.0)
QUIET = NodeLimits(hints_max=0, repair_interval_s=0.0)
STRICT = ClusterConfig(id="sim", partitions=8, namespaces={"default": NamespaceConfig(n=3)})


def compared(world: World, node: str) -> AntiEntropy:
    """What `node` has compared."""
    mending = world.local(node).mending
    assert mending is not None
    return mending.anti_entropy


def roots(world: World, node: str) -> list[int | None]:
    """Of every tree that `node` has to keep."""
    local = world.local(node)
    trees = [local.store.forest and local.store.forest.tree(prefix) for prefix in world.local(node).view.space("default").prefixes]
    return [tree.root if tree else None for tree in trees]


def agree(world: World) -> bool:
    """Whether all trees of all nodes are known and equal."""
    told = [roots(world, node) for node in world.running]
    return None not in told[0] and all(one == told[0] for one in told)


def held(world: World, node: str) -> int:
    """How many records `node` holds."""
    return sum(1 for _ in world.local(node).engine.scan(b"", b"\xff" * 6))


async def within(world: World, seconds: float, condition: Callable[[], bool]) -> float:
    """Waits for `condition`; after how long it held."""
    began_s = world.now_s
    while not condition():
        assert world.now_s - began_s < seconds, f"not within {seconds} s"
        await world.sleep(0.05)
    return world.now_s - began_s


async def fill(world: World, keys: range, *, client: str = "c1", value: bytes = b"v") -> None:
    """Stores these keys."""
    await world.client(client, timeout_s=3.0).put_many({f"k{number}": value for number in keys})
