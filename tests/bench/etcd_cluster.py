"""Three etcd members on the loopback interface, with etcd's defaults: every member syncs its log before it acknowledges."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from pathlib import Path

import grpc

from kvchaos.targets.etcd_binary import EtcdBinary
from tests.bench.etcd_client import EtcdClient
from tests.bench.processes import BenchError, free_ports, last_words, start, stop

MEMBERS = 3
START_ATTEMPTS = 3
READY_TIMEOUT_S = 30.0


class EtcdCluster:
    """Started by `start_cluster`; `addresses` are the members' client addresses, host:port."""

    def __init__(self, processes: list[Process], addresses: list[str], logs: list[Path]) -> None:
        self._processes = processes
        self._logs = logs
        self.addresses = addresses

    @property
    def pids(self) -> list[int]:
        """Process ids of the members."""
        return [process.pid for process in self._processes]

    def check_alive(self) -> None:
        """Raises `BenchError` with its last words if a member has ended by itself."""
        for process, log in zip(self._processes, self._logs, strict=True):
            if process.returncode is not None:
                raise BenchError(f"etcd: a member ended while starting{last_words(log)}")

    async def stop(self) -> None:
        """Ends every member, by its process id."""
        await asyncio.gather(*(stop(process) for process in self._processes))


async def start_cluster(binary: EtcdBinary, folder: Path) -> EtcdCluster:
    """Starts the members with their data below `folder` and returns when each has committed a put. Raises `BenchError`."""
    failure = BenchError("etcd was never started")
    for attempt in range(START_ATTEMPTS):
        cluster = await _start_members(binary, folder / f"attempt-{attempt}")
        try:
            await _wait_ready(cluster)
            return cluster
        except BenchError as error:
            # Another program may have taken a port between our choosing and etcd's binding it: choose again.
            failure = error
            await cluster.stop()
        except BaseException:
            await cluster.stop()
            raise
    raise failure


def member_command(binary: EtcdBinary, folder: Path, *, member: int, clients: list[int], peers: list[int]) -> list[str]:
    """The command line of one member; `clients` and `peers` are every member's ports."""
    everybody = ",".join(f"m{i}=http://127.0.0.1:{port}" for i, port in enumerate(peers))
    client, peer = f"http://127.0.0.1:{clients[member]}", f"http://127.0.0.1:{peers[member]}"
    return [
        *(str(binary.path), "--name", f"m{member}", "--data-dir", str(folder / f"m{member}"), "--log-level", "warn"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", everybody, "--initial-cluster-state", "new", "--initial-cluster-token", "kvstore-bench"),
        # Our channel options ping every 2 s; etcd's default would answer pings that frequent with GOAWAY.
        *("--grpc-keepalive-min-time", "500ms"),
    ]


async def _start_members(binary: EtcdBinary, folder: Path) -> EtcdCluster:
    folder.mkdir(parents=True)
    ports = free_ports(2 * MEMBERS)
    clients, peers = ports[:MEMBERS], ports[MEMBERS:]
    logs = [folder / f"m{i}.log" for i in range(MEMBERS)]
    processes = [
        await start(member_command(binary, folder, member=i, clients=clients, peers=peers), log=log) for i, log in enumerate(logs)
    ]
    return EtcdCluster(processes, [f"127.0.0.1:{port}" for port in clients], logs)


async def _wait_ready(cluster: EtcdCluster) -> None:
    """Returns when a put through each member was committed; raises `BenchError` if one ends or the time is over."""
    client = EtcdClient(cluster.addresses)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            for _ in cluster.addresses:
                while not await _committed(client):
                    cluster.check_alive()
    except TimeoutError:
        raise BenchError(f"etcd: no leader within {READY_TIMEOUT_S:.0f} s") from None
    finally:
        await client.close()


async def _committed(client: EtcdClient) -> bool:
    try:
        await client.put_strict(b"bench/ready", b"1", timeout_s=2.0)
    except grpc.aio.AioRpcError:
        await asyncio.sleep(0.05)
        return False
    return True
