"""The peer transport's contract: what a coordinator may ask of other nodes, and how the answers come.

Work is handed over in chunks and coalesced per peer; answers arrive by callback on the event loop, once per chunk and never before
the call has returned. A peer that cannot be reached answers so at once: the quorum goes on with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from kvproto.columns import GroupReply, NodeStatus, OperationGroup
from kvproto.errors import DeadlineExceeded, KvError
from kvstore.core.merkle.questions import Question, Reply
from kvstore.core.page import Page

GRPC, FRAMES = "grpc", "frames"
"""What carries the stream to a peer."""


class StoreChunk:
    """Whole records for one peer to merge. Answered with `error` (nothing counts) or `refused` positions (all others are durable).
    `since_ms`: when the records were read, wall time; 0: when the message leaves (safety rule 9). `ring_hash`: of the ring by which
    the peer counts; 0 for any. `target`: the home replica in whose place it holds them; "" if it is one itself. `trace`: the id of
    the batch it is of, if it has one. For the slow log: when it was sent and answered, by the loop's clock, 0 if it was not, and
    how long the peer's disk took."""

    __slots__ = (
        "answered",
        "count",
        "deadline_s",
        "disk_ms",
        "error",
        "heard_s",
        "keys",
        "node",
        "records",
        "refused",
        "ring_hash",
        "sent_s",
        "since_ms",
        "size_bytes",
        "target",
        "trace",
    )

    def __init__(
        self,
        node: str,
        keys: Sequence[bytes],
        records: Sequence[bytes],
        size_bytes: int,
        deadline_s: float,
        answered: Callable[[StoreChunk], None],
        ring_hash: int = 0,
        trace: bytes = b"",
        target: str = "",
        since_ms: int = 0,
    ) -> None:
        self.ring_hash = ring_hash
        self.since_ms = since_ms
        self.trace = trace
        self.target = target
        self.sent_s = self.heard_s = 0.0
        self.disk_ms = 0
        self.node = node
        self.keys = keys
        self.records = records
        self.count = len(keys)
        self.size_bytes = size_bytes
        self.deadline_s = deadline_s
        self.answered = answered
        self.error: KvError | None = None
        self.refused: Sequence[int] = ()

    def expire(self) -> None:
        """Dropped before it was sent."""
        self.fail(_expired(self.node))

    def fail(self, error: KvError) -> None:
        """The answer is an error."""
        self.error = error
        self.answered(self)


class FetchChunk:
    """Keys to compare with what the asker holds: `digests` are 8 bytes a key. Answered with the positions that differ there and
    their records (None: nothing is held), and the positions that are `lost`. `answered_below`: where the answer ends, if what
    differs is more than may be held at once; else `count`. `rebuilding`: what the peer holds is not all that it has acknowledged,
    so its answer is no vote. The rest as in `StoreChunk`."""

    __slots__ = (
        "answered",
        "answered_below",
        "count",
        "deadline_s",
        "differing",
        "digests",
        "disk_ms",
        "error",
        "heard_s",
        "keys",
        "lost",
        "node",
        "rebuilding",
        "records",
        "ring_hash",
        "sent_s",
        "size_bytes",
        "trace",
    )

    def __init__(
        self,
        node: str,
        keys: Sequence[bytes],
        digests: bytes,
        size_bytes: int,
        deadline_s: float,
        answered: Callable[[FetchChunk], None],
        ring_hash: int = 0,
        trace: bytes = b"",
    ) -> None:
        self.ring_hash = ring_hash
        self.trace = trace
        self.sent_s = self.heard_s = 0.0
        self.disk_ms = 0
        self.node = node
        self.keys = keys
        self.digests = digests
        self.count = self.answered_below = len(keys)
        self.size_bytes = size_bytes
        self.deadline_s = deadline_s
        self.answered = answered
        self.error: KvError | None = None
        self.differing: Sequence[int] = ()
        self.records: Sequence[bytes] = ()
        self.lost: Sequence[int] = ()
        self.rebuilding = False

    def expire(self) -> None:
        """Dropped before it was sent."""
        self.fail(_expired(self.node))

    def fail(self, error: KvError) -> None:
        """The answer is an error."""
        self.error = error
        self.answered(self)


