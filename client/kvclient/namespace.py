"""A namespace's operations: what users call. Checks arguments, makes shapes, and leaves the rest to the dispatcher.

`get`, `put` and `delete` of one loop turn travel together by themselves; *_many calls are for those who have the keys at hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from kvclient.bulk import BulkCall
from kvclient.checks import (
    context_token,
    entries_max,
    key_bytes,
    many_items,
    many_keys,
    milliseconds_to_live,
    quorum,
    seconds,
    value_bytes,
)
from kvclient.conditional import Key
from kvclient.conditions import condition_of
from kvclient.contexts import NamespaceContexts
from kvclient.errors import BadRequest, BatchError, TooLarge
from kvclient.levels import OF_READS, Choice, LevelLike, choose
from kvclient.session_tokens import KEYS_MAX, Memory, decode_memory
from kvclient.shapes import Shape
from kvclient.typed import AsyncTypes
from kvclient.values import Entry, PutResult
from kvproto.columns import Kind, ScanQuery

if TYPE_CHECKING:
    from kvclient.async_client import AsyncClient
    from kvclient.sessions import AsyncSession

KeyT = TypeVar("KeyT", str, bytes)


class AsyncNamespace(AsyncTypes):
    """One namespace of a client. Light; does no I/O until asked for something.

    `choice` and `timeout_s` are what its calls use unless they say otherwise.
    """

    def __init__(self, client: AsyncClient, name: str, contexts: NamespaceContexts, choice: Choice, timeout_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._client = client
        self._contexts = contexts
        self._choice = choice
        self._write_choice = choice.for_writes()
        self._shapes: dict[tuple[Kind, Choice, int, bool, bool, bool], Shape] = {}
        self._get = self._shape(Kind.GET, None, 0, explain=False)
        self._put = self._shape(Kind.PUT, None, 0, explain=False)
        self._put_ttl = self._shape(Kind.PUT, None, 0, explain=False, has_ttl=True)
        self._delete = self._shape(Kind.DELETE, None, 0, explain=False)

    def with_options(
        self,
        *,
        level: LevelLike | None = None,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
    ) -> AsyncNamespace:
        """The same namespace with other defaults for its calls; what is not given stays as it is here. No I/O.

        Levels that only reads have (timeline, bounded) leave writes as they are.
        """
        chosen = choose(level, bound_ms, sloppy, self._choice)
        patience_s = self.timeout_s if timeout_s is None else seconds(timeout_s)
        return AsyncNamespace(self._client, self.name, self._contexts, chosen, patience_s)

    def session(self, token: str | None = None, *, keys_max: int = KEYS_MAX) -> AsyncSession:
        """This namespace for one who does one thing after the other: reads see its own writes, and never less than was read before.

        `token` goes on where another session, perhaps in another process, left off. Of at most `keys_max` keys it knows what was
        seen; others are read at quorum (linearizable) then. Costs availability: what was seen may be out of reach, `BehindSession`.
        """
        from kvclient.sessions import AsyncSession

        if keys_max < 1:
            raise BadRequest(f"a session remembers at least one key, not {keys_max}", subject="keys_max")
        memory = Memory(self.name, keys_max) if token is None else decode_memory(token, self.name, keys_max)
        return AsyncSession(self, memory)

    async def get(
        self,
        key: Key,
        *,
        level: LevelLike | None = None,
        r: int = 0,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> Entry:
        """What `key` holds. A missing key is an `Entry` whose `found` is False. Raises `AvailabilityError` within `timeout_s`.

        `bound_ms`: how stale the answer may be, with level bounded. `sloppy`: whether stand-ins count for home replicas.
        """
        plain = level is None and not r and not explain and bound_ms is None and sloppy is None
        shape = self._get if plain else self._shape(Kind.GET, level, r, explain=explain, bound_ms=bound_ms, sloppy=sloppy)
        encoded = key_bytes(key)
        client = self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        if not 0 < len(encoded) <= client.key_bytes_max:
            raise self._bad_key(encoded)
        found: Entry = await dispatcher.read(shape, encoded, timeout)
        return found

    async def put(
        self,
        key: Key,
        value: bytes,
        *,
        ttl_s: float | None = None,
        context: bytes | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        sloppy: bool | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Stores `value`.

        Without a `context` it supersedes what the coordinator holds and what this client was acknowledged; with an entry's context,
        every sibling that was read; with b"", nothing. Only a context that was read protects from losing someone else's update.
        `ttl_s` 0 never expires, None is the namespace's. An error whose `may_have_applied` is True leaves the outcome unknown.

        `if_absent` and `if_version` (an entry's `.version`) are conditions, of linearizable namespaces: `ConditionFailed` if it
        does not hold, with certainly nothing applied; `WrongMode` in a namespace without consensus.
        """
        if if_absent or if_version is not None:
            condition = condition_of(if_absent=if_absent, if_version=if_version)
            shape = self._shape(Kind.PUT, level, w, explain=explain, has_ttl=ttl_s is not None, sloppy=sloppy, is_conditional=True)
            ttl_ms = 0 if ttl_s is None else milliseconds_to_live(ttl_s)
            stored: PutResult = await self._write_if(
                shape, key, value_bytes(value), timeout_s, condition, context=context, ttl_ms=ttl_ms
            )
            return stored
        plain = level is None and not w and not explain and sloppy is None
        if ttl_s is None:
            shape = self._put if plain else self._shape(Kind.PUT, level, w, explain=explain, sloppy=sloppy)
            ttl_ms = 0
        else:
            shape = self._put_ttl if plain else self._shape(Kind.PUT, level, w, explain=explain, has_ttl=True, sloppy=sloppy)
            ttl_ms = milliseconds_to_live(ttl_s)
        encoded, held, token = key_bytes(key), value_bytes(value), context_token(context)
        client = self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        if not 0 < len(encoded) <= client.key_bytes_max:
            raise self._bad_key(encoded)
        if len(held) > client.value_bytes_max:
            raise self._bad_value(encoded, held)
        done: PutResult = await dispatcher.write(shape, encoded, held, timeout, token, ttl_ms)
        return done

    async def delete(
        self,
        key: Key,
        *,
        context: bytes | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        sloppy: bool | None = None,
        if_version: str | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Removes what `put` would have replaced. A missing key is no error. `if_version` is a condition, as of `put`."""
        if if_version is not None:
            shape = self._shape(Kind.DELETE, level, w, explain=explain, sloppy=sloppy, is_conditional=True)
            condition = condition_of(if_version=if_version)
            removed: PutResult = await self._write_if(shape, key, b"", timeout_s, condition, context=context)
            return removed
        plain = level is None and not w and not explain and sloppy is None
        shape = self._delete if plain else self._shape(Kind.DELETE, level, w, explain=explain, sloppy=sloppy)
        encoded, token = key_bytes(key), context_token(context)
        client = self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        if not 0 < len(encoded) <= client.key_bytes_max:
            raise self._bad_key(encoded)
        done: PutResult = await dispatcher.write(shape, encoded, b"", timeout, token, 0)
        return done

    async def touch(
        self,
        key: Key,
        ttl_s: float | None = None,
        *,
        level: LevelLike | None = None,
        w: int = 0,
        sloppy: bool | None = None,
        if_version: str | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Lets what `key` holds live for `ttl_s` seconds from now on: 0 is for ever, None what the namespace gives.

        No write: values and versions stay as they are, and a delete or put that did not know of it wins. `found` says whether there
        was anything; a key without a value is left alone. May be repeated like a read. `if_version` is a condition, as of `put`.
        """
        ttl_ms = 0 if ttl_s is None else milliseconds_to_live(ttl_s)
        is_conditional, has_ttl = if_version is not None, ttl_s is not None
        shape = self._shape(Kind.TOUCH, level, w, explain=explain, has_ttl=has_ttl, sloppy=sloppy, is_conditional=is_conditional)
        if if_version is not None:
            condition = condition_of(if_version=if_version)
            touched: PutResult = await self._write_if(shape, key, b"", timeout_s, condition, ttl_ms=ttl_ms)
            return touched
        encoded, client = key_bytes(key), self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        if not 0 < len(encoded) <= client.key_bytes_max:
            raise self._bad_key(encoded)
        done: PutResult = await dispatcher.write(shape, encoded, b"", timeout, b"", ttl_ms)
        return done

    async def get_many(
        self,
        keys: Iterable[KeyT],
        *,
        level: LevelLike | None = None,
        r: int = 0,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, Entry]:
        """An `Entry` for each key, as given. Raises `BatchError` with `.results` and `.errors` when some could not be read."""
        wanted = many_keys(keys)
        shape = self._shape(Kind.GET, level, r, explain=explain, bound_ms=bound_ms, sloppy=sloppy)
        return await self._many(shape, wanted, (), 0, timeout_s)

    async def put_many(
        self,
        items: Mapping[KeyT, bytes],
        *,
        ttl_s: float | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, PutResult]:
        """Stores every item; no order and no atomicity among them. Raises `BatchError` when some could not be stored."""
        shape = self._shape(Kind.PUT, level, w, explain=explain, has_ttl=ttl_s is not None, sloppy=sloppy)
        ttl_ms = 0 if ttl_s is None else milliseconds_to_live(ttl_s)
        keys, values = many_items(items)
        return await self._many(shape, keys, values, ttl_ms, timeout_s)

    async def delete_many(
        self,
        keys: Iterable[KeyT],
        *,
        level: LevelLike | None = None,
        w: int = 0,
        sloppy: bool | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, PutResult]:
        """Removes every key. Raises `BatchError` when some could not be removed."""
        wanted = many_keys(keys)
        shape = self._shape(Kind.DELETE, level, w, explain=explain, sloppy=sloppy)
        return await self._many(shape, wanted, (), 0, timeout_s)

    async def scan(
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
    ) -> AsyncIterator[Entry]:
        """The entries in key order: `start` inclusive, `end` and `after` exclusive, at most `limit` (0: all).

        `timeout_s` is for each page. Writes that run meanwhile may or may not be seen.
        """
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        shape = self._shape(Kind.GET, level, r, explain=False, bound_ms=bound_ms, sloppy=sloppy)
        query = ScanQuery(
            namespace=self.name,
            prefix=key_bytes(prefix),
            start=key_bytes(start),
            end=key_bytes(end),
            after=key_bytes(after),
            limit=entries_max(limit),
            level=shape.level,
            r=shape.r,
            timeout_ms=max(1, int(timeout * 1000)),
            bound_ms=shape.bound_ms,
            sloppy=shape.sloppy,
        )
        dispatcher = self._client.dispatcher or await self._client.connect(timeout)
        async for entry in dispatcher.scan(query, timeout):
            yield entry

    async def _many(
        self, shape: Shape, keys: list[KeyT], values: Iterable[bytes], ttl_ms: int, timeout_s: float | None
    ) -> dict[KeyT, Any]:
        encoded = [key_bytes(key) for key in keys]
        held = [value_bytes(value) for value in values]
        client = self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        for key in encoded:
            if not 0 < len(key) <= client.key_bytes_max:
                raise self._bad_key(key)
        for key, value in zip(encoded, held, strict=False):
            if len(value) > client.value_bytes_max:
                raise self._bad_value(key, value)
        if not encoded:
            return {}
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout
        call = BulkCall(
            shape.for_bulk(),
            encoded,
            values=held,
            ttl_ms=ttl_ms,
            deadline_s=deadline_s,
            future=loop.create_future(),
        )
        dispatcher.start_bulk(call)
        await call.future
        if call.errors:
            errors = {keys[index]: call.errors[index] for index in sorted(call.errors)}
            raise BatchError({key: result for key, result in zip(keys, call.results, strict=True) if key not in errors}, errors)
        return dict(zip(keys, call.results, strict=True))

    def _shape(
        self,
        kind: Kind,
        level: LevelLike | None,
        replicas: int,
        *,
        explain: bool,
        has_ttl: bool = False,
        bound_ms: int | None = None,
        sloppy: bool | None = None,
        is_conditional: bool = False,
    ) -> Shape:
        reads = kind is Kind.GET
        default = self._choice if reads else self._write_choice
        choice = choose(level, bound_ms, sloppy, Choice(sloppy=default.sloppy) if replicas else default)
        options = (kind, choice, replicas, explain, has_ttl, is_conditional)
        shape = self._shapes.get(options)
        if shape is None:
            if choice.level in OF_READS and not reads:
                raise BadRequest(f"level {choice.level.name.lower()} is of reads: a write there needs consensus", subject="level")
            wanted = quorum(replicas, name="r" if reads else "w")
            self._client.check_quorum(self.name, wanted, name="r" if reads else "w")
            shape = self._shapes[options] = Shape(
                kind,
                self.name,
                self._contexts,
                choice=choice,
                quorum=wanted,
                explain=explain,
                has_ttl=has_ttl,
                is_conditional=is_conditional,
            )
        return shape

    def _bad_key(self, key: bytes) -> BadRequest | TooLarge:
        if not key:
            return BadRequest("a key has at least one byte", subject=self.name)
        limit = self._client.key_bytes_max
        return TooLarge(f"a key of {len(key)} bytes; at most {limit}", limit=limit, actual=len(key), subject=self.name)

    def _bad_value(self, key: bytes, value: bytes) -> TooLarge:
        limit = self._client.value_bytes_max
        said = f"the value of {key[:64]!r} has {len(value)} bytes; at most {limit}"
        return TooLarge(said, limit=limit, actual=len(value), subject=self.name)

    def __repr__(self) -> str:
        return f"<AsyncNamespace {self.name!r}>"
