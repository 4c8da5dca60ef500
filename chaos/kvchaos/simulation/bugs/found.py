"""Bugs that the simulation found in the store, put back: their schedules in tests/simulation/regressions/ must still find them."""

from __future__ import annotations

import asyncio
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvclient import AsyncClient
from kvproto.errors import AvailabilityError, KvError
from kvstore.coordinator.catching_up import CatchingUp
from kvstore.core.merkle.tree import items_of
from kvstore.core.record import EMPTY_RECORD
from kvstore.core.record_writes import merge_records
from kvstore.node import Node
from kvstore.storage.store import Store
from kvstore.transport.grpc_peers import GrpcPeers
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

    async def connect(self: AsyncClient, timeout_s: float) -> tuple[Any, float]:
        return await self.connect(), timeout_s

    patch.set(AsyncClient, "connect_within", connect)


@bug("untimed-catching-up", "a write that catches up waits for its coordinator's own disk, however slow")
def catch_up_untimed(patch: Patch) -> None:
    """It goes on long after its deadline."""

    async def take_in(self: CatchingUp, *args: Any) -> None:
        await take_in_timed(self, *args[:-1], args[-1] + FAR_S)

    take_in_timed = patch.set(CatchingUp, "take_in", take_in)


@bug("late-repair", "a lost record is replaced by what the others held, whatever was written here since (safety rule 5)")
def repair_late(patch: Patch) -> None:
    """An acknowledged write is taken back, and covered by the next one."""

    def repair_lost(self: Store, store_key: bytes, record: bytes, done: Any) -> None:
        pending = self.pending.get(store_key)
        if pending is not None:
            record = merge_records(pending, record)
        self.stage(store_key, record)
        self.commit([(store_key, record)], done, before=items_of([store_key], [pending]))

    patch.set(Store, "repair_lost", repair_lost)


@bug("lost-for-ever", "a lost record that no other replica has is never repaired")
def leave_lost(patch: Patch) -> None:
    """Its key cannot be read at level `all` again, nor written here."""

    def repair_lost(self: Store, store_key: bytes, record: bytes, done: Any) -> None:
        if record == EMPTY_RECORD:
            done(None)
        else:
            repair(self, store_key, record, done)

    repair = patch.set(Store, "repair_lost", repair_lost)


def _unswayed(cls: type[KvError], said: bool) -> type[KvError]:
    """A class of errors that stay with what they said first."""
    return type(cls.__name__, (cls,), {"may_have_applied": property(lambda error: said, lambda error, other: None)})


@bug("forgotten-owner", "a forwarding node passes on a refusal though an earlier owner may have applied the write")
def forget_earlier_owners(patch: Patch) -> None:
    """The client is told that it was certainly not applied."""

    async def forward_alone(self: GrpcPeers, node: str, group: Any, timeout_s: float, trace: bytes) -> Any:
        replies = await forward(self, node, group, timeout_s, trace)
        for reply in replies:
            if reply.error is not None:
                reply.error.__class__ = _unswayed(type(reply.error), reply.error.may_have_applied)
        return replies

    forward = patch.set(GrpcPeers, "forward", forward_alone)


@bug("stopped-start-goes-on", "a node that is stopped while it starts goes on starting, behind its own end")
def go_on_starting(patch: Patch) -> None:
    """It dials its peers again and leaves tasks behind."""
    patch.set(Node, "_go_on", lambda self: None)


@bug("closed-channel-ends-jobs", "a call whose channel is closed for a new one ends the job that waits for it, for good")
def cancel_jobs(patch: Patch) -> None:
    """A node that was paused in the middle of its rebuild is never whole again."""

    async def call(self: GrpcPeers, node: str, call: Any) -> Any:
        try:
            return await call_before(self, node, call)
        except AvailabilityError as error:
            if "was closed" in error.message:
                raise asyncio.CancelledError from error
            raise

    call_before = patch.set(GrpcPeers, "_call", call)
