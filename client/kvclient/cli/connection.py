"""The one place where a command gets its client, and what it needs of it.

Tests replace `connect` with a store in memory; the protocols say what that must offer. They are a subset of the client's public
interface, so that a command cannot come to depend on anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from kvclient.cli.options import DEFAULT_AT
from kvproto.errors import AvailabilityError

if TYPE_CHECKING:
    from kvclient.cli.options import Options
    from kvclient.levels import LevelLike
    from kvproto.columns import Cell, ClusterInfo, LossAccepted, NamespaceInfo, NodeStatus, Receipt, RepairProgress

T = TypeVar("T")

KEEPER = "kvclient.cli.keeper"  # in a click context's meta: the `Keeper` of the shell that the command was typed in


class Entry(Protocol):
    """What a read found; the columns of siblings are parallel."""

    @property
    def found(self) -> bool:
        """Whether the key holds anything."""

    @property
    def values(self) -> Sequence[bytes]:
        """Every sibling's value."""

    @property
    def versions(self) -> Sequence[str]:
        """Every sibling's version, 40 hex digits."""

    @property
    def expiries(self) -> Sequence[float | None]:
        """When each value expires."""

    @property
    def cells(self) -> Sequence[tuple[Cell, bytes, bytes, float | None]]:
        """What a counter, set or map is made of: kind, field, value, when it expires."""

    @property
    def policy(self) -> str:
        """What the key holds: counter, set or map; empty for plain values."""

    @property
    def number(self) -> int:
        """A counter's."""

    @property
    def members(self) -> frozenset[bytes]:
        """A set's."""

    @property
    def registers(self) -> Mapping[bytes, bytes]:
        """A map's fields that hold values."""

    @property
    def counters(self) -> Mapping[bytes, int]:
        """A map's fields that are counters."""

    @property
    def sets(self) -> Mapping[bytes, frozenset[bytes]]:
        """A map's fields that are sets."""

    @property
    def context(self) -> bytes:
        """Supersedes every sibling that was read."""

    @property
    def expires_at(self) -> float | None:
        """Unix time in seconds; None: never."""

    @property
    def receipt(self) -> Receipt:
        """How the answer came about."""


class ScannedEntry(Entry, Protocol):
    """An entry with its key, as a scan yields it."""

    @property
    def key(self) -> bytes:
        """The key."""


class Written(Protocol):
    """What a put or delete came to."""

    @property
    def version(self) -> str:
        """The write's version, 40 hex digits."""

    @property
    def context(self) -> bytes:
        """Supersedes what the coordinator now holds."""

    @property
    def receipt(self) -> Receipt:
        """Who has stored it."""

    @property
    def siblings(self) -> int:
        """How many values the key holds now."""


class Counted(Written, Protocol):
    """What an increment came to."""

    @property
    def value(self) -> int:
        """What the counter holds."""


class Lease(Protocol):
    """What the holder of a lock has."""

    @property
    def token(self) -> int:
        """Greater than every holder's before."""

    @property
    def lost(self) -> asyncio.Event:
        """Set once somebody else may hold the lock."""


class Lock(Protocol):
    """One way of taking a lock."""

    async def acquire(self) -> Lease:
        """Waits for it; raises `AvailabilityError` if it was not had."""

    async def release(self) -> None:
        """Gives it back."""


class Namespace(Protocol):
    """The operations of one namespace; options are keyword arguments (`level`, `r`, `w`, `timeout_s`, `explain`, …).

    All raise `KvError`; those on many keys raise `BatchError`, which holds what succeeded.
    """

    async def get(self, key: bytes, *args: Any, **options: Any) -> Entry:
        """Reads one key."""

    async def put(self, key: bytes, value: bytes, *args: Any, **options: Any) -> Written:
        """Stores one value."""

    async def delete(self, key: bytes, *args: Any, **options: Any) -> Written:
        """Deletes one key."""

    async def touch(self, key: bytes, *args: Any, **options: Any) -> Written:
        """Gives one key another time to live."""

    async def compare_and_set(self, key: bytes, old: bytes | None, new: bytes, *args: Any, **options: Any) -> Written:
        """Stores one value for another."""

    def lock(self, name: bytes, *args: Any, **options: Any) -> Lock:
        """A lock, to be taken."""

    async def get_many(self, keys: Iterable[bytes], *args: Any, **options: Any) -> Mapping[bytes, Entry]:
        """Reads many keys at once."""

    async def put_many(self, items: Mapping[bytes, bytes], *args: Any, **options: Any) -> Mapping[bytes, Written]:
        """Stores many values at once."""

    async def delete_many(self, keys: Iterable[bytes], *args: Any, **options: Any) -> Mapping[bytes, Written]:
        """Deletes many keys at once."""

    async def increment(self, key: bytes, *args: Any, **options: Any) -> Counted:
        """Adds to a counter."""

    async def add(self, key: bytes, *args: Any, **options: Any) -> Written:
        """Adds to a set."""

    async def remove(self, key: bytes, *args: Any, **options: Any) -> Written:
        """Removes from a set."""

    async def members(self, key: bytes, *args: Any, **options: Any) -> frozenset[bytes]:
        """What is in a set."""

    async def contains(self, key: bytes, element: bytes, *args: Any, **options: Any) -> bool:
        """Whether something is in a set."""

    async def put_field(self, key: bytes, field: bytes, value: bytes, *args: Any, **options: Any) -> Written:
        """Stores a field of a map."""

    async def get_field(self, key: bytes, field: bytes, *args: Any, **options: Any) -> bytes | None:
        """Reads a field of a map."""

    async def delete_field(self, key: bytes, field: bytes, *args: Any, **options: Any) -> Written:
        """Deletes a field of a map."""

    def scan(self, *args: Any, **options: Any) -> AsyncIterator[ScannedEntry]:
        """Yields keys in order."""


