"""Which nodes there are and how to reach them: the first contact, the links, and the ring when it changes.

A seed is only a contact point: the ring it describes names the members, and each gets one link. The ring is fetched again when a
reply or a refusal shows that there is a newer one; links to members that stay are kept, those to members that left hand their
work over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from kvclient.errors import AvailabilityError, ClientClosed, KvError, NodeUnreachable, NotAllowed
from kvclient.node_link import LinkOwner, NodeLink
from kvclient.request_ids import RequestIds
from kvclient.routing import Router, addresses_of
from kvclient.transport import Dial, Ring, Transport
from kvproto.columns import ClusterInfo
from kvproto.link import LinkBounds

DESCRIBE_TIMEOUT_S = 1.0
CONNECT_INTERVAL_S = 0.1


class Membership:
    """The members as links. `router` is there once `connect` has returned."""

    owner: LinkOwner
    router: Router[NodeLink]

    def __init__(
        self,
        seeds: Sequence[str],
        dial: Dial,
        ids: RequestIds,
        *,
        address_map: Mapping[str, str] | None = None,
        bounds: LinkBounds | None = None,
        is_single: bool = False,
    ) -> None:
        self.closed = False
        self._seeds = tuple(seeds)
        self._dial = dial
        self._ids = ids
        self._address_map = address_map or {}
        self._bounds = bounds
        self._is_single = is_single
        self._turn = int.from_bytes(ids.trace_prefix, "big")
        self._ring = Ring(self.refresh, ids.trace_prefix, ids.now_ms)
        self._spare: dict[str, Transport] = {}
        self._links: dict[tuple[str, str], NodeLink] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def all_links(self) -> tuple[NodeLink, ...]:
        """The members' links, in the order of the ring's members."""
        return self.router.links

    async def connect(self, deadline_s: float) -> None:
        """Finds a seed that answers and links to every member.

        Raises `AvailabilityError` when none did by `deadline_s`, and at once when every seed refuses for good.
        """
        loop = asyncio.get_running_loop()
        errors: dict[str, KvError] = {}
        while True:
            if await self._contact(min(DESCRIBE_TIMEOUT_S, max(0.01, deadline_s - loop.time())), errors):
                await self._close_spare()
                return
            refusals = [error for error in errors.values() if not error.retryable]
            if len(refusals) == len(self._seeds):
                raise refusals[0]
            if loop.time() + CONNECT_INTERVAL_S >= deadline_s:
                for refusal in refusals:
                    if isinstance(refusal, NotAllowed):  # says more than that the others are down
                        raise refusal
                said = "; ".join(error.message for error in errors.values()) or "no answer in time"
                raise NodeUnreachable(f"no node answers at {', '.join(self._seeds)}: {said}", subject=",".join(self._seeds))
            await asyncio.sleep(CONNECT_INTERVAL_S)

    def learn(self, info: ClusterInfo, sent_s: float, received_s: float) -> None:
        """A node described the ring: the clock is set by the first, and a newer ring replaces the one in use."""
        self._ids.synchronize(info.server_time_ms, sent_s, received_s)
        if self.closed:
            return
        if hasattr(self, "router") and info.ring_epoch <= self._ring.epoch:
            self._learn_namespaces(info)
            return
        if self._ring.cluster_id and info.cluster_id != self._ring.cluster_id:
            return  # another cluster answers at a known address: what is sent there is refused by its id
        self._ring.cluster_id, self._ring.epoch = info.cluster_id, info.ring_epoch
        self._ring.catalog_revision = info.catalog_revision
        addresses = (
            [(member.id, self._seeds[0]) for member in info.members] if self._is_single else addresses_of(info, self._address_map)
        )
        before = self._links
        self._links = {member: before.get(member) or self._open(*member) for member in addresses}
        links = [self._links[member] for member in addresses]
        self.router = Router(info, links, turn=self._turn, before=getattr(self, "router", None))
        for member, link in before.items():
            if member not in self._links:
                self._retire(link)

    def _learn_namespaces(self, info: ClusterInfo) -> None:
        """The ring is the one in use, or an older one: the namespaces may be newer all the same."""
        if info.cluster_id == self._ring.cluster_id and info.catalog_revision > self._ring.catalog_revision:
            self._ring.catalog_revision = info.catalog_revision
            known = replace(self.router.info, namespaces=info.namespaces, catalog_revision=info.catalog_revision)
            self.router = Router(known, self.router.links, turn=self._turn, before=self.router)

    def refreshed(self) -> asyncio.Future[None]:
        """Done when the ring and the namespaces were fetched again, or nobody could be asked."""
        self.refresh()
        if self._refreshing is None:
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        return asyncio.shield(self._refreshing)

    def refresh(self) -> None:
        """Fetches the ring again, in the background; once at a time."""
        if self._refreshing is None and not self.closed:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="fetch ring")

    async def describe(self, timeout_s: float) -> ClusterInfo:
        """The ring as some node knows it now. Raises the last node's `KvError` when none answers."""
        last: KvError = AvailabilityError("no node is known")
        for link in self._promising():
            try:
                return await self._ask(link, timeout_s)
            except KvError as error:
                last = error
        raise last

    async def describe_by(self, link: NodeLink, timeout_s: float) -> ClusterInfo:
        """The ring as the node of `link` knows it now. Raises its `KvError`."""
        return await self._ask(link, timeout_s)

    async def close(self) -> None:
        """Closes every link; what they hold ends with `ClientClosed`."""
        self.closed = True
        tasks = [*self._closing, *([self._refreshing] if self._refreshing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        error = ClientClosed("the client was closed while the operation was under way", may_have_applied=True)
        for link in self._links.values():
            await link.close(error)
        await self._close_spare()

    async def _close_spare(self) -> None:
        """Seeds that no member turned out to be."""
        while self._spare:
            _, transport = self._spare.popitem()
            await transport.close()

    async def _contact(self, timeout_s: float, errors: dict[str, KvError]) -> bool:
        """Asks every seed at once; the first answer counts. `errors` collects what each seed said otherwise."""
        asked = [asyncio.ensure_future(self._describe_seed(seed, errors)) for seed in self._seeds]
        try:
            async with asyncio.timeout(timeout_s):
                for answer in asyncio.as_completed(asked):
                    described = await answer
                    if described is not None:
                        self.learn(*described)
                        return True
        except TimeoutError:
            silent = [seed for seed, task in zip(self._seeds, asked, strict=True) if not task.done()]
            # One that has refused us before, and had no time to do so again, still says more than silence.
            silent = [seed for seed in silent if not isinstance(errors.get(seed), NotAllowed)]
            errors.update({seed: NodeUnreachable(f"{seed} does not answer", subject=seed) for seed in silent})
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return False

    async def _describe_seed(self, seed: str, errors: dict[str, KvError]) -> tuple[ClusterInfo, float, float] | None:
        sent_s = self._ids.clock_s()
        try:
            if seed not in self._spare:
                self._spare[seed] = self._dial(seed, self._ring)
            return await self._spare[seed].describe(), sent_s, self._ids.clock_s()
        except KvError as error:
            errors[seed] = error
            return None

    async def _refresh(self) -> None:
        """Asks one node after the other until one knows a newer ring, or newer namespaces: the first to answer may be the one that
        is behind."""
        before = self._ring.epoch, self._ring.catalog_revision
        try:
            for link in self._promising():
                with suppress(KvError):
                    await self._ask(link, DESCRIBE_TIMEOUT_S)
                if (self._ring.epoch, self._ring.catalog_revision) > before:
                    return
        finally:
            self._refreshing = None

    def _promising(self) -> list[NodeLink]:
        """Every link, those that are up first."""
        return sorted(self.all_links(), key=lambda link: not link.up)

    async def _ask(self, link: NodeLink, timeout_s: float) -> ClusterInfo:
        """What the node of `link` says of the ring; learned, and returned."""
        sent_s = self._ids.clock_s()
        try:
            async with asyncio.timeout(min(timeout_s, DESCRIBE_TIMEOUT_S)):
                info = await link.transport.describe()
        except TimeoutError as error:
            raise NodeUnreachable(f"{link.address} does not answer", subject=link.address) from error
        self.learn(info, sent_s, self._ids.clock_s())
        return info

    def _open(self, node_id: str, address: str) -> NodeLink:
        transport = self._spare.pop(address, None) or self._dial(address, self._ring)
        return NodeLink(node_id, address, transport, self.owner, bounds=self._bounds)

    def _retire(self, link: NodeLink) -> None:
        error = NodeUnreachable(f"{link.node_id} has left the ring", may_have_applied=True, subject=link.address)
        task = asyncio.get_running_loop().create_task(link.close(error), name=f"retire {link.address}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
