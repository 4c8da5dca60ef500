"""A scenario with everything in it, for the tests of determinism: `python -m tests.simulation.scenarios SEED…` prints digests."""

from __future__ import annotations

import sys

from kvproto.errors import KvError
from kvstore.simulation.world import World


async def everything(world: World) -> None:
    """Two clients write, read and scan while links, nodes and disks fail."""
    await world.start()
    ended: list[object] = []

    async def work(name: str) -> None:
        client, draw = world.client(name, timeout_s=0.8), world.random(name)
        for number in range(25):
            key = f"k{draw.randrange(4)}"
            try:
                if draw.random() < 0.6:
                    await client.put_many({key: b"%d" % number, "other": b""})
                else:
                    ended.append((await client.get(key)).values)
                    ended.extend([entry.key async for entry in client.scan()])
            except KvError as error:
                ended.append(error.code)
            await world.sleep(draw.random() / 5)

    tasks = [world.spawn(name, work(name)) for name in ("c1", "c2")]
    world.set_link("n2", "n3", loss=0.1)
    await world.sleep(0.5)
    world.partition(["n1", "c1"], ["n2", "n3", "c2"])
    await world.sleep(0.7)
    world.heal_all()
    world.crash("n3", silent=True)
    world.stall("n1", "n2")
    await world.sleep(1.0)
    world.heal_all()
    await world.restart("n3", linked=False)
    world.pause("n1")
    world.disk("n2").slow_ms = 30
    await world.sleep(1.0)
    world.heal_all()
    world.reset("c1", "n1")
    for task in tasks:
        await task
    world.event("ended", told=ended)


def digest_of(seed: int) -> str:
    """The digest of a run of `everything`."""
    world = World(seed)
    world.run(everything)
    return world.events.digest


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        print(seed, digest_of(seed))
