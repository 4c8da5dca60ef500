"""The faults, by their numbers in docs/chaos.md, each with what is promised under it in every cell."""

from __future__ import annotations

import asyncio

from kvchaos.faults.link_state import Direction, Kind, Link
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.scenarios.cells import DEGRADED, HANG, MAY, REFUSE, Cell, Expect
from kvchaos.scenarios.disk_deeds import cut_power, cut_power_of_the_others, damage_and_replace, flip_under_a_running_node
from kvchaos.scenarios.scenario import FAR, NEAR, Deed, Scenario, nothing

SLOW_MS = 200
FLAPS = 6
FLAP_S = 1.0
SKEW_S = 60
GRACE_S = 20
VICTIM = "n1"


async def heal(cluster: ProxiedCluster) -> None:
    """Every link and every paused node."""
    await cluster.plane.heal()
    await cluster.plane.verify()


def split(kind: Kind = Kind.BLACKHOLE) -> Deed:
    """n1 and the clients near it on one side, all others on the other."""

    async def inject(cluster: ProxiedCluster) -> None:
        others = [node for node in cluster.node_ids if node != VICTIM]
        await cluster.plane.partition([[VICTIM, NEAR], [*others, FAR]], kind=kind)
        await cluster.plane.verify()

    return inject


async def isolate(cluster: ProxiedCluster) -> None:
    """n1 sees no other node; all clients see all."""
    await cluster.plane.isolate(VICTIM)
    await cluster.plane.verify()


def lossy(direction: Direction) -> Deed:
    """What n1 asks n2, or what n2 answers it, is lost."""

    async def inject(cluster: ProxiedCluster) -> None:
        await cluster.plane.cut(Link(VICTIM, "n2"), direction=direction)
        await cluster.plane.verify()

    return inject


async def pause(cluster: ProxiedCluster) -> None:
    """SIGSTOP of n1."""
    await cluster.plane.pause(VICTIM)
    await cluster.plane.verify()


async def pause_the_only_coordinator(cluster: ProxiedCluster) -> None:
    """SIGSTOP of n1, which is the only node that the clients near it reach; those far away reach all."""
    await cluster.plane.cut(*(Link(NEAR, node) for node in cluster.node_ids if node != VICTIM), kind=Kind.REFUSE)
    await cluster.plane.verify()
    await cluster.plane.pause(VICTIM)
    await cluster.plane.verify()


async def kill(cluster: ProxiedCluster) -> None:
    """SIGKILL of n1."""
    await cluster.plane.kill(VICTIM)
    await cluster.plane.verify()


async def restart(cluster: ProxiedCluster) -> None:
    """n1 again, on what it has."""
    await cluster.plane.restart(VICTIM)
    await cluster.plane.heal()
    await cluster.plane.verify()


async def wipe(cluster: ProxiedCluster) -> None:
    """n1 without its disk."""
    await cluster.plane.wipe(VICTIM)
    await cluster.plane.verify()


async def slow(cluster: ProxiedCluster) -> None:
    """Every way to and from n1 takes longer, for nodes."""
    for other in cluster.node_ids:
        if other != VICTIM:
            await cluster.plane.delay(Link(VICTIM, other), SLOW_MS)
            await cluster.plane.delay(Link(other, VICTIM), SLOW_MS)
    await cluster.plane.verify()


async def flap(cluster: ProxiedCluster) -> None:
    """The split comes and goes, and is there at the end."""
    for _ in range(FLAPS):
        others = [node for node in cluster.node_ids if node != VICTIM]
        await cluster.plane.partition([[VICTIM, NEAR], [*others, FAR]])
        await asyncio.sleep(FLAP_S)
        await cluster.plane.heal(unseen_ok=True)
        await asyncio.sleep(FLAP_S)
    await split()(cluster)


async def storm(cluster: ProxiedCluster) -> None:
    """Every connection between nodes is reset as soon as something is sent on it, for a while."""
    for link in cluster.links():
        await cluster.plane.reset(link)
    await cluster.plane.verify()


async def bridge(cluster: ProxiedCluster) -> None:
    """n2 and n3 do not see each other; n1 sees both."""
    await cluster.plane.bridge(VICTIM)
    await cluster.plane.verify()


async def split_of_five(cluster: ProxiedCluster) -> None:
    """Two nodes on one side and three on the other: of a key all, some or none of the home replicas are on each."""
    first, second, *others = cluster.node_ids
    await cluster.plane.partition([[first, second, NEAR], [*others, FAR]])
    await cluster.plane.verify()


