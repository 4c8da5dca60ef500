"""kvstore's servers: a local cluster started with `kv dev`, as a user would start it. Its client is in ours_client.py."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path

from tests.bench.processes import BenchError, read_line, send_signal, start, stop

KV = Path(sys.executable).parent / "kv"
READY_TIMEOUT_S = 60.0


class KvCluster:
    """Started by `start_cluster`; `addresses` and `pids` are the nodes', in the same order."""

    def __init__(self, process: Process, ready: dict[str, list[dict[str, str]]], command: Path) -> None:
        self._process = process
        self._command = command
        self.addresses = [str(node["address"]) for node in ready["nodes"]]
        self.pids = [int(node["pid"]) for node in ready["nodes"]]

    def pause(self, nodes: Sequence[int]) -> None:
        """SIGSTOP to the nodes of these positions: they keep their connections and answer nothing."""
        send_signal([self.pids[node] for node in nodes], signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT to every node."""
        send_signal(self.pids, signal.SIGCONT)

    async def wait_converged(self, *, timeout_s: float) -> None:
        """`kv status --wait converged`: every node alive and nothing left to repair. Raises `BenchError` otherwise."""
        waiting = await asyncio.create_subprocess_exec(
            *(str(self._command), "--at", ",".join(self.addresses), "status", "--wait", "converged", "--timeout", str(timeout_s)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            code = await asyncio.wait_for(waiting.wait(), timeout_s + 10)
        except TimeoutError:
            waiting.kill()
            code = await waiting.wait()
        if code:
            raise BenchError(f"kvstore: not converged {timeout_s:.0f} s after its nodes were resumed (kv status ended with {code})")

    async def stop(self) -> None:
        """Ends `kv dev`, which ends its nodes; if it has to be killed, so have they."""
        self.resume()
        if not await stop(self._process):
            send_signal(self.pids, signal.SIGKILL)


async def start_cluster(folder: Path, *, nodes: int, command: Path = KV, options: Sequence[str] = ()) -> KvCluster:
    """Starts `nodes` nodes with their data below `folder` and further `options` of `kv dev`; returns when it says that they are
    ready. Raises `BenchError`."""
    if not command.exists():
        raise BenchError("kvstore: the kv command is not installed in this environment")
    folder.mkdir(parents=True)
    dev = ["dev", "--nodes", str(nodes), "--base-port", "0", "--data", str(folder / "data"), "-o", "json", *options]
    log = folder / "dev.log"
    process = await start([str(command), *dev], log=log, talks=True)
    try:
        ready = json.loads(await read_line(process, timeout_s=READY_TIMEOUT_S, what="kv dev", log=log))
        return KvCluster(process, ready, command)
    except BaseException:
        await stop(process)
        raise
