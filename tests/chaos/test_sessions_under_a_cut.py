"""Sessions in all four presets, on a real cluster of which one node and its clients are cut off: what a session wrote and has read
it reads, or is told that it cannot (safety rule 20)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvchaos.checkers.sessions import check_sessions
from kvchaos.history import Call, Event, Recorder, calls_of
from kvchaos.operations import Operation
from kvchaos.performer import ClientPast, Performer
from kvchaos.register_performer import RegisterPerformer
from kvclient import AsyncClient
from kvclient.dial import PRESETS
from tests.chaos.proxied import client_of, proxied

pytestmark = [pytest.mark.timeout(180, func_only=True), pytest.mark.long]

OUTSIDE, INSIDE = "outside", "inside"
SITES = (OUTSIDE, INSIDE)
KEYS = [f"r{number}" for number in range(8)]
TIMEOUT_MS = 1_500
SPACES = {preset: {"preset": preset} for preset in PRESETS if preset != "pa-ec"}


class Sessions:
    """A session of every preset at each site, which do the same things; the history of each preset is its own."""

    def __init__(self, clients: dict[str, AsyncClient]) -> None:
        loop = asyncio.get_running_loop()
        self.recorders = {preset: Recorder(lambda: int(loop.time() * 1e9)) for preset in PRESETS}
        self._performers: dict[tuple[str, str], Any] = {}
        self._serial = 0
        for preset, recorder in self.recorders.items():
            for number, site in enumerate(SITES):
                session = clients[site].namespace("default" if preset == "pa-ec" else preset).session()
                shared: dict[str, Any] = {"numbers": len(SITES), "timeout_ms": TIMEOUT_MS}
                if PRESETS[preset] == "linearizable":
                    self._performers[preset, site] = RegisterPerformer(session, recorder, number, **shared)
                else:
                    self._performers[preset, site] = Performer(session, recorder, number, past=ClientPast(list), **shared)

    async def rounds(self, *kinds: str) -> None:
        """Everybody does one kind after the other to each key."""
        for f in kinds:
            await asyncio.gather(*(self._go(preset, site, f) for preset, site in self._performers))

    async def _go(self, preset: str, site: str, f: str) -> None:
        for key in KEYS:
            self._serial += 1
            # A process that was told "unknown" goes on under another number; the session is the same.
            operation = Operation(0, 0, f, key, f"w{self._serial}", context="none")
            await self._performers[preset, site].perform(operation)

    def calls(self, preset: str) -> list[Call]:
        """Of one preset, each with its session."""
        events = [named(event) for event in self.recorders[preset].history.events]
        return calls_of(events)

    def answered(self, preset: str, site: str) -> int:
        """How many calls of a site were acknowledged so far."""
        return sum(call.is_ok and call.invoke.facts["session"] == site for call in self.calls(preset))


def named(event: Event) -> Event:
    """With the session that its process is of: numbers go on in steps of the number of sites."""
    if not isinstance(event.process, int) or event.type != "invoke":
        return event
    return replace(event, facts={**event.facts, "session": SITES[event.process % len(SITES)]})


def forgetful(calls: Iterable[Call]) -> list[Call]:
    """As if every session's last read of a key had been told what its first one was."""
    calls = list(calls)
    first: dict[tuple[str, str], Event] = {}
    for call in calls:
        if call.f == "read" and call.is_ok and call.end is not None:
            place = str(call.invoke.facts["session"]), call.key
            call.end = replace(call.end, facts=first.setdefault(place, call.end).facts)
    return calls


async def test_sessions_hold_in_all_four_presets(toxiproxy_server: Path, tmp_path: Path) -> None:
    async with proxied(tmp_path / "cluster", sites=SITES, namespaces=SPACES) as cluster:
        plane = cluster.plane
        async with client_of(cluster, OUTSIDE) as outside, client_of(cluster, INSIDE) as inside:
            sessions = Sessions({OUTSIDE: outside, INSIDE: inside})
            await sessions.rounds("put", "get", "put", "get")
            before = {(preset, site): sessions.answered(preset, site) for preset in PRESETS for site in SITES}
            assert set(before.values()) == {4 * len(KEYS)}
            await plane.partition([["n1", INSIDE], ["n2", "n3", OUTSIDE]])
            await sessions.rounds("get", "put", "get")
            await plane.verify()
            await sessions.rounds("get", "put", "get")
            more = {place: sessions.answered(*place) - before[place] for place in before}
            assert all(more[preset, OUTSIDE] > 2 * len(KEYS) for preset in PRESETS), "the larger side goes on"
            assert all(more[preset, INSIDE] > len(KEYS) for preset in ("pa-el", "pa-ec")), "so does the smaller one where it may"
            await plane.heal()
            await sessions.rounds("get")
            await plane.verify()
            await sessions.rounds("get", "put", "get")
    for preset in PRESETS:
        assert not [found.sentence() for found in check_sessions(sessions.calls(preset))], preset
        assert check_sessions(forgetful(sessions.calls(preset))), "a verdict that cannot be negative is none"
