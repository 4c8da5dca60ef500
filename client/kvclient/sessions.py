"""Sessions: read your own writes, and never an older answer after a newer one, whichever node answers and in whichever process
(safety rule 20).

A session keeps what each reply showed of its key (`session_tokens`) and sends it with the next read: a node that cannot answer so
fresh asks others, waits, or says `BehindSession`. What is kept is bounded; from the first key that was let go of on, keys that are
not kept are read at a level that sees all that the session wrote, `quorum` or `linearizable`, and for that its writes are at
`quorum` where nothing else is said.

It is a namespace over a dispatcher that looks at what passes, so every method is there and none is written twice.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from kvclient.bulk import BulkCall
from kvclient.conditions import has_consensus
from kvclient.contexts import NamespaceContexts
from kvclient.errors import ConditionFailed
from kvclient.levels import Choice
from kvclient.namespace import AsyncNamespace
from kvclient.session_scan import is_in_range, with_known
from kvclient.session_tokens import Memory
from kvclient.shapes import Shape
from kvclient.values import Entry, PutResult
from kvproto.columns import Kind, Level, ScanQuery

if TYPE_CHECKING:
    from kvclient.async_client import AsyncClient
    from kvclient.dispatcher import Dispatcher

STRICT = frozenset((Level.QUORUM, Level.ALL, Level.LINEARIZABLE))
"""Levels of reads that see every write at `quorum`."""


class AsyncSession(AsyncNamespace):
    """One namespace, seen by one who does one thing after the other. `token` takes what it has seen to another process, which goes
    on with `namespace.session(token=…)`.

    Its writes are at level quorum in eventual namespaces, unless they or the namespace say otherwise; those that say less are
    remembered for as long as their keys are among the last few hundred that it met. A scan shows nothing older of
    them; what it shows is not remembered. Raises `BehindSession` where an answer that is new enough cannot be had.
    """

    def __init__(self, space: AsyncNamespace, memory: Memory) -> None:
        client = cast("AsyncClient", _Client(space._client, memory, space._contexts))  # noqa: SLF001 - a part of it, in a file of its own
        super().__init__(client, space.name, space._contexts, space._choice, space.timeout_s)  # noqa: SLF001
        self._memory = memory

    @property
    def token(self) -> str:
        """What it has seen so far, as text: of the keys it met last, and bounded by their number."""
        return self._memory.encode()

    def __repr__(self) -> str:
        return f"<AsyncSession {self.name!r}: {len(self._memory.seen)} keys>"


class _Client:
    """The client as a session has it: the same, but for the dispatcher."""

    def __init__(self, client: AsyncClient, memory: Memory, contexts: NamespaceContexts) -> None:
        self._client = client
        self._memory = memory
        self._contexts = contexts
        self._made: _Dispatcher | None = None

    @property
    def dispatcher(self) -> _Dispatcher | None:
        """None until the client is connected."""
        real = self._client.dispatcher
        if real is None:
            return None
        if self._made is None or self._made.real is not real:
            self._made = _Dispatcher(real, self._client, self._memory, self._contexts)
        return self._made

    async def connect(self, timeout_s: float | None = None) -> _Dispatcher:
        """As the client's."""
        await self._client.connect(timeout_s)
        dispatcher = self.dispatcher
        assert dispatcher is not None
        return dispatcher

    async def connect_within(self, timeout_s: float) -> tuple[_Dispatcher, float]:
        """As the client's."""
        _, left_s = await self._client.connect_within(timeout_s)
        return await self.connect(left_s or None), left_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _Dispatcher:
    """Sends through the client's, with what was seen, and notes what comes back."""

    def __init__(self, real: Dispatcher, client: AsyncClient, memory: Memory, contexts: NamespaceContexts) -> None:
        self.real = real
        self._contexts = contexts
        self._client = client
        self._memory = memory
        self._shapes: dict[tuple[Shape, bool], Shape] = {}

    @property
    def has_consensus(self) -> bool:
        """Whether the session's namespace is linearizable."""
        return has_consensus(self._client.info, self._memory.namespace)

    def read(self, shape: Shape, key: bytes, timeout_s: float) -> Future[Any]:
        """See `Dispatcher.read`."""
        asked = self._read_shape(shape, strict=self._memory.must_be_strict(key))
        return self._noted(self.real.read_seen(asked, key, timeout_s, self._memory.seen.get(key, b"")))

    def write(self, shape: Shape, key: bytes, value: bytes, timeout_s: float, context: bytes | None, ttl_ms: int) -> Future[Any]:
        """See `Dispatcher.write`."""
        return self._noted(self.real.write(self._write_shape(shape), key, value, timeout_s, context, ttl_ms))

    def change(
        self, shape: Shape, key: bytes, value: bytes, timeout_s: float, context: bytes | None, ttl_ms: int, **columns: Any
    ) -> Future[Any]:
        """See `Dispatcher.change`."""
        return self._noted(self.real.change(self._write_shape(shape), key, value, timeout_s, context, ttl_ms, **columns))

    def start_bulk(self, call: BulkCall) -> None:
        """See `Dispatcher.start_bulk`."""
        memory = self._memory
        if call.shape.writes:
            call.shape = self._write_shape(call.shape)
        else:
            call.shape = self._read_shape(call.shape, strict=any(memory.must_be_strict(key) for key in call.keys))
            call.seen = [memory.seen.get(key, b"") for key in call.keys]

        def note(_: Future[None]) -> None:
            for result in call.results:
                if result is not None:
                    self._note(result)

        call.future.add_done_callback(note)
        self.real.start_bulk(call)

    async def scan(self, query: ScanQuery, timeout_s: float) -> AsyncIterator[Entry]:
        """See `Dispatcher.scan`."""
        if query.level not in STRICT and query.level is not Level.EXPLICIT:
            level = Level.LINEARIZABLE if self.has_consensus else Level.QUORUM
            query = replace(query, level=level, bound_ms=0)
        known = [] if self.has_consensus else [key for key in self._memory.seen if is_in_range(query, key)]
        if not known:
            async for entry in self.real.scan(query, timeout_s):
                yield entry
            return
        entries = await self._read_again(known, query, timeout_s)
        absent = sum(not entry.found for entry in entries.values())  # which the scan may show all the same
        wider = replace(query, limit=query.limit and query.limit + absent)
        left = query.limit
        async with aclosing(self.real.scan(wider, timeout_s)) as scanned:
            async for entry in with_known(scanned, entries, self._memory.seen):
                yield entry
                left -= 1
                if not left:
                    return

    async def _read_again(self, keys: Sequence[bytes], query: ScanQuery, timeout_s: float) -> dict[bytes, Entry]:
        """What there is of these keys, no older than what was seen. Raises the first `KvError` of them."""
        loop = asyncio.get_running_loop()
        choice = Choice(query.level if query.level is not Level.EXPLICIT else Level.PRESET, sloppy=query.sloppy)
        shape = Shape(Kind.GET, self._memory.namespace, self._contexts, choice=choice, quorum=query.r).for_bulk()
        call = BulkCall(shape, keys, deadline_s=loop.time() + timeout_s, future=loop.create_future())
        self.start_bulk(call)
        await call.future
        if call.errors:
            raise call.errors[min(call.errors)]
        return {entry.key: entry for entry in call.results if isinstance(entry, Entry)}

    def _noted(self, future: Future[Any]) -> Future[Any]:
        future.add_done_callback(self._done)  # before anybody waits for it, so it is noted before the caller goes on
        return future

    def _done(self, future: Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self._note(future.result())
        elif isinstance(error, ConditionFailed):
            self._note(error.entry)

    def _note(self, result: Entry | PutResult) -> None:
        if not self.has_consensus:
            self._memory.note_context(result.key, result.context, is_read=isinstance(result, Entry))
        elif isinstance(result, Entry) or result.version.strip("0"):  # a touch of what is absent has no version
            self._memory.note_version(result.key, bytes.fromhex(result.version))

    def _read_shape(self, shape: Shape, *, strict: bool) -> Shape:
        """`shape` for a read that says what was seen; `strict`: at a level that sees all that the session wrote."""
        known = self._shapes.get((shape, strict))
        if known is None:
            known = self._shapes[shape, strict] = shape.for_session()
            if strict and self.has_consensus:
                known.level, known.bound_ms = Level.LINEARIZABLE, 0
            elif strict and not self._is_strict(shape):
                known.level, known.r = Level.QUORUM, 0
        return known

    def _write_shape(self, shape: Shape) -> Shape:
        """`shape` for a write that leaves its level to the namespace: what a strict read sees."""
        if shape.level is not Level.PRESET or self.has_consensus:
            return shape
        known = self._shapes.get((shape, True))
        if known is None:
            known = self._shapes[shape, True] = shape.for_session()
            known.level = Level.QUORUM
        return known

    def _is_strict(self, shape: Shape) -> bool:
        if shape.level is Level.EXPLICIT:
            n = next((space.n for space in self._client.info.namespaces if space.name == self._memory.namespace), 0)
            return shape.r > n // 2
        return shape.level in STRICT
