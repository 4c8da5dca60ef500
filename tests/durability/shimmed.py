"""A local cluster whose nodes run under the shim; and its second life without it, on the same directories."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvchaos.disks.cutting import CutReport, apply_cut, plan_cut
from kvchaos.disks.synced import Timeline, read_events, replay
from kvstore.commands.local_layout import NodePlace, plan_layout
from kvstore.commands.local_node import SERVE, LocalNode
from tests.durability.evidence import NodeEvidence, collect

# The smallest that the configuration takes: some thousand writes of a kilobyte fill it several times over, so that logs rotate.
LIMITS = "\n[limits]\nwrite_buffer_bytes = 1048576\n"
MOMENT_TIMEOUT_S = 60.0
LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class FailingSync:
    """The `at`-th sync, on `node`, of a file whose path contains `path` fails with EIO."""

    node: str
    at: int
    path: str = ".log"


class ShimmedCluster:
    """`nodes` processes under `library`, each recorded in a file of its own. `command` starts a node, by default `kv serve`."""

    def __init__(
        self,
        root: Path,
        library: Path,
        *,
        rng: random.Random,
        nodes: int = 3,
        command: Sequence[str] = SERVE,
        delay_ms: int = 0,
        failing: FailingSync | None = None,
    ) -> None:
        # Resolved: the shim learns the path of an open file from the kernel, and compares it with this.
        self._layout = plan_layout(root.resolve(), nodes=nodes, base_port=0, preset=None, rng=rng)
        self._library = library
        self._delay_ms = delay_ms
        self._failing = failing
        self.nodes = {place.id: LocalNode(place, command=self._under_shim(place, command)) for place in self._layout.nodes}

    @property
    def addresses(self) -> str:
        """Every node's address, as clients take them."""
        return ",".join(place.address for place in self._layout.nodes)

    async def __aenter__(self) -> ShimmedCluster:
        self._layout.write_configs()
        for place in self._layout.nodes:
            with place.config.open("a") as config:
                config.write(LIMITS)
            _kept(place).mkdir(parents=True)
        await self._start(self.nodes.values())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to all that live, at one moment; returns when they are gone."""
        for node in self.nodes.values():
            node.kill()
        await asyncio.gather(*(node.wait() for node in self.nodes.values() if node.started))

    async def kill_amid_a_write(self) -> None:
        """As `kill`, when some log holds what is not synced; on a busy machine all nodes may be waiting for their clients.
        Raises `TimeoutError` if none is found."""
        async with asyncio.timeout(MOMENT_TIMEOUT_S):
            while True:
                self._signal(signal.SIGSTOP)
                if any(_unsynced_bytes(timeline) for timeline in (await asyncio.to_thread(self.timelines)).values()):
                    break
                self._signal(signal.SIGCONT)
                await asyncio.sleep(LOOK_S)
        await self.kill()

    def _signal(self, number: int) -> None:
        for node in self.nodes.values():
            if (pid := node.pid) is not None:
                os.kill(pid, number)

    async def restart_plain(self) -> None:
        """Starts every node again on what lies in its directory, without the shim and as released."""
        self.nodes = {place.id: LocalNode(place) for place in self._layout.nodes}
        await self._start(self.nodes.values())

    def timelines(self) -> dict[str, Timeline]:
        """What the shim saw of each node's files."""
        return {place.id: replay(read_events(_events(place))) for place in self._layout.nodes}

    def evidence(self, timelines: Mapping[str, Timeline]) -> dict[str, NodeEvidence]:
        """What each node had made durable and when; the nodes must be down, and not cut back yet."""
        return {place.id: collect(timelines[place.id], _kept(place)) for place in self._layout.nodes}

    def cut_back(self, timelines: Mapping[str, Timeline], *, tear: random.Random | None = None) -> CutReport:
        """Takes from every node's directory what was not synced, with `tear` not all of it; the nodes must be down."""
        total = CutReport()
        for place in self._layout.nodes:
            synced, left = plan_cut(timelines[place.id]), plan_cut(timelines[place.id], tear)
            one = apply_cut(place.data, left)
            total.torn_bytes += sum(left.values()) - sum(synced.values())
            total.files_cut += one.files_cut
            total.files_removed += one.files_removed
            total.bytes_lost += one.bytes_lost
        return total

    def place(self, node: str) -> NodePlace:
        """Where a node lies."""
        return self.nodes[node].place

    async def _start(self, nodes: Iterable[LocalNode]) -> None:
        try:
            async with asyncio.TaskGroup() as starts:
                for node in nodes:
                    starts.create_task(node.start())
        except BaseException:
            await self.kill()
            raise

    def _under_shim(self, place: NodePlace, command: Sequence[str]) -> tuple[str, ...]:
        """`env` sets what the shim wants to know, for this process only, and becomes it."""
        settings = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "LD_PRELOAD": self._library,
            "KV_SHIM_ROOT": place.data,
            "KV_SHIM_LOG": _events(place),
            "KV_SHIM_KEEP": _kept(place),
            "KV_SHIM_DELAY_MS": self._delay_ms,
        }
        if self._failing is not None and self._failing.node == place.id:
            settings |= {"KV_SHIM_FAIL_AT": self._failing.at, "KV_SHIM_FAIL_PATH": self._failing.path}
        return ("env", *(f"{name}={value}" for name, value in settings.items()), *command)


def _events(place: NodePlace) -> Path:
    return place.folder / "events.tsv"


def _kept(place: NodePlace) -> Path:
    return place.folder / "kept"


def _unsynced_bytes(timeline: Timeline) -> int:
    return sum(life.length - (life.synced_length or 0) for path, life in timeline.files.items() if path.endswith(".log"))
