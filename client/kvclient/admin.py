"""What a client can ask about the cluster itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kvclient.errors import AvailabilityError, KvError, WrongMode
from kvclient.node_link import NodeLink
from kvproto.columns import ClusterInfo, NodeStatus, RepairProgress

if TYPE_CHECKING:
    from kvclient.async_client import AsyncClient

STATE_DEAD = "dead"
STATUS_TIMEOUT_S = 1.5
REPAIR_POLL_S = 0.2


class AsyncAdmin:
    """`client.admin`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def describe(self, *, timeout_s: float | None = None) -> ClusterInfo:
        """The ring, limits and namespaces, asked for now. Raises `AvailabilityError` when no node answers."""
        await self._client.connect()
        return await self._client.membership.describe(self._client.timeout_s if timeout_s is None else timeout_s)

    async def status(self, *, timeout_s: float | None = None) -> list[NodeStatus]:
        """A row a member, in the ring's order.

        A member that does not answer is a row with state "dead" and zeros for numbers: that is this client's view of it.
        `timeout_s` is what each member is given, at most 1.5 by default.
        """
        client = self._client
        await client.connect()
        patience_s = min(STATUS_TIMEOUT_S, client.timeout_s) if timeout_s is None else timeout_s
        return list(await asyncio.gather(*(self._status_of(link, patience_s) for link in client.membership.all_links())))

    async def repair(
        self,
        namespace: str = "",
        *,
        on_progress: Callable[[RepairProgress], None] = lambda row: None,
        poll_s: float = REPAIR_POLL_S,
    ) -> list[RepairProgress]:
        """Has one node after the other compare its records of `namespace` ("": of all) with its peers', and repair what differs; a
        row a member, in the ring's order, when all are done.

        Nodes do this by themselves all the time; this does it now. `on_progress` is called with a node's row each time it is heard
        of. A member that does not answer is a row in which it is `unreachable` itself. Raises `UnknownNamespace`.
        """
        client = self._client
        await client.connect()
        return [await self._repair(link, namespace, on_progress, poll_s) for link in client.membership.all_links()]

    async def _repair(
        self, link: NodeLink, namespace: str, on_progress: Callable[[RepairProgress], None], poll_s: float
    ) -> RepairProgress:
        row = RepairProgress(link.node_id)
        try:
            row = await link.transport.repair(namespace, 0)
            on_progress(row)
            while not row.over:
                await asyncio.sleep(poll_s)
                row = await link.transport.repair(namespace, row.number)
                on_progress(row)
        except AvailabilityError:
            row = replace(row, over=True, unreachable=(*row.unreachable, link.node_id))
            on_progress(row)
        return row

    async def create_namespace(self, name: str, *, preset: str = "pa-ec") -> None:
        """Namespaces are part of the nodes' configuration: always raises `WrongMode`, saying what to write where."""
        raise WrongMode(
            f"namespaces are configured, not created: add [cluster.namespaces.{name}] with preset = {preset!r} to every node.toml "
            "and restart the nodes",
            subject=name,
        )

    async def _status_of(self, link: NodeLink, timeout_s: float) -> NodeStatus:
        try:
            async with asyncio.timeout(timeout_s):
                return await link.transport.status()
        except (KvError, TimeoutError):
            info = self._client.info
            zone = next((member.zone for member in info.members if member.id == link.node_id), "")
            return NodeStatus(link.node_id, link.address, zone, STATE_DEAD, ring_epoch=0, keys=0, version="")