async def skew(cluster: ProxiedCluster) -> None:
    """The clock of n1 jumps ahead, that of n2 back."""
    await cluster.plane.skew(VICTIM, SKEW_S)
    await cluster.plane.skew("n2", -SKEW_S)
    await cluster.plane.verify()


async def restart_all(cluster: ProxiedCluster) -> None:
    """SIGKILL of all at one moment, and all of them again."""
    await cluster.plane.kill(*cluster.node_ids)
    await cluster.plane.restart(*cluster.node_ids)
    await cluster.plane.verify()


ALONE = {
    "pa-el": {NEAR: DEGRADED},
    "pa-ec": {NEAR: DEGRADED},
    "strict": {NEAR: REFUSE},
    "pc-ec": {NEAR: REFUSE},
    "pc-el": {NEAR: Cell(Expect.MAY, Expect.REFUSE)},
}
"""What the side of one of three nodes promises."""
ONLY_COORDINATOR = {name: {NEAR: HANG} for name in ("pa-el", "pa-ec", "strict", "pc-ec", "pc-el")}
"""Whoever is with a coordinator that stands still, and knows no other."""
THROUGH_IT = {name: {NEAR: MAY, FAR: MAY} for name in ("pa-el", "pa-ec", "strict", "pc-ec", "pc-el")}
"""While every connection breaks."""

ON_BOTH = {"pa-el": {NEAR: DEGRADED, FAR: DEGRADED}, "pa-ec": {NEAR: DEGRADED, FAR: DEGRADED}}
EITHER = {**ON_BOTH, **{name: {NEAR: MAY, FAR: MAY} for name in ("strict", "pc-ec", "pc-el")}}
"""While it depends on the key which side has a majority."""

SCENARIOS: dict[str, Scenario] = {
    scenario.id: scenario
    for scenario in (
        Scenario("F0", "no fault", nothing, nothing),
        Scenario("F1", "split: one node and its clients | two nodes", split(), heal, ALONE, controls=("pa-el",)),
        Scenario("F2", "split, refused instead of lost", split(Kind.REFUSE), heal, ALONE, controls=("pa-el",)),
        Scenario("F3", "split of five nodes: two | three", split_of_five, heal, EITHER, nodes=5, controls=("pa-el",)),
        Scenario("F4", "one node sees no other, clients see all", isolate, heal, ON_BOTH),
        Scenario("F5", "requests from n1 to n2 are lost", lossy(Direction.REQUESTS), heal),
        Scenario("F6", "answers of n2 to n1 are lost", lossy(Direction.RESPONSES), heal),
        Scenario("F7", "bridge: n2 and n3 do not see each other", bridge, heal),
        Scenario("F8", "a node stands still (SIGSTOP)", pause, heal),
        Scenario(
            "F9",
            "the only coordinator of some clients stands still (SIGSTOP)",
            pause_the_only_coordinator,
            heal,
            ONLY_COORDINATOR,
            during_min=3,  # each of theirs takes until its deadline
        ),
        Scenario("F10", "SIGKILL, then back", kill, restart),
        Scenario("F11", "power is cut: of one node, then of the others", cut_power, cut_power_of_the_others, recorded=True),
        Scenario("F12", "a disk is lost", wipe, restart, takes_copies=True),
        Scenario("F13", f"{SLOW_MS} ms on the links of a node", slow, heal),
        Scenario("F14", "a split comes and goes", flap, heal, ALONE),
        Scenario("F15", f"a clock {SKEW_S} s ahead, another {SKEW_S} s behind", skew, heal),
        Scenario(
            "F16",
            "deletes under a split longer than the grace",
            split(),
            heal,
            ALONE,
            cluster={"tombstone_grace_s": GRACE_S, "retry_window_s": 2.0},
            hold_s=GRACE_S,
        ),
        Scenario(
            "F18",
            "a disk is damaged: bits flip in tables, a log, half a table is gone",
            flip_under_a_running_node,
            damage_and_replace,
            takes_copies=True,
        ),
        Scenario("F19", "connections are reset in a storm", storm, heal, THROUGH_IT),
        Scenario("F20", "SIGKILL of all nodes under load", restart_all, heal),
    )
}
"""By id."""
NOT_BUILT = {"F17": "members join and leave: the ring cannot change yet"}
"""Numbers of the plan that no scenario has yet, and why."""
