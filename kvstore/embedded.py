"""One node inside the caller's process, without a network: `embedded:/path` on LevelDB, `embedded::memory:NAME` in memory.

The node runs on a thread and an event loop of its own, because its callers come from any loop and thread and the same URL in one
process is the same store. Opens are counted; the last close ends it. Found by the client through the entry-point group
`kvclient.embedded`; what `open_embedded` returns keeps `kvclient.transport.Transport`.

`?namespaces=hits:counter,tags:set` declares namespaces and their policies; a directory remembers those it has had.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from kvproto.columns import (
    ClusterInfo,
    GroupReply,
    LossAccepted,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    OperationGroup,
    RepairProgress,
    ScanPage,
    ScanQuery,
)
from kvproto.errors import AvailabilityError, BadRequest, KvError, ShuttingDown, StorageError
from kvstore.config import ClusterConfig, NodeConfig
from kvstore.config.loading import PRESETS
from kvstore.config.values import DEFAULT_NAMESPACE, DEFAULT_NAMESPACE_ID, LINEARIZABLE, NamespaceConfig, mode_of
from kvstore.core.catalog.settings import NAME, NAME_RULE
from kvstore.core.merkle.questions import Question, Reply
from kvstore.core.page import Page
from kvstore.core.policies.registry import POLICIES
from kvstore.event_loop import new_event_loop
from kvstore.local_node import LocalNode
from kvstore.runtime import SystemClock, system_random
from kvstore.storage.catalogs import load_catalog
from kvstore.storage.directory import DataDirectory, open_directory
from kvstore.storage.disk_engine import open_disk_engine
from kvstore.storage.engine import Engine
from kvstore.storage.memory import MemoryEngine
from kvstore.storage.namespaces import remember_namespaces, remember_policies, remembered_namespaces
from kvstore.telemetry.node import Telemetry
from kvstore.transport.peers import FetchChunk, ReapAnswer, ReapQuestion, RegisterChunk, StoreChunk

PREFIX = "embedded:"
MEMORY_PREFIX = "embedded::memory:"
NODE_ID = "embedded"
NAMESPACES = "?namespaces="

T = TypeVar("T")


class NoPeers:
    """The peer transport of a node that is alone."""

    def store(self, chunk: StoreChunk) -> None:
        """Never asked: there is nobody."""
        raise AssertionError(chunk.node)

    def fetch(self, chunk: FetchChunk) -> None:
        """Never asked: there is nobody."""
        raise AssertionError(chunk.node)

    def register(self, chunk: RegisterChunk) -> None:
        """Never asked: there is nobody."""
        raise AssertionError(chunk.node)

    async def page(
        self, node: str, namespace: int, start: bytes, end: bytes, count_max: int, bytes_max: int, timeout_s: float
    ) -> Page:
        """Nobody to ask."""
        raise AvailabilityError(f"there is no node {node}", subject=node)

    async def compare(self, node: str, question: Question, timeout_s: float, *, urgent: bool = False) -> Reply:
        """Nobody to ask."""
        raise AvailabilityError(f"there is no node {node}", subject=node)

    async def forward(self, node: str, group: OperationGroup, timeout_s: float, trace: bytes = b"") -> list[GroupReply]:
        """Nobody to ask."""
        raise AvailabilityError(f"there is no node {node}", subject=node)

    async def reap(self, node: str, question: ReapQuestion, timeout_s: float) -> ReapAnswer:
        """Nobody to ask."""
        raise AvailabilityError(f"there is no node {node}", subject=node)

    async def owe(self, node: str, partitions: Collection[int], timeout_s: float) -> None:
        """Nobody to tell."""
        raise AvailabilityError(f"there is no node {node}", subject=node)

    async def catalog(self, node: str, revision: int, data: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Nobody to tell."""
        raise AvailabilityError(f"there is no node {node}", subject=node)

    async def status(self, node: str, timeout_s: float) -> NodeStatus:
        """Nobody to ask."""
        raise AvailabilityError(f"there is no node {node}", subject=node)

    def reachable(self, node: str) -> bool:
        """Nobody is."""
        return False

    def lag_s(self, node: str) -> float:
        """Nobody owes anything."""
        return 0.0

    def queued(self, node: str) -> int:
        """Nothing waits for anybody."""
        return 0


