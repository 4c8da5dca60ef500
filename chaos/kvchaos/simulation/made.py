"""What the nodes of a world go by of the namespaces made at run time, as facts of its history, once all has come to rest."""

from __future__ import annotations

from typing import Any

from kvchaos.history import Recorder
from kvchaos.namespace_performer import NamespacePerformer
from kvchaos.simulation.rest import PROBE, READER
from kvproto.errors import KvError
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.catalog.encoding import decode_catalog
from kvstore.simulation.world import World
from kvstore.storage.dropped_ids import DroppedIds
from kvstore.storage.layout import SYSTEM_PREFIX, split_store_key
from kvstore.storage.trees import held_prefixes

BOUND_S = 120.0
"""A version that nobody spread is found when somebody reads the register of himself, which takes over a minute."""
LOOK_S = 0.5
ASK_TIMEOUT_S = 2.0


async def agree_on_namespaces(world: World, recorder: Recorder) -> None:
    """Waits until every node goes by the same version and has erased what it names as dropped, at most `BOUND_S`; records what each
    goes by, and reads what is live once more."""
    began_s = world.now_s
    committed = await _committed(world)
    while not _agreed(world, committed) and world.now_s - began_s < BOUND_S:
        await world.sleep(LOOK_S)
        committed = await _committed(world)
    for name in world.running:
        value = {**_told(world.local(name).view.catalog), "left": _left(world, name)}
        recorder.note("world", "info", "catalog", value=value, node=name)
    recorder.note("world", "info", "catalog", value={**_told(committed), "left": []}, node="the register")
    names = sorted(world.local(world.running[0]).view.catalog.live) if world.running else []
    performer = NamespacePerformer(world.client(PROBE), recorder, READER, numbers=1, timeout_ms=5000, final=True)

    async def read_all() -> None:
        for name in names:
            await performer.read(name)

    await world.spawn(PROBE, read_all())


async def _committed(world: World) -> Catalog:
    """What the register holds, without telling any node; the first version while nobody can tell."""
    name = world.running[0]
    register = world.local(name).namespaces.register
    try:
        _, value = await world.spawn(name, register.read(ASK_TIMEOUT_S))
    except KvError:
        return Catalog()
    return decode_catalog(value)


def _told(catalog: Catalog) -> dict[str, Any]:
    live = {one: [entry.id, entry.settings.preset] for one, entry in sorted(catalog.live.items())}
    return {"revision": catalog.revision, "next_id": catalog.next_id, "live": live}


def _agreed(world: World, committed: Catalog) -> bool:
    locals_ = [world.local(name) for name in world.running]
    return all(local.view.catalog == committed and local.namespaces.dropped.is_over for local in locals_)


def _left(world: World, name: str) -> list[str]:
    local: Any = world.local(name)
    dropped = DroppedIds(local.view.catalog)
    found = {split_store_key(prefix)[1] for prefix in held_prefixes(local.engine) if dropped.is_of(prefix)}
    assert all(not prefix.startswith(SYSTEM_PREFIX) for prefix in held_prefixes(local.engine))
    return [f"records of id {number:#x}" for number in sorted(found)]
