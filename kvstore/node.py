"""One node of a cluster: when it starts, stops and fails. What it consists of is assembly.py's, the steps of a start are
starting.py's, and what works without a network is local_node.py's. `kv serve` runs one of these, and so does the simulation, with
its own seams.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from kvproto.columns import NodeStatus
from kvproto.errors import KvError, ShuttingDown, StorageError
from kvstore.assembly import Assembly
from kvstore.config import NodeConfig
from kvstore.local_node import LocalNode
from kvstore.seams import ProductionSeams, Seams
from kvstore.starting import bring_up
from kvstore.telemetry import log


class Node:
    """A process's worth of a cluster. `seams` is where it meets the world; the machine's, if none are given."""

    def __init__(self, config: NodeConfig, seams: Seams | None = None) -> None:
        self.config = config
        self.failure: KvError | None = None
        self._seams = seams or ProductionSeams()
        self.parts = Assembly(config, self._seams, on_failure=self._fail, status=self.status)
        self._closed = asyncio.Event()
        self._stopping = False
        self._started_s = 0.0

    async def start(self) -> None:
        """Opens the data, listens, greets the peers, serves. Raises a `KvError` that says in a sentence why it does not start."""
        config = self.config
        try:
            self.parts.build()
            await bring_up(self.parts, self._go_on)
        except BaseException as error:
            if not self._stopping:
                await self.parts.close()
                raise
            await self._closed.wait()  # we were stopped while we started; by a failed disk, or by our owner
            if self.failure is not None:
                raise self.failure from error
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling():
                # A call to a peer was cut short by our own end: nobody has cancelled the one who waits for us.
                raise ShuttingDown(f"{config.node_id} was stopped while it started", subject=config.node_id) from error
            raise
        self._started_s = asyncio.get_running_loop().time()
        log.info("node_ready", node=config.node_id, address=config.listen, cluster=config.cluster.id, peers=len(config.peers))

    async def wait_closed(self) -> None:
        """Returns when the node has stopped, of itself (`failure`) or by `stop`."""
        await self._closed.wait()

    async def stop(self) -> None:
        """Answers what is in flight, makes everything durable, leaves the clean-shutdown marker. Idempotent."""
        if self._stopping:
            await self._closed.wait()
            return
        self._stopping = True
        try:
            await self.parts.close()
        finally:
            self._closed.set()

    @property
    def certificate_expires_at_ms(self) -> int | None:
        """When this node's certificate expires, Unix time; None without [tls]."""
        return self._seams.security.expires_at_ms

    @property
    def local(self) -> LocalNode | None:
        """What works without a network, once it is built; for tests and simulation."""
        return self.parts.local

    def link_states(self) -> tuple[tuple[str, str, int], ...]:
        """(id, state, queued operations) of every peer, as this node sees its links."""
        return self.parts.peers.states() if self.parts.peers is not None else ()

    async def status(self) -> NodeStatus:
        """This node's own numbers."""
        local, detection = self.parts.local, self.parts.detection
        assert local is not None and detection is not None, "asked through our own server"
        status = await local.status(self.link_states(), asyncio.get_running_loop().time() - self._started_s)
        return replace(status, incarnation=detection.incarnation, health=detection.health, opinions=detection.describe())

    def check(self) -> None:
        """Asserts the invariants of every state machine; for tests and simulation."""
        self.parts.check()

    def _go_on(self) -> None:
        """After each wait of a start: whoever stopped us meanwhile, or whatever failed, has the last word."""
        if self.failure is not None:
            raise self.failure
        if self._stopping:
            raise ShuttingDown(f"{self.config.node_id} was stopped while it started", subject=self.config.node_id)

    def _fail(self, error: StorageError) -> None:
        """A write or sync failed: nothing is acknowledged from here on, and the process ends (safety rule 4)."""
        if self.failure is not None:
            return
        self.failure = StorageError(
            f"{self.config.node_id} stops: {error.message}; start it again once the disk is well", subject=str(self.config.data)
        )
        log.error("storage_failed", reason=error.message)
        if self.parts.local is not None:
            self.parts.local.coordinator.stopped = StorageError(
                f"{self.config.node_id} stopped acknowledging: {error.message}", may_have_applied=True, retryable=True
            )
        self._stop_task = asyncio.get_running_loop().create_task(self.stop(), name=f"stop@{self.config.node_id}")
