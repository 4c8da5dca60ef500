"""Redis on the loopback interface, two ways: alone in memory, and a primary with two replicas, all of which sync every write."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kvchaos.targets.redis_binary import RedisBinaries
from tests.bench.processes import BenchError, free_ports, last_words, start, stop

REPLICAS = 2
START_ATTEMPTS = 3
READY_TIMEOUT_S = 30.0


class RedisServers:
    """Started by `start_alone` or `start_replicated`; `address` is the primary's, host:port."""

    def __init__(self, processes: list[Process], ports: list[int], logs: list[Path]) -> None:
        self._processes = processes
        self._logs = logs
        self.address = f"127.0.0.1:{ports[0]}"

    @property
    def pids(self) -> list[int]:
        """Process ids, the primary's first."""
        return [process.pid for process in self._processes]

    def check_alive(self) -> None:
        """Raises `BenchError` with its last words if a server has ended by itself."""
        for process, log in zip(self._processes, self._logs, strict=True):
            if process.returncode is not None:
                raise BenchError(f"redis: a server ended while starting{last_words(log)}")

    async def stop(self) -> None:
        """Ends every server, by its process id."""
        await asyncio.gather(*(stop(process) for process in self._processes))


async def start_alone(binaries: RedisBinaries, folder: Path) -> RedisServers:
    """One server that keeps everything in memory and writes nothing. Raises `BenchError`."""
    return await _start(binaries, folder, replicas=0, durable=False)


async def start_replicated(binaries: RedisBinaries, folder: Path) -> RedisServers:
    """A primary with two replicas that follow it, each with `appendfsync always`. Raises `BenchError`."""
    return await _start(binaries, folder, replicas=REPLICAS, durable=True)


def server_command(binaries: RedisBinaries, folder: Path, *, port: int, primary: int | None, durable: bool) -> list[str]:
    """The command line of one server; `primary` is the port of the one it follows."""
    return [
        *(str(binaries.server), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--loglevel", "warning"),
        *("--save", "", "--appendonly", "yes" if durable else "no", "--appendfsync", "always"),
        *(() if primary is None else ("--replicaof", "127.0.0.1", str(primary))),
    ]


async def _start(binaries: RedisBinaries, folder: Path, *, replicas: int, durable: bool) -> RedisServers:
    failure = BenchError("redis was never started")
    for attempt in range(START_ATTEMPTS):
        ports = free_ports(1 + replicas)
        processes, logs = [], []
        for at, port in enumerate(ports):
            data = folder / f"attempt-{attempt}" / f"r{at}"
            data.mkdir(parents=True)
            logs.append(data / "log")
            command = server_command(binaries, data, port=port, primary=ports[0] if at else None, durable=durable)
            processes.append(await start(command, log=logs[-1]))
        servers = RedisServers(processes, ports, logs)
        try:
            await _wait_ready(servers, ports[0], replicas)
            return servers
        except BenchError as error:
            # Another program may have taken a port between our choosing and the server's binding it: choose again.
            failure = error
            await servers.stop()
        except BaseException:
            await servers.stop()
            raise
    raise failure


async def _wait_ready(servers: RedisServers, port: int, replicas: int) -> None:
    """Returns when the primary answers and every replica has caught up with it; raises `BenchError` if not in time."""
    async with Redis(host="127.0.0.1", port=port) as client:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await _following(client, replicas):
                    servers.check_alive()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise BenchError(f"redis: {replicas} replicas did not follow within {READY_TIMEOUT_S:.0f} s") from None


async def _following(client: Redis, replicas: int) -> bool:
    try:
        state = await client.info("replication")
    except (RedisError, OSError):
        return False
    online = [at for at in range(state["connected_slaves"]) if state[f"slave{at}"]["state"] == "online"]
    return len(online) == replicas