class RegisterChunk:
    """One question to a peer's acceptor, as bytes of core/register/messages.py; answered with the bytes of its reply, or an error:
    then what was asked may have been done all the same. The rest as in `StoreChunk`."""

    __slots__ = (
        "answered",
        "ask",
        "count",
        "deadline_s",
        "disk_ms",
        "error",
        "heard_s",
        "node",
        "reply",
        "ring_hash",
        "sent_s",
        "size_bytes",
        "trace",
    )

    def __init__(
        self,
        node: str,
        ask: bytes,
        count: int,
        deadline_s: float,
        answered: Callable[[RegisterChunk], None],
        ring_hash: int = 0,
        trace: bytes = b"",
    ) -> None:
        self.node = node
        self.ask = ask
        self.count = count
        self.size_bytes = len(ask)
        self.deadline_s = deadline_s
        self.answered = answered
        self.ring_hash = ring_hash
        self.trace = trace
        self.sent_s = self.heard_s = 0.0
        self.disk_ms = 0
        self.error: KvError | None = None
        self.reply = b""

    def expire(self) -> None:
        """Dropped before it was sent."""
        self.fail(_expired(self.node))

    def fail(self, error: KvError) -> None:
        """The answer is an error."""
        self.error = error
        self.answered(self)


Chunk = StoreChunk | FetchChunk | RegisterChunk


class ReapStep(IntEnum):
    """What a node is asked about tombstones; see repair/reap_votes.py."""

    TELL_TIME = 0
    CONFIRM = 1
    PREPARE = 2
    REAP = 3


@dataclass(slots=True, frozen=True)
class ReapQuestion:
    """About the records of `store_keys` with `digests`, 8 bytes a key. `stamp` numbers the reaping."""

    step: ReapStep
    store_keys: Sequence[bytes] = ()
    digests: bytes = b""
    stamp: int = 0


@dataclass(slots=True, frozen=True)
class ReapAnswer:
    """Positions that must stay, the wall time there, and the highest stamp remembered of these partitions."""

    against: Sequence[int]
    now_ms: int
    stamp: int


class PeerTransport(Protocol):
    """How a coordinator reaches the other nodes of the ring, by node id."""

    def store(self, chunk: StoreChunk) -> None:
        """Sends records; `chunk.answered` is called once."""

    def fetch(self, chunk: FetchChunk) -> None:
        """Asks for what differs; `chunk.answered` is called once."""

    def register(self, chunk: RegisterChunk) -> None:
        """Asks the acceptor of a peer; `chunk.answered` is called once."""

    async def page(
        self, node: str, namespace: int, start: bytes, end: bytes, count_max: int, bytes_max: int, timeout_s: float
    ) -> Page:
        """One page of what `node` holds. Raises `KvError`."""

    async def compare(self, node: str, question: Question, timeout_s: float, *, urgent: bool = False) -> Reply:
        """What `node` answers to a question of anti-entropy (core/merkle/questions.py says which kind). Raises `KvError`, of which
        `Overloaded` says that it is in an exchange with somebody else; not to what is `urgent`."""

    async def forward(self, node: str, group: OperationGroup, timeout_s: float, trace: bytes = b"") -> list[GroupReply]:
        """Has `node`, a home replica, coordinate `group`, under the id `trace`. Raises `KvError`."""

    async def reap(self, node: str, question: ReapQuestion, timeout_s: float) -> ReapAnswer:
        """What `node` says to the end of tombstones. Raises `KvError`."""

    async def owe(self, node: str, partitions: Collection[int], timeout_s: float) -> None:
        """Tells `node` of which partitions we have undelivered hints. Raises `KvError`."""

    async def catalog(self, node: str, revision: int, data: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Tells `node` that we go by `revision` of the namespaces, and its bytes unless they are b""; what it goes by then, and the
        bytes of that if it is newer. Raises `KvError`."""

    async def status(self, node: str, timeout_s: float) -> NodeStatus:
        """The peer's own numbers. Raises `KvError`."""

    def reachable(self, node: str) -> bool:
        """Whether the link to `node` is up: a local opinion that steers whom to ask first."""

    def lag_s(self, node: str) -> float:
        """How long `node` has owed an answer; 0 when it owes none. Steers whom to ask first."""

    def queued(self, node: str) -> int:
        """Operations that wait for the next message to `node`: what is not urgent waits until there are none."""


def _expired(node: str) -> KvError:
    return DeadlineExceeded(f"the deadline passed before {node} was asked", subject=node)
