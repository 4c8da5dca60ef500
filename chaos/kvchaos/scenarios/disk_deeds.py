"""F11 and F18: a disk that loses what was not synced, and one that changes what was written.

Damage is made where it must be met: in records that lie on the disk alone, which are then read. What was read is compared with what
was written, and a start over what cannot be read has to be refused.
"""

from __future__ import annotations

import asyncio

from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.processes import RestartFailed
from kvchaos.scenarios.scenario import PromiseBroken
from kvproto.errors import KvError

VICTIM = "n1"
COLD_KEYS = 200
COLD_BYTES = 400
"""Several of LevelDB's blocks on each node."""
MET_TIMEOUT_S = 20.0
NOTICED = "record_quarantined"
"""What a node writes to its log when it meets a record that it cannot read (docs/telemetry.md)."""
REFUSED = "damaged"


async def cut_power(cluster: ProxiedCluster) -> None:
    """n1 loses its power."""
    await cluster.plane.cut_power(VICTIM)
    await cluster.plane.verify()


async def cut_power_of_the_others(cluster: ProxiedCluster) -> None:
    """Then all others lose theirs at one moment, before n1 could fetch anything; and all come back on what was synced."""
    await cluster.plane.cut_power(*(node for node in cluster.node_ids if node != VICTIM))
    await cluster.plane.restart(*cluster.node_ids)
    await cluster.plane.verify()


async def flip_under_a_running_node(cluster: ProxiedCluster) -> None:
    """A bit in every block of records that n1 has in tables; returns when it has met one and said so. What is read is right."""
    async with cluster.client(timeout_s=10.0) as client:
        written = {f"cold/{number}": _cold(number) for number in range(COLD_KEYS)}
        await asyncio.gather(*(client.put(key, value, level="all") for key, value in written.items()))
    await cluster.plane.restart(VICTIM)  # on opening LevelDB makes a table of what was in its log
    await cluster.plane.verify()
    await cluster.plane.flip(VICTIM, "tables")
    await _meet(cluster)
    await cluster.plane.verify()


async def damage_and_replace(cluster: ProxiedCluster) -> None:
    """n1 does not start over a flipped bit in its log, nor over half a table; its disk is replaced, and filled by the others."""
    await cluster.plane.kill(VICTIM)
    await cluster.plane.flip(VICTIM, "log")
    await _must_refuse(cluster, "a flipped bit in its log")
    await cluster.plane.flip(VICTIM, "log")  # back again: the next refusal has a reason of its own
    await cluster.plane.shorten(VICTIM)
    await _must_refuse(cluster, "half a table")
    await cluster.plane.wipe(VICTIM)
    await cluster.plane.restart(VICTIM)
    await cluster.plane.heal()
    await cluster.plane.verify()
    await _read_cold(cluster)


async def _meet(cluster: ProxiedCluster) -> None:
    """Reads what was written until n1 has met what is damaged."""
    try:
        async with asyncio.timeout(MET_TIMEOUT_S):
            while NOTICED not in cluster.nodes.said(VICTIM):
                await _read_cold(cluster)
    except TimeoutError:
        raise InjectorFailure(f"{VICTIM} has met none of its damaged records within {MET_TIMEOUT_S:g} s of reading") from None


async def _read_cold(cluster: ProxiedCluster) -> None:
    """Raises `PromiseBroken` for a value that is not what was written, or that cannot be had."""
    async with cluster.client(timeout_s=10.0) as client:

        async def read(number: int) -> None:
            try:
                found = list((await client.get(f"cold/{number}")).values)
            except KvError as error:
                raise PromiseBroken(f"cold/{number} cannot be read while one disk of three is damaged: {error}") from error
            if found != [_cold(number)]:
                raise PromiseBroken(f"cold/{number} was read as {found!r:.80}, which nobody wrote")

        await asyncio.gather(*map(read, range(COLD_KEYS)))


async def _must_refuse(cluster: ProxiedCluster, what: str) -> None:
    try:
        await cluster.plane.restart(VICTIM)
    except RestartFailed as refusal:
        if REFUSED not in str(refusal):
            raise
        return
    raise PromiseBroken(f"{VICTIM} started over {what}")


def _cold(number: int) -> bytes:
    return f"w-cold-{number} ".encode().ljust(COLD_BYTES, b"%d" % (number % 10))
