"""Starts the sides of a comparison: servers, their client process, and the workload's keys in them. Each ends with the stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from kvchaos.targets.etcd_binary import find_etcd
from kvchaos.targets.redis_binary import RedisBinaries, find_redis
from tests.bench import ours
from tests.bench.client_handle import ClientProcess, start_client
from tests.bench.etcd_cluster import start_cluster as start_etcd
from tests.bench.ours_client import REGISTERS
from tests.bench.redis_servers import start_alone, start_replicated
from tests.bench.throughput import Side

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens sides with their data below `folder`, ended with `stack`; what was found goes into `facts`. All raise `BenchError`."""

    stack: AsyncExitStack
    folder: Path
    facts: dict[str, str]
    progress: Progress

    async def etcd(self) -> Side:
        """Three members."""
        binary = await asyncio.to_thread(find_etcd)
        self.facts["etcd"] = f"{binary.version}, three members, its defaults (fsync before ack)"
        cluster = await start_etcd(binary, self.folder / "etcd")
        self.stack.push_async_callback(cluster.stop)
        return await self._loaded("etcd", cluster.addresses, cluster.pids)

    async def redis(self, *, alone: bool) -> tuple[Side, RedisBinaries]:
        """One server in memory, or a primary with two replicas that sync every write."""
        binaries = await asyncio.to_thread(find_redis)
        name = "redis-alone" if alone else "redis"
        how = (
            "one server, memory only" if alone else "primary and two replicas, appendfsync always; SET and WAIT 1 in one round trip"
        )
        self.facts[name] = f"{binaries.version}, {how}"
        servers = await (start_alone if alone else start_replicated)(binaries, self.folder / name)
        self.stack.push_async_callback(servers.stop)
        return await self._loaded(name, [servers.address], servers.pids), binaries

    async def ours(self, *, nodes: int, name: str = "ours", load: bool = True) -> tuple[ours.KvCluster, Side]:
        """`nodes` nodes of kvstore."""
        registers = ("--policy", f"{REGISTERS}=linearizable")  # a namespace more, which nobody uses but `registers`
        cluster = await ours.start_cluster(self.folder / name, nodes=nodes, options=registers)
        self.stack.push_async_callback(cluster.stop)
        if load:
            return cluster, await self._loaded("ours", cluster.addresses, cluster.pids, name=f"kvstore, {nodes} nodes")
        return cluster, Side(await self.client("ours", cluster.addresses), cluster.pids, cluster.addresses)

    async def defaults(self, side: Side) -> Side:
        """The nodes of `side` through a client that knows of no tuning."""
        return Side(await self.client("ours-defaults", side.addresses), side.pids, side.addresses)

    async def registers(self, side: Side) -> Side:
        """The nodes of `side` through a client of its linearizable namespace, loaded."""
        return await self._loaded("ours-registers", side.addresses, side.pids, name="kvstore's registers")

    async def client(self, side: str, addresses: Sequence[str]) -> ClientProcess:
        """A client process."""
        client = await start_client(side, addresses, log=self.folder / f"{side}-client.log")
        self.stack.push_async_callback(client.stop)
        return client

    async def _loaded(self, side: str, addresses: Sequence[str], pids: Sequence[int], *, name: str = "") -> Side:
        client = await self.client(side, addresses)
        self.progress(f"loading {name or side}")
        await client.load()
        return Side(client, pids, addresses)
