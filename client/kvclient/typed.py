"""What namespaces with a policy have beside get and delete: counters, sets, and maps of fields. `AsyncNamespace` is one of these.

Each method is one operation of one key, or several of one kind that travel together. A node refuses what its namespace's policy has
not (`WrongMode`), before anything is written. Elements and names of fields are `str` (their UTF-8) or `bytes`, as keys are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from kvclient.bulk import BulkCall
from kvclient.checks import amount, context_token, element_bytes, field_bytes, key_bytes, milliseconds_to_live, seconds, value_bytes
from kvclient.conditional import AsyncConditions, Key
from kvclient.conditions import bounds
from kvclient.errors import BadRequest, BatchError, KvError, TooLarge
from kvclient.levels import LevelLike
from kvclient.shapes import Shape
from kvclient.values import Entry, Incremented, PutResult
from kvproto.columns import Kind

KeyT = TypeVar("KeyT", str, bytes)


class AsyncTypes(AsyncConditions):
    """Operations on counters, sets and maps. `level`, `w`, `timeout_s` and `explain` as everywhere."""

    # Counters.

    async def increment(
        self,
        key: Key,
        by: int = 1,
        *,
        field: Key | None = None,
        min: int | None = None,  # noqa: A002 - the name that callers expect
        max: int | None = None,  # noqa: A002
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> Incremented:
        """Adds `by`, which may be negative, to a counter, in a map to the counter `field`; `.value` is what it holds then at the
        node that counted. In a linearizable namespace any key is a counter whose value is a number in digits, or that has none.

        Counted once or not at all, whatever is retried. An error whose `may_have_applied` is True leaves it open whether it was:
        calling again might count twice.

        `min` and `max` bound what comes of it, in linearizable namespaces: `ConditionFailed` if it would be outside, and certainly
        nothing counted; `WrongMode` elsewhere.
        """
        condition = bounds(min, max)
        shape = self._shape(Kind.INCREMENT, level, w, explain=explain, is_conditional=bool(condition))
        if condition:
            if field is not None:
                raise BadRequest("a counter in a map has no bounds: maps are in namespaces without consensus", subject="field")
            bounded: Incremented = await self._write_if(shape, key, b"", timeout_s, condition, amount=amount(by))
            return bounded
        done: Incremented = await self._change(shape, key, timeout_s, field=field, by=amount(by))
        return done

    async def decrement(
        self,
        key: Key,
        by: int = 1,
        *,
        field: Key | None = None,
        min: int | None = None,  # noqa: A002
        max: int | None = None,  # noqa: A002
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> Incremented:
        """Takes `by` from a counter: `increment` by as much less."""
        return await self.increment(
            key, -amount(by), field=field, min=min, max=max, level=level, w=w, timeout_s=timeout_s, explain=explain
        )

    async def increment_many(
        self,
        amounts: Mapping[KeyT, int],
        *,
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, Incremented]:
        """Adds to each counter its amount. Raises `BatchError` when some could not be counted."""
        shape = self._shape(Kind.INCREMENT, level, w, explain=explain)
        keys = list(amounts)
        done = await self._changes(shape, keys, keys, timeout_s, amounts=[amount(amounts[key]) for key in keys])
        return dict(zip(keys, done, strict=True))

    async def count(
        self,
        key: Key,
        *,
        field: Key | None = None,
        level: LevelLike | None = None,
        r: int = 0,
        timeout_s: float | None = None,
    ) -> int:
        """What a counter holds, in a map the counter `field`; 0 if it was never incremented."""
        entry = await self._read(key, level, r, timeout_s)
        return entry.number if field is None else entry.counters.get(field_bytes(field), 0)

    # Sets.

    async def add(
        self,
        key: Key,
        *elements: Key,
        field: Key | None = None,
        ttl_s: float | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Adds elements to a set, in a map to the set `field`; the result is the last one's. An add wins over a concurrent remove.

        Of several, some may be added and others not: `BatchError` says which.
        """
        shape = self._shape(Kind.ADD, level, w, explain=explain, has_ttl=ttl_s is not None)
        ttl_ms = 0 if ttl_s is None else milliseconds_to_live(ttl_s)
        return await self._change_elements(shape, key, elements, timeout_s, field=field, ttl_ms=ttl_ms)

    async def remove(
        self,
        key: Key,
        *elements: Key,
        field: Key | None = None,
        context: bytes | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Removes elements from a set, in a map from the set `field`; the result is the last one's. Removing what is not in it is
        no error.

        Takes back every add that the coordinator holds or this client was acknowledged, with `context` every one that was read;
        adds made meanwhile by others stay.
        """
        shape = self._shape(Kind.REMOVE, level, w, explain=explain)
        return await self._change_elements(shape, key, elements, timeout_s, field=field, context=context)

    async def members(
        self,
        key: Key,
        *,
        field: Key | None = None,
        level: LevelLike | None = None,
        r: int = 0,
        timeout_s: float | None = None,
    ) -> frozenset[bytes]:
        """What is in a set, in a map in the set `field`; nothing if nothing was ever added."""
        entry = await self._read(key, level, r, timeout_s)
        return entry.members if field is None else entry.sets.get(field_bytes(field), frozenset())

    async def contains(
        self,
        key: Key,
        element: Key,
        *,
        field: Key | None = None,
        level: LevelLike | None = None,
        r: int = 0,
        timeout_s: float | None = None,
    ) -> bool:
        """Whether an element is in a set."""
        wanted = element_bytes(element)
        return wanted in await self.members(key, field=field, level=level, r=r, timeout_s=timeout_s)

    # Maps.

    async def put_field(
        self,
        key: Key,
        field: Key,
        value: bytes,
        *,
        ttl_s: float | None = None,
        context: bytes | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Stores `value` in a field of a map. Of concurrent values the latest is read."""
        shape = self._shape(Kind.ASSIGN, level, w, explain=explain, has_ttl=ttl_s is not None)
        ttl_ms = 0 if ttl_s is None else milliseconds_to_live(ttl_s)
        done: PutResult = await self._change(
            shape, key, timeout_s, field=field, value=value_bytes(value), context=context, ttl_ms=ttl_ms
        )
        return done

    async def put_fields(
        self,
        key: Key,
        values: Mapping[KeyT, bytes],
        *,
        ttl_s: float | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> dict[KeyT, PutResult]:
        """Stores several fields of a map; no atomicity among them. Raises `BatchError` when some could not be stored."""
        shape = self._shape(Kind.ASSIGN, level, w, explain=explain, has_ttl=ttl_s is not None)
        names = list(values)
        done = await self._changes(
            shape,
            [key] * len(names),
            names,
            timeout_s,
            fields=[field_bytes(name) for name in names],
            values=[value_bytes(value) for value in values.values()],
            ttl_ms=0 if ttl_s is None else milliseconds_to_live(ttl_s),
        )
        return dict(zip(names, done, strict=True))

    async def get_field(
        self, key: Key, field: Key, *, level: LevelLike | None = None, r: int = 0, timeout_s: float | None = None
    ) -> bytes | None:
        """The value of a field of a map; None if it has none. `get` has all of the map: `.registers`, `.counters`, `.sets`."""
        return (await self._read(key, level, r, timeout_s)).registers.get(field_bytes(field))

    async def delete_field(
        self,
        key: Key,
        field: Key,
        *,
        context: bytes | None = None,
        level: LevelLike | None = None,
        w: int = 0,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> PutResult:
        """Removes a field of a map, whatever it holds; what others write to it meanwhile stays. A missing field is no error."""
        shape = self._shape(Kind.DISCARD, level, w, explain=explain)
        done: PutResult = await self._change(shape, key, timeout_s, field=field, context=context)
        return done

    # What they share.

    async def get(
        self, key: Key, *, level: LevelLike | None = None, r: int = 0, timeout_s: float | None = None, explain: bool = False
    ) -> Entry:
        """What `key` holds."""
        raise NotImplementedError

    def _bad_key(self, key: bytes) -> BadRequest | TooLarge:
        raise NotImplementedError

    async def _read(self, key: Key, level: LevelLike | None, r: int, timeout_s: float | None) -> Entry:
        return await self.get(key, level=level, r=r, timeout_s=timeout_s)

    async def _change(
        self,
        shape: Shape,
        key: Key,
        timeout_s: float | None,
        *,
        field: Key | None = None,
        value: bytes = b"",
        by: int = 0,
        context: bytes | None = None,
        ttl_ms: int = 0,
    ) -> Any:
        encoded, token = key_bytes(key), context_token(context)
        named = b"" if field is None else field_bytes(field)
        client = self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        self._check(encoded, value)
        return await dispatcher.change(shape, encoded, value, timeout, token, ttl_ms, field=named, amount=by)

    async def _change_elements(
        self,
        shape: Shape,
        key: Key,
        elements: Sequence[Key],
        timeout_s: float | None,
        *,
        field: Key | None,
        context: bytes | None = None,
        ttl_ms: int = 0,
    ) -> PutResult:
        done: PutResult
        if not elements:
            raise BadRequest("at least one element is wanted", subject="element")
        if len(elements) == 1:
            value = element_bytes(elements[0])
            done = await self._change(shape, key, timeout_s, field=field, value=value, context=context, ttl_ms=ttl_ms)
            return done
        named = b"" if field is None else field_bytes(field)
        *_, done = await self._changes(
            shape,
            [key] * len(elements),
            elements,
            timeout_s,
            fields=[named] * len(elements) if named else (),
            values=[element_bytes(element) for element in elements],
            context=context_token(context),
            ttl_ms=ttl_ms,
        )
        return done

    async def _changes(
        self,
        shape: Shape,
        keys: Sequence[Key],
        labels: Sequence[Key],
        timeout_s: float | None,
        *,
        values: Sequence[bytes] = (),
        fields: Sequence[bytes] = (),
        amounts: Sequence[int] = (),
        context: bytes | None = None,
        ttl_ms: int = 0,
    ) -> list[Any]:
        """The results in order; `BatchError` has them by `labels`."""
        encoded = [key_bytes(key) for key in keys]
        client = self._client
        timeout = self.timeout_s if timeout_s is None else seconds(timeout_s)
        dispatcher = client.dispatcher
        if dispatcher is None:
            dispatcher, timeout = await client.connect_within(timeout)
        for key in dict.fromkeys(encoded):
            self._check(key, max(values, key=len, default=b""))
        if not encoded:
            return []
        loop = asyncio.get_running_loop()
        call = BulkCall(
            shape.for_bulk(),
            encoded,
            values=values,
            ttl_ms=ttl_ms,
            deadline_s=loop.time() + timeout,
            future=loop.create_future(),
            fields=fields,
            amounts=amounts,
            context=context,
        )
        dispatcher.start_bulk(call)
        await call.future
        if call.errors:
            errors: dict[Any, KvError] = {labels[index]: call.errors[index] for index in sorted(call.errors)}
            raise BatchError(
                {label: result for label, result in zip(labels, call.results, strict=True) if label not in errors}, errors
            )
        return call.results

    def _check(self, key: bytes, value: bytes) -> None:
        if not 0 < len(key) <= self._client.key_bytes_max:
            raise self._bad_key(key)
        limit = self._client.value_bytes_max
        if len(value) > limit:
            raise TooLarge(
                f"a value or element of {key[:64]!r} has {len(value)} bytes; at most {limit}",
                limit=limit,
                actual=len(value),
                subject=self.name,
            )
