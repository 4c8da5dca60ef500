"""The blocking client: the same methods as `AsyncClient`, for code without an event loop. Safe to use from several threads.

It runs an `AsyncClient` on a loop of its own in a background thread (`bridge`), so that operations of several threads travel in one
batch just as those of several tasks do. Each method is made from the asyncio one, whose signature, types and description it has.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from kvclient.admin import AsyncAdmin
from kvclient.async_client import AsyncClient
from kvclient.bridge import Bridge
from kvclient.conditional import Key
from kvclient.levels import LevelLike
from kvclient.namespace import AsyncNamespace
from kvclient.session_tokens import KEYS_MAX
from kvclient.stats import ClientStats
from kvclient.values import Entry

if TYPE_CHECKING:
    from kvclient.blocking_locks import Lock
    from kvclient.sessions import AsyncSession

P = ParamSpec("P")
T = TypeVar("T")

SCAN_CHUNK = 256
"""Entries that cross from the loop's thread at a time."""


def _operation(
    method: Callable[Concatenate[AsyncNamespace, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Namespace, P], T]:
    """The blocking form of an operation on keys."""

    @wraps(method)
    def blocking(self: Namespace, /, *args: P.args, **kwargs: P.kwargs) -> T:
        # Once connected, an operation waits for futures alone.
        return self._bridge.call(method(self._inner, *args, **kwargs), as_task=self._client.dispatcher is None)

    return blocking


def _question(method: Callable[Concatenate[AsyncAdmin, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Admin, P], T]:
    """The blocking form of a question about the cluster."""

    @wraps(method)
    def blocking(self: Admin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._bridge.call(method(self._inner, *args, **kwargs))

    return blocking


class Namespace:
    """`AsyncNamespace`, blocking."""

    def __init__(self, inner: AsyncNamespace, client: AsyncClient, bridge: Bridge) -> None:
        self.name = inner.name
        self._inner = inner
        self._client = client
        self._bridge = bridge

    get = _operation(AsyncNamespace.get)
    put = _operation(AsyncNamespace.put)
    delete = _operation(AsyncNamespace.delete)
    touch = _operation(AsyncNamespace.touch)
    compare_and_set = _operation(AsyncNamespace.compare_and_set)
    get_many = _operation(AsyncNamespace.get_many)
    put_many = _operation(AsyncNamespace.put_many)
    delete_many = _operation(AsyncNamespace.delete_many)
    increment = _operation(AsyncNamespace.increment)
    decrement = _operation(AsyncNamespace.decrement)
    increment_many = _operation(AsyncNamespace.increment_many)
    count = _operation(AsyncNamespace.count)
    add = _operation(AsyncNamespace.add)
    remove = _operation(AsyncNamespace.remove)
    members = _operation(AsyncNamespace.members)
    contains = _operation(AsyncNamespace.contains)
    put_field = _operation(AsyncNamespace.put_field)
    put_fields = _operation(AsyncNamespace.put_fields)
    get_field = _operation(AsyncNamespace.get_field)
    delete_field = _operation(AsyncNamespace.delete_field)

    @property
    def timeout_s(self) -> float:
        """What a call may take that says nothing else."""
        return self._inner.timeout_s

    def with_options(
        self,
        *,
        level: LevelLike | None = None,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
    ) -> Namespace:
        """The same namespace with other defaults for its calls; what is not given stays as it is here. No I/O.

        Levels that only reads have (timeline, bounded) leave writes as they are.
        """
        inner = self._inner.with_options(level=level, bound_ms=bound_ms, sloppy=sloppy, timeout_s=timeout_s)
        return Namespace(inner, self._client, self._bridge)

    def scan(
        self,
        prefix: Key = b"",
        *,
        start: Key = b"",
        end: Key = b"",
        after: Key = b"",
        limit: int = 0,
        level: LevelLike | None = None,
        r: int = 0,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[Entry]:
        """The entries in key order: `start` inclusive, `end` and `after` exclusive, at most `limit` (0: all).

        `timeout_s` is for each page. Writes that run meanwhile may or may not be seen.
        """
        ranged: dict[str, Any] = {"start": start, "end": end, "after": after}
        options: dict[str, Any] = {"level": level, "r": r, "bound_ms": bound_ms, "sloppy": sloppy, "timeout_s": timeout_s}
        entries = self._inner.scan(prefix, **ranged, limit=limit, **options)

        async def chunk() -> list[Entry]:
            taken: list[Entry] = []
            async for entry in entries:
                taken.append(entry)
                if len(taken) >= SCAN_CHUNK:
                    break
            return taken

        while taken := self._bridge.call(chunk()):
            yield from taken

    def session(self, token: str | None = None, *, keys_max: int = KEYS_MAX) -> Session:
        """This namespace for one who does one thing after the other: reads see its own writes, and never less than was read before.

        `token` goes on where another session, perhaps in another process, left off. Of at most `keys_max` keys it knows what was
        seen; others are read at quorum (linearizable) then. Costs availability: what was seen may be out of reach, `BehindSession`.
        """
        return Session(self._inner.session(token, keys_max=keys_max), self._client, self._bridge)

    def lock(self, name: Key, *, lease_s: float = 10.0, timeout_s: float | None = None) -> Lock:
        """The lock `name`, to be taken with `with`; see `AsyncNamespace.lock`. The lease is renewed in the background."""
        from kvclient.blocking_locks import Lock

        return Lock(self._inner.lock(name, lease_s=lease_s, timeout_s=timeout_s), self._bridge)

    def __repr__(self) -> str:
        return f"<Namespace {self.name!r}>"


class Session(Namespace):
    """`AsyncSession`, blocking."""

    def __init__(self, inner: AsyncSession, client: AsyncClient, bridge: Bridge) -> None:
        super().__init__(inner, client, bridge)
        self._session = inner

    @property
    def token(self) -> str:
        """What it has seen so far, as text; see `AsyncSession.token`."""
        return self._session.token


class Admin:
    """`AsyncAdmin`, blocking."""

    def __init__(self, inner: AsyncAdmin, bridge: Bridge) -> None:
        self._inner = inner
        self._bridge = bridge

    describe = _question(AsyncAdmin.describe)
    status = _question(AsyncAdmin.status)
    namespaces = _question(AsyncAdmin.namespaces)
    namespace = _question(AsyncAdmin.namespace)
    create_namespace = _question(AsyncAdmin.create_namespace)
    drop_namespace = _question(AsyncAdmin.drop_namespace)


class Client(Namespace):
    """A blocking client of a cluster, and by itself its default namespace. `with Client(…) as client`, or call `close`.

    Takes what `AsyncClient` takes.
    """

    def __init__(self, target: str = "", **options: Any) -> None:
        self._use(AsyncClient(target, **options))

    def _use(self, client: AsyncClient) -> None:
        """Blocks for `client`, which nobody else uses."""
        super().__init__(client, client, Bridge())
        self.admin = Admin(client.admin, self._bridge)

    def namespace(
        self,
        name: str,
        *,
        level: LevelLike | None = None,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
    ) -> Namespace:
        """The namespace `name`; no I/O. The options are defaults for its calls."""
        inner = self._client.namespace(name, level=level, bound_ms=bound_ms, sloppy=sloppy, timeout_s=timeout_s)
        return Namespace(inner, self._client, self._bridge)

    @property
    def stats(self) -> ClientStats:
        """What this client has done so far: a copy that no longer changes."""
        return self._client.stats

    def connect(self) -> None:
        """Finds a node and learns the ring; every operation does so by itself."""
        self._bridge.call(self._client.connect())

    def close(self) -> None:
        """Ends operations under way with `ClientClosed`, lets go of every node and ends the thread. Idempotent."""
        self._bridge.close(self._client.close)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._client).replace("AsyncClient", "Client", 1)