class Admin(Protocol):
    """What operators ask of the cluster."""

    async def status(self, *, timeout_s: float | None = None) -> list[NodeStatus]:
        """Every node's own numbers; one that does not answer in time is a row too."""

    async def describe(self, *, timeout_s: float | None = None) -> ClusterInfo:
        """The ring, and who the cluster is."""

    async def repair(self, namespace: str = "", *, on_progress: Callable[[RepairProgress], None] = ...) -> list[RepairProgress]:
        """Has one node after the other compare its records with its peers', and repair what differs."""

    async def accept_loss(self, *nodes: str) -> list[LossAccepted]:
        """See `kvclient.admin`."""

    async def namespaces(self, *args: Any, **options: Any) -> list[NamespaceInfo]:
        """See `kvclient.admin`."""

    async def namespace(self, name: str, *args: Any, **options: Any) -> NamespaceInfo:
        """See `kvclient.admin`."""

    async def create_namespace(self, name: str, *args: Any, **options: Any) -> NamespaceInfo:
        """See `kvclient.admin`."""

    async def drop_namespace(self, name: str, *args: Any, **options: Any) -> NamespaceInfo:
        """See `kvclient.admin`."""


class Client(Protocol):
    """A connected client."""

    @property
    def admin(self) -> Admin:
        """For operators."""

    def namespace(self, name: str) -> Namespace:
        """The namespace of that name; no I/O."""


def connect(
    at: str, *, timeout_s: float | None = None, level: LevelLike | None = None, sloppy: bool | None = None
) -> AbstractAsyncContextManager[Client]:
    """A client of the cluster at `at` (any address or URL the client takes), closed when the block is left. `timeout_s` (for each
    operation), `level` and `sloppy` are of every operation that says nothing else; None: what the address says, or the client's
    default."""
    from kvclient import AsyncClient

    return AsyncClient(at, timeout_s=timeout_s, level=level, sloppy=sloppy)


def open_client(options: Options) -> AbstractAsyncContextManager[Client]:
    """The client that these options ask for."""
    return connect(options.at, timeout_s=options.timeout_s, level=_level(options), sloppy=options.sloppy)


def _level(options: Options) -> LevelLike | None:
    """The level with its bound. Raises `BadRequest` where one of them is missing."""
    if options.bound_ms is None and options.level != "bounded":
        return options.level
    from kvclient.levels import NO_CHOICE, Bounded, choose

    return Bounded(choose(options.level, options.bound_ms, None, NO_CHOICE).bound_ms)


class Keeper(Protocol):
    """Runs commands' work with clients that it keeps from one command to the next: the shell's session."""

    def run(self, options: Options, work: Callable[[Client], Awaitable[T]], *, timeout_s: float | None = None) -> T:
        """As `run` does; raises `TimeoutError` where that takes longer than `timeout_s`, connecting included."""


def run(options: Options, work: Callable[[Client], Awaitable[int]]) -> int:
    """Runs one command's work with a client; returns the work's exit code, raises what it raises.

    The client is the command's own, on a fresh event loop, or in a shell the one that is kept.
    """
    context = click.get_current_context(silent=True)
    keeper: Keeper | None = context.meta.get(KEEPER) if context is not None else None
    if keeper is not None:
        return keeper.run(options, work)

    async def with_client() -> int:
        async with AsyncExitStack() as stack:
            client = await enter(stack, options)
            return await work(client)

    return asyncio.run(with_client())


async def enter(stack: AsyncExitStack, options: Options) -> Client:
    """A connected client, closed with `stack`.

    The error of a cluster that cannot be reached is brief and has a note on what to do; what each address said is for `--explain`.
    """
    try:
        return await stack.enter_async_context(open_client(options))
    except AvailabilityError as error:
        reason = error.message if options.explain else error.message.rpartition(": ")[2].rstrip("]")
        brief = type(error)(f"nothing answers at {options.at}: {reason}", retryable=error.retryable, subject=options.at)
        brief.add_note("start a cluster with: kv dev" if options.at == DEFAULT_AT else "another address can be given with --at")
        raise brief from error
