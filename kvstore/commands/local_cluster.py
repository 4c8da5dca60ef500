"""A cluster on this machine, one process per node: brought up, watched, acted on and ended; what `kv dev` and `kv demo` run.

A node that dies is reported and left down, unless `restart_dead` is set. Whatever happens, `stop` ends exactly the processes
started here.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvproto.errors import KvError, UserError
from kvstore.commands.local_layout import CLUSTER_FILE, FORMAT, ClusterLayout, replace_file
from kvstore.commands.local_node import LocalNode
from kvstore.commands.ports import why_not_listen
from kvstore.config.table import did_you_mean

ACTIONS = ("restart", "stop", "pause", "resume", "wipe")


@dataclass(frozen=True, slots=True)
class Death:
    """A node ended and nobody here had asked it to. `code`: its exit code, negative for a signal; `restarted`: it is up again."""

    node: str
    pid: int
    code: int
    last_words: str
    restarted: bool = False

    def sentence(self) -> str:
        """What to tell a person."""
        how = f"was killed by signal {-self.code}" if self.code < 0 else f"ended with {self.code}: {self.last_words}"
        return f"{self.node} (pid {self.pid}) {how}; " + ("started again" if self.restarted else "left down")


class LocalCluster:
    """The nodes of one layout. Not safe for use from several threads."""

    def __init__(
        self,
        layout: ClusterLayout,
        *,
        command: Sequence[str] | None = None,
        restart_dead: bool = False,
        on_death: Callable[[Death], None] | None = None,
    ) -> None:
        self.layout = layout
        self.control: Path | None = None
        self._nodes = {place.id: LocalNode(place, command=command) for place in layout.nodes}
        self._restart_dead = restart_dead
        self._on_death = on_death
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    @property
    def addresses(self) -> str:
        """Every node's address, as clients take them."""
        return ",".join(place.address for place in self.layout.nodes)

    @property
    def pids(self) -> dict[str, int | None]:
        """The process id of each node, None while it is down."""
        return {name: node.pid for name, node in self._nodes.items()}

    def rows(self) -> list[dict[str, object]]:
        """One row a node, as in the ready line."""
        return [node.row() for node in self._nodes.values()]

    async def start(self) -> None:
        """Brings every node up and returns when all are ready; else ends what it started and raises what the first one said."""
        self._refuse_taken_ports()
        self.layout.write_configs()
        self.write_file()
        starts = [asyncio.ensure_future(self._start(node)) for node in self._nodes.values()]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends every node, all at once; can be called again."""
        self._stopping = True
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        self._watchers.clear()
        await asyncio.gather(*(node.end() for node in self._nodes.values()))
        self.control = None
        self.write_file()

    def kill_now(self) -> None:
        """SIGKILL to whatever still lives, without waiting: for somebody who presses Ctrl-C again."""
        for node in self._nodes.values():
            node.kill()

    async def kill(self, node_id: str) -> None:
        """SIGKILL, as a crash: nothing is said to the process. It stays down."""
        node = self._node(node_id)
        async with node.lock:
            await node.crash()
            self.write_file()

    async def act(self, action: str, node_id: str) -> dict[str, object]:
        """One of `ACTIONS` on one node; its row afterwards. Raises `UserError`, or `ClusterError` when it does not come up."""
        if action not in ACTIONS:
            raise UserError(f"{action!r} is not an action; {did_you_mean(action, ACTIONS)}")
        node = self._node(node_id)
        async with node.lock:
            if action in ("restart", "stop"):
                await node.end()
            if action == "restart":
                await self._start(node)
            elif action == "pause":
                await node.pause()
            elif action == "resume":
                node.resume()
            elif action == "wipe":
                await node.wipe()
            self.write_file()
        return {**node.row(), "state": node.state.value}

    def write_file(self) -> None:
        """DATA/cluster.json: what is needed to come up again, to act on a node from another process, and to see the pids."""
        body = {
            "format": FORMAT,
            "cluster_id": self.layout.cluster_id,
            "preset": self.layout.preset,
            "tls": self.layout.tls,
            "policies": dict(self.layout.policies),
            "supervisor_pid": os.getpid() if self.control else None,
            "control": str(self.control) if self.control else None,
            "nodes": [{**node.row(), "state": node.state.value} for node in self._nodes.values()],
        }
        self.layout.root.mkdir(parents=True, exist_ok=True)
        replace_file(self.layout.root / CLUSTER_FILE, json.dumps(body, indent=2) + "\n")

    def _node(self, node_id: str) -> LocalNode:
        if node_id not in self._nodes:
            raise UserError(f"no node {node_id!r}; {did_you_mean(node_id, list(self._nodes))}", subject=node_id)
        return self._nodes[node_id]

    def _refuse_taken_ports(self) -> None:
        addresses = [address for place in self.layout.nodes for address in (place.address, place.http)]
        reasons = [reason for address in addresses if (reason := why_not_listen(address))]
        if reasons:
            raise UserError("; ".join(reasons) + ": choose another --base-port, or 0 for free ones", subject="base-port")

    async def _start(self, node: LocalNode) -> None:
        await node.start()
        self._watchers[node.place.id] = asyncio.create_task(self._watch(node), name=f"watch@{node.place.id}")
        self.write_file()

    async def _watch(self, node: LocalNode) -> None:
        """Waits for this life of the node to end, and reports it when nobody here had ended it."""
        life, pid = node.started, node.pid or 0
        code = await node.wait()
        if node.ended_by_us(life) or self._stopping:
            return
        last_words = node.last_words()
        async with node.lock:
            # Somebody may have asked for a restart before we came to it.
            restarted = node.pid is not None or (self._restart_dead and await self._try_start(node))
            self.write_file()
        if self._on_death:
            self._on_death(Death(node.place.id, pid, code, last_words, restarted))

    async def _try_start(self, node: LocalNode) -> bool:
        # A node that does not even come up is left down: starting it for ever would only heat the machine.
        try:
            await self._start(node)
        except KvError:
            return False
        return True
