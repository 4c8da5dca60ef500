"""One node and its clients cut off from the rest, through real proxies, from load to verdict: what the default namespace promises.

The majority goes on at quorum; the cut side refuses with typed errors and, asked for one replica, serves what it has, which is old;
after healing everything agrees, and the checkers find nothing in the history. The cut itself is noticed by pings alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from kvchaos.checkers.judge import judge
from kvchaos.checkers.siblings import LOST
from kvchaos.faults.probes import status
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.history import NEMESIS, Event, History, calls_of, read_history
from kvchaos.operations import Operation
from kvchaos.performer import ClientPast, Performer
from kvclient import AsyncClient
from tests.chaos.proxied import client_of, proxied

pytestmark = [pytest.mark.timeout(120, func_only=True), pytest.mark.long]  # F1 is its like

KEYS = [f"r{number}" for number in range(12)]
OUTSIDE, INSIDE = "outside", "inside"
LAST = 90
"""The process that reads at rest."""
PROCESSES = {"outside-1": 0, "outside-2": 1, INSIDE: 2}
NOTICED_S_MAX = 12.0
"""Pings go out after 2 s of silence and are given up after 1.5 s. Without the options that make it so, gRPC takes a minute."""
HEADER = {
    "scenario": "isolate one node",
    "preset": "pa-ec",
    "n": 3,
    "r": 2,
    "w": 2,
    "promises": ["invented", "siblings", "reads", "answers", "strict", "receipts", "resources"],
}


class Load:
    """Processes at both sites, which do the same things one round after the other."""

    def __init__(self, cluster: ProxiedCluster, clients: dict[str, AsyncClient]) -> None:
        self.cluster = cluster
        self._serial = 0
        pasts = {OUTSIDE: ClientPast(list), INSIDE: ClientPast(list)}
        self._performers = {
            name: Performer(
                clients[name.partition("-")[0]],
                cluster.recorder,
                number,
                numbers=len(PROCESSES),
                past=pasts[name.partition("-")[0]],
                timeout_ms=2_000,
            )
            for name, number in PROCESSES.items()
        }

    async def round(self, f: str, keys: Sequence[str] = KEYS, *, level: str = "preset", only: str = "") -> list[Event]:
        """Every process does `f` on every key; what they were told, in the order of the history."""
        seen = len(self.cluster.recorder.history.events)
        await asyncio.gather(*(self._go(name, f, keys, level) for name in PROCESSES if name.startswith(only)))
        events = self.cluster.recorder.history.events[seen:]
        return [event for event in events if event.type != "invoke" and event.process != NEMESIS]

    async def _go(self, name: str, f: str, keys: Sequence[str], level: str) -> None:
        for key in keys:
            self._serial += 1
            # Every write knows nothing, so all of them are siblings: not one that was acknowledged may be missing at the end.
            operation = Operation(PROCESSES[name], 0, f, key, f"w{self._serial}", context="empty", level=level)
            await self._performers[name].perform(operation)


def error_of(event: Event) -> str:
    """The type of what a client was told."""
    return str(event.facts["error"]).partition(":")[0]


def told(events: Sequence[Event]) -> dict[str, int]:
    """How many of each outcome."""
    return {type_: sum(event.type == type_ for event in events) for type_ in ("ok", "fail", "info")}


async def test_the_majority_goes_on_the_cut_side_refuses_and_all_agree_afterwards(toxiproxy_server: Path, tmp_path: Path) -> None:
    async with proxied(tmp_path / "cluster", sites=(OUTSIDE, INSIDE)) as cluster:
        history = cluster.recorder.history
        history.header.update(HEADER)
        plane, loop = cluster.plane, asyncio.get_running_loop()
        async with client_of(cluster, OUTSIDE) as outside, client_of(cluster, INSIDE) as inside:
            load = Load(cluster, {OUTSIDE: outside, INSIDE: inside})
            assert told(await load.round("put")) == {"ok": 36, "fail": 0, "info": 0}

            cut_s = loop.time()
            await plane.partition([["n1", INSIDE], ["n2", "n3", OUTSIDE]])
            await plane.verify()  # each node has noticed: nothing but pings can tell it
            assert 0.5 < loop.time() - cut_s < NOTICED_S_MAX

            assert told(await load.round("put", only=OUTSIDE)) == {"ok": 24, "fail": 0, "info": 0}
            assert told(await load.round("get", level="quorum", only=OUTSIDE)) == {"ok": 24, "fail": 0, "info": 0}
            refused = [*await load.round("put", level="quorum", only=INSIDE), *await load.round("get", level="quorum", only=INSIDE)]
            # What the client had sent to the far side before its own pings noticed is unknown, as it must be.
            assert told(refused)["ok"] == 0 and told(refused)["fail"] >= 12, refused
            assert {error_of(event) for event in refused if event.type == "fail"} == {"QuorumUnreachable"}
            old = await load.round("get", level="one", only=INSIDE)
            assert told(old) == {"ok": 12, "fail": 0, "info": 0}, "whoever asks for availability gets it"
            assert all(set(event.facts["siblings"]) <= first_writes(history) for event in old), "and what it had before the cut"

            assert await owed(cluster) >= len(KEYS), "what n1 misses is noted"
            await plane.heal()
            await plane.verify()
            assert told(await load.round("get", level="all")) == {"ok": 36, "fail": 0, "info": 0}
            assert await nothing_is_owed(cluster), "what n1 had missed is given to it"
            assert told(await load.round("put", KEYS[:6])) == {"ok": 18, "fail": 0, "info": 0}, "everybody writes again"
            found = [await read_everywhere(load, inside), await read_everywhere(load, outside)]
            assert found[0] == found[1] and all(found[0].values())
            await read_at_rest(cluster, outside)
    file = tmp_path / "history.jsonl"
    history.write(file)
    assert [violation.sentence() for violation in judge(read_history(file))] == []
    assert [event.f for event in history.events if event.process == NEMESIS and event.value["phase"] == "active"][-4:] == [
        *("partition", "verify", "heal", "verify")
    ]
    assert LOST in broken_promises(history), "a verdict that cannot be negative is none"


def first_writes(history: History) -> set[str]:
    """What was acknowledged before the cut."""
    calls = calls_of(history.events)
    cut = next(event for event in history.events if event.f == "partition" and event.value["groups"][0] == ["n1", INSIDE])
    return {call.write for call in calls if "write" in call.invoke.facts and call.end is not None and call.end.index < cut.index}


async def owed(cluster: ProxiedCluster) -> int:
    """How many records home replicas are still to be handed."""
    return sum([(await status(place.listen)).hints_pending for place in cluster.nodes.places.values()])


async def nothing_is_owed(cluster: ProxiedCluster) -> bool:
    """Whether everybody has been handed what it had missed, as soon as that is so."""
    with suppress(TimeoutError):
        async with asyncio.timeout(20):
            while await owed(cluster):
                await asyncio.sleep(0.01)
            return True
    return False


async def read_everywhere(load: Load, client: AsyncClient) -> dict[str, list[bytes]]:
    """What a client finds at level all."""
    return {key: sorted((await client.get(key, level="all")).values) for key in KEYS}


async def read_at_rest(cluster: ProxiedCluster, client: AsyncClient) -> None:
    """The last word on every key, for the checkers."""
    last = Performer(client, cluster.recorder, LAST, numbers=1, past=ClientPast(list), timeout_ms=5_000, final=True)
    for key in KEYS:
        await last.perform(Operation(LAST, 0, "get", key, "", level="all"))


def broken_promises(history: History) -> set[str]:
    """What the judge says when the last read of every key found nothing, though writes had been acknowledged."""
    events = [
        Event(e.index, e.time_ns, e.process, e.type, e.f, e.key, None, e.node, {**e.facts, "siblings": []})
        if e.process == LAST and e.type == "ok"
        else e
        for e in history.events
    ]
    return {violation.promise for violation in judge(History(history.header, events))}
