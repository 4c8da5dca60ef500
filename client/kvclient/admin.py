"""What a client can ask about the cluster itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from kvclient.checks import milliseconds_to_live, namespace_name, seconds
from kvclient.errors import AvailabilityError, BadRequest, KvError, NodeUnreachable, QuorumUnreachable, UnknownNamespace
from kvclient.node_link import NodeLink
from kvproto.columns import ClusterInfo, LossAccepted, NamespaceInfo, NamespaceWish, NodeStatus, RepairProgress

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

    async def accept_loss(self, *nodes: str) -> list[LossAccepted]:
        """Has nodes that have lost their registers be admitted again without hearing `nodes`, which have lost theirs as well: what
        only those had of linearizable namespaces is gone for good. A row for each node that goes on so; none if no node that
        answers has lost its registers, or knows yet that it has. Raises `BadRequest` for what is no node."""
        client = self._client
        await client.connect()
        rows: list[LossAccepted] = []
        for link in client.membership.all_links():
            with suppress(AvailabilityError):
                rows.append(await link.transport.accept_loss(nodes))
        return [row for row in rows if row.waiting]

    async def namespaces(self, *, timeout_s: float | None = None) -> list[NamespaceInfo]:
        """Every namespace there is, by name; asked for now, of one node. Raises `AvailabilityError` when no node answers."""
        return sorted((await self.describe(timeout_s=timeout_s)).namespaces, key=lambda space: space.name)

    async def namespace(self, name: str, *, timeout_s: float | None = None) -> NamespaceInfo:
        """What the namespace `name` is. Raises `UnknownNamespace` with the names there are."""
        spaces = await self.namespaces(timeout_s=timeout_s)
        for space in spaces:
            if space.name == name:
                return space
        there_are = ", ".join(space.name for space in spaces)
        raise UnknownNamespace(f"there is no namespace {name!r}; there is: {there_are}", subject=name)

    async def create_namespace(
        self,
        name: str,
        *,
        preset: str = "",
        mode: str = "",
        n: int = 0,
        ttl_s: float = 0.0,
        policy: str = "",
        r: int = 0,
        w: int = 0,
        quota_operations_per_s: int = 0,
        quota_bytes_per_s: int = 0,
        storage: str = "",
        durability: str = "",
        max_bytes: int = 0,
        value_bytes_max: int = 0,
        timeout_s: float | None = None,
    ) -> NamespaceInfo:
        """Makes a namespace, on every node; what is left away is as usual (docs/namespaces.md). The same again is no error.

        `storage` memory takes `max_bytes`, on each node; `durability` is fsync, or os: not synced. Values have at most
        `value_bytes_max` bytes, by default as many as the cluster allows.

        Raises `NamespaceExists` when there is one of that name with other settings, `NamespaceConfigured` when node.toml has it,
        `BadRequest` or `WrongMode` for settings that cannot be, `QuorumUnreachable` without a majority of the nodes: nothing was
        changed then. Another `AvailabilityError` with `may_have_applied` is settled by making it again.
        """
        wish = NamespaceWish(
            name=namespace_name(name),
            preset=preset,
            mode=mode,
            n=_count(n, "n"),
            r=_count(r, "r"),
            w=_count(w, "w"),
            ttl_ms=milliseconds_to_live(ttl_s) if ttl_s else 0,
            policy=policy,
            storage=storage,
            durability=durability,
            max_bytes=_count(max_bytes, "max_bytes"),
            value_bytes_max=_count(value_bytes_max, "value_bytes_max"),
            quota_operations_per_s=_count(quota_operations_per_s, "quota_operations_per_s"),
            quota_bytes_per_s=_count(quota_bytes_per_s, "quota_bytes_per_s"),
        )
        return await self._change(lambda link, left_s: link.transport.create_namespace(wish, left_s), timeout_s)

    async def drop_namespace(self, name: str, *, timeout_s: float | None = None) -> NamespaceInfo:
        """Drops a namespace that was made at run time, with everything in it, for ever; what it was. The name may be given again.

        Raises `UnknownNamespace`, `NamespaceConfigured`, and as `create_namespace` without a majority.
        """
        name = namespace_name(name)
        return await self._change(lambda link, left_s: link.transport.drop_namespace(name, left_s), timeout_s)

    async def _change(self, ask: Callable[[NodeLink, float], Awaitable[NamespaceInfo]], timeout_s: float | None) -> NamespaceInfo:
        """Asks one node after the other, until one of them may have done it, or none is left."""
        client, loop = self._client, asyncio.get_running_loop()
        deadline_s = loop.time() + (client.timeout_s if timeout_s is None else seconds(timeout_s))
        await client.connect(deadline_s - loop.time())
        refused: KvError | None = None
        for link in sorted(client.membership.all_links(), key=lambda link: not link.up):
            left_s = deadline_s - loop.time()
            if left_s <= 0:
                break
            try:
                async with asyncio.timeout(min(left_s, STATUS_TIMEOUT_S)):
                    await link.transport.describe()  # one that is not there was certainly not asked
                made = await ask(link, deadline_s - loop.time())
            except TimeoutError:
                continue
            except AvailabilityError as error:
                if error.may_have_applied:
                    raise
                if not isinstance(refused, QuorumUnreachable):  # says more than that another one is down
                    refused = error
                continue
            with suppress(KvError):  # else it is learned with the next answer
                await client.membership.describe_by(link, max(0.01, deadline_s - loop.time()))
            return made
        raise refused or NodeUnreachable("no node has answered in time")

    async def _status_of(self, link: NodeLink, timeout_s: float) -> NodeStatus:
        try:
            async with asyncio.timeout(timeout_s):
                return await link.transport.status()
        except (KvError, TimeoutError):
            info = self._client.info
            zone = next((member.zone for member in info.members if member.id == link.node_id), "")
            return NodeStatus(link.node_id, link.address, zone, STATE_DEAD, ring_epoch=0, keys=0, version="")


def _count(number: object, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 63:
        raise BadRequest(f"{name}={number!r} is no whole number from 0 on", subject=name)
    return number
