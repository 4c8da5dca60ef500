"""Mistakes of callers: each is named at once, before anything is sent and without a cluster to send it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kvclient import AsyncClient, BadRequest, Client
from kvclient.transport import Ring, Transport

MISTAKES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("an int as key", lambda c: c.get(7), "a key is str or bytes, not int"),
    ("None as key", lambda c: c.get(None), "a key is str or bytes, not None"),
    ("a bytearray as key", lambda c: c.put(bytearray(b"k"), b"v"), "bytes(key)"),
    ("half of a character as key", lambda c: c.get("\ud800"), "give such a key as bytes"),
    ("a str as value", lambda c: c.put("k", "v"), "value.encode()"),
    ("None as value", lambda c: c.put("k", None), "delete(key) removes"),
    ("a bytearray as value", lambda c: c.put("k", bytearray(b"v")), "bytes(value)"),
    ("a number as value", lambda c: c.put("k", 1), "a value is bytes, not int"),
    ("a number as one of many values", lambda c: c.put_many({"k": 1}), "a value is bytes, not int"),
    ("an int among many keys", lambda c: c.get_many(["k", 1]), "a key is str or bytes, not int"),
    ("one key where many are wanted", lambda c: c.get_many("key"), "a list of keys, not one key"),
    ("no keys where many are wanted", lambda c: c.get_many(3), "a list of str or bytes, not int"),
    ("pairs where a mapping is wanted", lambda c: c.put_many([("k", b"v")]), "dict(…) makes one"),
    ("a negative time to live", lambda c: c.put("k", b"v", ttl_s=-1), "ttl_s=-1 is not between"),
    ("no number as time to live", lambda c: c.put("k", b"v", ttl_s=float("nan")), "ttl_s=nan is not between"),
    ("an endless time to live", lambda c: c.put("k", b"v", ttl_s=float("inf")), "a hundred years"),
    ("two centuries to live", lambda c: c.put_many({"k": b"v"}, ttl_s=6.4e9), "a hundred years"),
    ("a text as time to live", lambda c: c.put("k", b"v", ttl_s="60"), "ttl_s is a number of seconds, not str"),
    ("no time at all", lambda c: c.get("k", timeout_s=0), "timeout_s=0 leaves no time"),
    ("a negative timeout", lambda c: c.delete("k", timeout_s=-1), "timeout_s=-1 leaves no time"),
    ("no number as timeout", lambda c: c.get("k", timeout_s=float("nan")), "timeout_s=nan"),
    ("a text as timeout", lambda c: c.get_many(["k"], timeout_s="5"), "timeout_s is a number of seconds, not str"),
    ("a level that does not exist", lambda c: c.get("k", level="qorum"), "did you mean 'quorum'"),
    ("a number as level", lambda c: c.get("k", level=2), "a level is one of preset, one, quorum, all"),
    ("a level and a number", lambda c: c.get("k", level="all", r=1), "not both"),
    ("a negative quorum", lambda c: c.get("k", r=-1), "give 1 to n, or a level"),
    ("half a quorum", lambda c: c.put("k", b"v", w=1.5), "w=1.5 is no number of replicas"),
    ("an entry as context", lambda c: c.put("k", b"v", context=object()), "the bytes that a get or put returned"),
    ("a text as context", lambda c: c.delete("k", context="x"), "the bytes that a get or put returned, not str"),
    ("a namespace without a name", lambda c: c.namespace(""), "a namespace has a name"),
    ("a namespace for ever", lambda c: c.namespace("n", timeout_s=-1), "timeout_s=-1"),
    ("options that cannot be", lambda c: c.with_options(level="mots"), "did you mean 'most'|level 'mots'"),
]


def refuse_to_dial(address: str, ring: Ring) -> Transport:
    raise AssertionError("a mistake was sent")


@pytest.mark.parametrize(("call", "said"), [(call, said) for _, call, said in MISTAKES], ids=[name for name, _, _ in MISTAKES])
async def test_a_mistake_is_named_before_anything_is_sent(call: Callable[[Any], Any], said: str) -> None:
    client = AsyncClient("127.0.0.1:1", dial=refuse_to_dial)

    async def begin() -> None:
        made = call(client)
        if asyncio.iscoroutine(made):
            await made

    with pytest.raises(BadRequest) as raised:
        await begin()
    assert any(part in str(raised.value) for part in said.split("|"))
    assert not raised.value.retryable and not raised.value.may_have_applied


def test_the_blocking_client_names_the_same_mistakes() -> None:
    client = Client("127.0.0.1:1", dial=refuse_to_dial)
    for name, call, said in MISTAKES:
        with pytest.raises(BadRequest) as raised:
            call(client)
        assert any(part in str(raised.value) for part in said.split("|")), name
    client.close()


async def test_an_entry_given_as_context_is_told_what_to_give() -> None:
    class Entry:
        context = b""

    with pytest.raises(BadRequest, match=r"give its \.context"):
        await AsyncClient("127.0.0.1:1", dial=refuse_to_dial).put("k", b"v", context=Entry())  # type: ignore[arg-type]


async def test_a_scan_names_mistakes_as_well() -> None:
    client = AsyncClient("127.0.0.1:1", dial=refuse_to_dial)
    for options in ({"limit": -1}, {"limit": "3"}, {"start": 1}, {"timeout_s": 0}, {"level": "x"}):
        with pytest.raises(BadRequest):
            [entry async for entry in client.scan(**options)]


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), "5"])
def test_a_client_s_own_timeout_is_checked_too(timeout_s: Any) -> None:
    with pytest.raises(BadRequest, match="timeout_s"):
        AsyncClient("127.0.0.1:1", timeout_s=timeout_s)


async def test_subclasses_of_str_and_bytes_are_keys_and_values() -> None:
    from kvclient.testing import FakeAsyncClient

    class Name(str):
        __slots__ = ()

    class Blob(bytes):
        __slots__ = ()

    async with FakeAsyncClient() as client:
        await client.put(Name("k"), Blob(b"v"))
        assert (await client.get(Blob(b"k"))).value == b"v"
