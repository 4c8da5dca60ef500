"""A Redis primary and two replicas that follow it asynchronously, as a target; who is primary is changed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kvchaos.faults.link_state import Link
from kvchaos.faults.proxies import Route
from kvchaos.ports import address
from kvchaos.targets.cluster import TargetCluster
from kvchaos.targets.doors import split
from kvchaos.targets.failures import TargetFailed
from kvchaos.targets.questions import REDIS_PING
from kvchaos.targets.redis_binary import RedisBinaries, find_redis
from kvchaos.targets.redis_store import RedisStore
from kvchaos.targets.servers import TargetPlace

SETTLE_TIMEOUT_S = 30.0
INTERVAL_S = 0.05


class RedisTarget(TargetCluster):
    """Servers r1, r2, r3; `primary` is r1 until a `failover`."""

    node_ids = ("r1", "r2", "r3")
    question = REDIS_PING
    ports_each = 1

    primary = "r1"
    binaries: RedisBinaries
    _direct: dict[str, str]

    def find_binary(self) -> None:
        """See `TargetCluster`."""
        self.binaries = find_redis()

    def plan(self, ports: Iterator[int]) -> tuple[list[TargetPlace], dict[Link, Route]]:
        """See `TargetCluster`."""
        self._direct = {node: address(next(ports)) for node in self.node_ids}
        links = [*self.links(), *(Link(site, node) for site in self.sites for node in self.node_ids)]
        routes = {link: Route(address(next(ports)), self._direct[link.target]) for link in links}
        return [self._place(node, routes) for node in self.node_ids], routes

    async def settle(self) -> None:
        """Returns when every replica follows the primary."""
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while await self._followers() != len(self.node_ids) - 1:  # noqa: ASYNC110 - nothing tells of it but asking
                    await asyncio.sleep(INTERVAL_S)
        except TimeoutError:
            raise TargetFailed(f"redis: the replicas did not follow within {SETTLE_TIMEOUT_S:.0f} s") from None

    async def is_apart(self) -> bool:
        """See `TargetCluster`."""
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while await self._followers():  # noqa: ASYNC110 - nothing tells of it but asking
                    await asyncio.sleep(INTERVAL_S)
        except TimeoutError:
            return False
        return True

    async def failover(self, to: str) -> str:
        """What a sentinel does that no longer sees the primary: promotes `to`, and has the other replicas follow it. Returns the
        old primary, which knows nothing of it until `rejoin`. Clients have to be re-pointed."""
        former, self.primary = self.primary, to
        self.recorder.fault("failover", {"from": former, "to": to})
        await self._admin(to, "REPLICAOF", "NO", "ONE")
        for node in self.node_ids:
            if node not in (to, former):
                await self.rejoin(node)
        return former

    async def rejoin(self, node: str) -> None:
        """Has a server follow the primary, whatever it holds itself."""
        self.recorder.fault("rejoin", {"node": node, "primary": self.primary})
        host, port = split(self.proxies.routes[Link(node, self.primary)].listen)
        await self._admin(node, "REPLICAOF", host, str(port))

    def store(self, site: str | None = None) -> RedisStore:
        """A client of the present primary; whoever asks closes it."""
        return RedisStore({node: self.address(node, site) for node in self.node_ids}, self.primary)

    async def _followers(self) -> int:
        self.nodes.check()
        try:
            async with self._connected(self.primary) as client:
                state = await client.info("replication")
        except (RedisError, OSError):
            return -1
        return sum(state[f"slave{at}"]["state"] == "online" for at in range(state["connected_slaves"]))

    async def _admin(self, node: str, *command: str) -> None:
        """Past the proxies: who administers is on no side of a cut."""
        async with self._connected(node) as client:
            execute: Callable[..., Awaitable[Any]] = client.execute_command
            await execute(*command)

    @asynccontextmanager
    async def _connected(self, node: str) -> AsyncIterator[Redis]:
        host, port = split(self._direct[node])
        async with Redis(host=host, port=port) as client:
            yield client

    def _place(self, node: str, routes: dict[Link, Route]) -> TargetPlace:
        listen = self._direct[node]
        following = () if node == self.primary else ("--replicaof", *map(str, split(routes[Link(node, self.primary)].listen)))
        folder = self.root / node
        command = [
            *(str(self.binaries.server), "--port", listen.rpartition(":")[2], "--bind", "127.0.0.1", "--loglevel", "warning"),
            *("--dir", str(folder / "data"), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
            # A replica that is cut off is noticed within seconds, and a primary pings more often than that.
            *("--repl-ping-replica-period", "1", "--repl-timeout", "5", "--repl-diskless-sync-delay", "0"),
            *following,
        ]
        return TargetPlace(
            node, listen=listen, advertise=listen, http="", peers={}, folder=folder, command=command, question=REDIS_PING
        )