class EmbeddedNode:
    """A node on its own thread, shared by everybody in this process who opened its URL."""

    def __init__(self, url: str, declared: Mapping[str, str]) -> None:
        self.url = url
        self.declared = declared
        self.opens = 0
        self.failure: StorageError | None = None
        self.loop = new_event_loop()
        self._directory: DataDirectory | None = None
        self._thread = threading.Thread(target=self.loop.run_forever, name=url, daemon=True)
        self._thread.start()
        try:
            self.local: LocalNode = self.run(self._start())
        except BaseException:
            self._end_thread()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` on the node's loop and waits for it; not to be called from that loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def stop(self) -> None:
        """Makes everything durable, leaves the clean-shutdown marker, ends the thread."""
        try:
            self.run(self._stop())
        finally:
            self._end_thread()

    async def _start(self) -> LocalNode:
        clock, rng = SystemClock(), system_random()
        engine: Engine
        path = Path()
        if self.url.startswith(MEMORY_PREFIX):
            engine = MemoryEngine()
        else:
            path = _path_of(self.url)
            self._directory = open_directory(path, cluster_id=NODE_ID, node_id=NODE_ID)
            try:
                engine = open_disk_engine(self._directory.subdirectory("data"))
            except BaseException:
                self._directory.close()
                raise
        durable = self._directory is not None
        try:
            namespaces = _namespaces(engine, self.declared)
            load_catalog(engine, frozenset(namespaces))
        except BaseException:
            engine.close()
            if self._directory is not None:
                self._directory.close()
            raise
        # One node owns everything: partitions only cost seeks in a scan.
        cluster = ClusterConfig(id=NODE_ID, partitions=1, namespaces=namespaces)
        config = NodeConfig(node_id=NODE_ID, listen="", data=path, cluster=cluster)
        telemetry = Telemetry(self.loop.time, metrics=False, slow_batch_s=0)
        local = LocalNode(
            config, engine, NoPeers(), clock=clock, rng=rng, on_failure=self._fail, durable=durable, telemetry=telemetry
        )
        await local.ledger.leased()
        local.upkeep.reaper.start()
        local.namespaces.start()
        return local

    async def _stop(self) -> None:
        state = await self.local.close()
        if self._directory is not None:
            self._directory.close(state)

    def _fail(self, error: StorageError) -> None:
        self.failure = error
        self.local.coordinator.stopped = StorageError(
            f"{self.url} stopped acknowledging: {error.message}; close it and open it again", may_have_applied=True
        )

    def _end_thread(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


_open: dict[str, EmbeddedNode] = {}
_lock = threading.Lock()
_parents: list[EmbeddedNode] = []


def _after_fork() -> None:
    """In the child: what was open is the parent's. Kept, because closing a database without its threads would wait for ever."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _parents.extend(_open.values())
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)


def open_embedded(url: str) -> EmbeddedTransport:
    """The store of `url`, opened or opened once more. Raises `StorageError` when the directory cannot be had, `BadRequest` for a
    URL
    that names none."""
    url, _, text = url.partition(NAMESPACES)
    declared = _declared(text)
    where = url.removeprefix(PREFIX)
    if not url.startswith(PREFIX) or not where or url == MEMORY_PREFIX:
        raise BadRequest(f"{url!r} names no store: embedded:/path or embedded::memory:NAME", subject=url)
    key = url if url.startswith(MEMORY_PREFIX) else PREFIX + str(_path_of(url))
    with _lock:
        node = _open.get(key)
        if node is None:
            node = _open[key] = EmbeddedNode(key, declared)
        spaces = node.local.view.spaces
        missing = [name for name, policy in declared.items() if name not in spaces or _kind_of(spaces[name].info) != policy]
        if missing:
            said = f"{key} is open in this process without a namespace {missing[0]!r} of policy {declared[missing[0]]}"
            raise BadRequest(f"{said}: whoever opens it first has to declare it", subject=missing[0])
        node.opens += 1
    return EmbeddedTransport(key, node)


def _declared(text: str) -> dict[str, str]:
    """Name to policy of what stands behind `NAMESPACES`. Raises `BadRequest`."""
    declared: dict[str, str] = {}
    for one in filter(None, text.split(",")):
        name, colon, policy = one.partition(":")
        declared[name] = policy if colon else NamespaceConfig().policy
        if policy in PRESETS and mode_of(policy) == LINEARIZABLE:
            declared[name] = LINEARIZABLE
        if not NAME.fullmatch(name):
            raise BadRequest(f"{name!r} is not a name for a namespace: {NAME_RULE}", subject="namespaces")
        if declared[name] not in (*POLICIES, LINEARIZABLE):
            raise BadRequest(
                f"{policy!r} is no policy of an embedded store; there are {', '.join(POLICIES)}, and the preset pc-ec",
                subject="namespaces",
            )
    return declared


def _namespaces(engine: Engine, declared: Mapping[str, str]) -> dict[str, NamespaceConfig]:
    """What the store has had and what is declared, remembered. Raises `ClusterError` for a policy that it was not written under."""
    had = remembered_namespaces(engine)
    known = {name: pair for name, pair in had.items() if pair[1] in (*POLICIES, LINEARIZABLE)}
    known.setdefault(DEFAULT_NAMESPACE, (DEFAULT_NAMESPACE_ID, NamespaceConfig().policy))
    for name, policy in declared.items():
        number = known[name][0] if name in known else max(number for number, _ in (*had.values(), *known.values())) + 1
        known[name] = (number, policy)
    remember_namespaces(engine, {name: number for name, (number, _) in known.items()})
    remember_policies(engine, known, partitions=1)
    return {name: _namespace(number, name, policy) for name, (number, policy) in known.items()}


def _kind_of(info: NamespaceInfo) -> str:
    return LINEARIZABLE if info.mode == LINEARIZABLE else info.policy


def _namespace(number: int, name: str, policy: str) -> NamespaceConfig:
    if policy == LINEARIZABLE:
        return NamespaceConfig(id=number, name=name, mode=LINEARIZABLE, preset="pc-ec")
    return NamespaceConfig(id=number, name=name, policy=policy)


def _path_of(url: str) -> Path:
    return Path(url.removeprefix(PREFIX)).expanduser().resolve()


def _release(key: str, node: EmbeddedNode) -> None:
    with _lock:
        node.opens -= 1
        if node.opens:
            return
        del _open[key]
        node.stop()


class EmbeddedTransport:
    """One opening of an embedded store; answers on the loop it is called from."""

    def __init__(self, key: str, node: EmbeddedNode) -> None:
        self._key = key
        self._node = node
        self._pid = os.getpid()
        self._closed = False

    def exchange(self, groups: list[OperationGroup], on_reply: Callable[[list[GroupReply], bool], None]) -> None:
        """Starts a batch; `on_reply` is called on the caller's loop."""
        refusal = self._refusal()
        if refusal is not None:
            on_reply([GroupReply(index, error=refusal) for index in range(len(groups))], True)
            return
        mine = asyncio.get_running_loop()

        def reply(replies: list[GroupReply], last: bool) -> None:
            mine.call_soon_threadsafe(on_reply, replies, last)

        node = self._node
        asyncio.run_coroutine_threadsafe(node.local.coordinator.execute(groups, reply), node.loop)

    async def describe(self) -> ClusterInfo:
        """The ring of one node, the limits and namespaces."""
        self._check()
        return self._node.local.describe()

    async def scan(self, query: ScanQuery) -> AsyncIterator[ScanPage]:
        """Pages in key order."""
        self._check()
        pages = self._node.local.coordinator.scan(query)

        async def step() -> ScanPage | None:
            return await anext(pages, None)

        while (page := await self._there(step())) is not None:
            yield page

    async def status(self) -> NodeStatus:
        """The node's own numbers."""
        self._check()
        return await self._there(self._node.local.status())

    async def repair(self, namespace: str, follow: int) -> RepairProgress:
        """There is nobody to compare with."""
        self._check()
        return self._node.local.compare_now(namespace, follow)

    async def accept_loss(self, nodes: Sequence[str]) -> LossAccepted:
        """There is nobody to wait for."""
        self._check()
        return self._node.local.accept_loss(nodes)

    async def create_namespace(self, wish: NamespaceWish, timeout_s: float) -> NamespaceInfo:
        """Makes it, and remembers it with the store."""
        self._check()
        return (await self._there(self._node.local.namespaces.create(wish, timeout_s)))[0]

    async def drop_namespace(self, name: str, timeout_s: float) -> NamespaceInfo:
        """Drops it, with everything in it."""
        self._check()
        return (await self._there(self._node.local.namespaces.drop(name, timeout_s)))[0]

    async def close(self) -> None:
        """Lets go of the store; the last one to do so ends it. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return  # a fork has no thread to stop, and the store is its parent's
        await asyncio.get_running_loop().run_in_executor(None, _release, self._key, self._node)

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._node.loop))

    def _check(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            raise refusal

    def _refusal(self) -> KvError | None:
        if self._pid != os.getpid():
            return StorageError(
                f"{self._key} was opened by process {self._pid}, before this one was forked: open it again after the fork"
            )
        if self._closed:
            return ShuttingDown(f"{self._key} was closed here", retryable=False)
        return None
