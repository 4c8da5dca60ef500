"""The client's seam to a node: what gRPC, the embedded store and a simulated network each implement.

One `Transport` is one node. Batches are columns (`kvproto.columns`); only the gRPC transport turns them into messages, in-process
ones pass the very objects. Everything is called from, and answers on, one event loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from kvclient.errors import BadRequest
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

EMBEDDED_GROUP = "kvclient.embedded"

OnReply = Callable[[list[GroupReply], bool], None]
"""Takes one part of the answer to a batch and whether it was the last. `GroupReply.group` indexes the groups of the batch."""


class Transport(Protocol):
    """A node, as its clients reach it."""

    def exchange(self, groups: list[OperationGroup], on_reply: OnReply) -> None:
        """Starts a batch and returns at once; never raises.

        `on_reply` is called with each part as it is decided, the last part with True, exactly once, whatever happens: a broken
        connection answers the groups that were open with an error each. Each position of a group is answered at most once; a
        position left open by the last part counts as failed, outcome unknown. May be called before `exchange` returns. The groups
        belong to the transport from here on.
        """

    async def describe(self) -> ClusterInfo:
        """The ring, limits and namespaces as the node knows them; also the probe of whether it answers. Raises `KvError`."""

    def scan(self, query: ScanQuery) -> AsyncIterator[ScanPage]:
        """Keys in order, page after page; a page with an error ends it. Raises `KvError` when the node cannot be reached."""

    async def status(self) -> NodeStatus:
        """The node's own numbers. Raises `KvError`."""

    async def repair(self, namespace: str, follow: int) -> RepairProgress:
        """Has the node compare its records of `namespace` ("": all) with its peers' and repair what differs; returns at once, with
        how far it is. `follow`: the `number` of the run that is meant; 0 begins one, or joins the one under way. Raises
        `KvError`."""

    async def accept_loss(self, nodes: Sequence[str]) -> LossAccepted:
        """Has the node, if it has lost its registers, not wait any longer for what `nodes` have lost of theirs. Raises
        `KvError`."""

    async def create_namespace(self, wish: NamespaceWish, timeout_s: float) -> NamespaceInfo:
        """Has the nodes agree on a namespace; what it is, once they have. Raises `KvError`."""

    async def drop_namespace(self, name: str, timeout_s: float) -> NamespaceInfo:
        """Has the nodes agree that a namespace is gone; what it was. Raises `KvError`."""

    async def close(self) -> None:
        """Answers what is in flight with errors and lets go of the node. Idempotent."""


class Ring:
    """What every message of a client says about the ring it routed by and who sent it, and where news of a newer ring go."""

    __slots__ = ("_trace_prefix", "_traces", "catalog_revision", "cluster_id", "epoch", "now_ms", "on_newer")

    def __init__(self, on_newer: Callable[[], None], trace_prefix: bytes = b"", now_ms: Callable[[], int] = lambda: 0) -> None:
        """`trace_prefix`: 8 bytes of this client alone; without them its requests are named by the nodes. `now_ms`: the clock that
        stamps its request ids; 0: not said."""
        self.now_ms = now_ms
        self._trace_prefix = trace_prefix
        self._traces = 0
        self.cluster_id = ""
        self.epoch = 0
        self.catalog_revision = 0
        self.on_newer = on_newer

    def next_trace(self) -> bytes:
        """The id under which nodes tell, in errors and logs, of the request that is sent next; b"": they find one."""
        if not self._trace_prefix:
            return b""
        self._traces += 1
        return self._trace_prefix + self._traces.to_bytes(8, "big")

    def seen(self, epoch: int) -> None:
        """A node answered by the ring of `epoch`. An older one is that node's to catch up on: fetching again would not help."""
        if epoch > self.epoch:
            self.on_newer()

    def seen_catalog(self, revision: int) -> None:
        """A node goes by that version of the namespaces; as `seen`."""
        if revision > self.catalog_revision:
            self.on_newer()


Dial = Callable[[str, Ring], Transport]
"""Makes the transport to an address; does no I/O yet."""


def open_embedded(url: str) -> Transport:
    """One node inside this process, by whatever is installed under the entry-point group `kvclient.embedded`.

    The entry point `node` is a callable that takes the URL and returns a `Transport`. Raises `BadRequest` when none is installed.
    """
    from importlib.metadata import entry_points  # 12 ms that a client of a cluster never needs

    for entry in entry_points(group=EMBEDDED_GROUP, name="node"):
        opened: Transport = entry.load()(url)
        return opened
    raise BadRequest(f"{url} needs a node in this process: install kvstore-server", subject=url)
