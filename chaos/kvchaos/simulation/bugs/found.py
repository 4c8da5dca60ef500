"""Bugs that the simulation found in the store, put back: their schedules in tests/simulation/regressions/ must still find them."""

from __future__ import annotations

from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvclient import AsyncClient
from kvclient.namespace import AsyncNamespace
from kvstore.coordinator.put import PutCoordinator
from kvstore.transport.peer_link import PeerLink

FAR_S = 1e6


@bug("plan-outlives-epoch", "what was planned by one ring and waited leaves under the next ring's name (safety rule 7)")
def send_outdated_plans(patch: Patch) -> None:
    """Acknowledgements of two epochs are counted together."""

    def send_all(self: PeerLink, chunks: Any, ticket: Any) -> None:
        for chunk in chunks:
            chunk.ring_hash = 0
        send(self, chunks, ticket)

    send = patch.set(PeerLink, "_send", send_all)


@bug("untimed-connect", "connecting is not part of a call's time")
def connect_untimed(patch: Patch) -> None:
    """The first call may take as long as the client's own timeout, and then its own."""

    async def connect(self: AsyncNamespace, timeout_s: float) -> tuple[Any, float]:
        client: AsyncClient = self._client
        return await client.connect(), timeout_s

    patch.set(AsyncNamespace, "_connect", connect)


@bug("untimed-catching-up", "a write that catches up waits for its coordinator's own disk, however slow")
def catch_up_untimed(patch: Patch) -> None:
    """It goes on long after its deadline."""

    async def take_in(self: PutCoordinator, keys: Any, answer: Any, until_s: float) -> None:
        await take_in_timed(self, keys, answer, until_s + FAR_S)

    take_in_timed = patch.set(PutCoordinator, "_take_in", take_in)
