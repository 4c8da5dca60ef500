"""What a client was acknowledged goes with its next write, and the memory of it is bounded."""

from __future__ import annotations

from kvclient import AsyncClient
from kvclient.contexts import EXACT, KNOWS_NOTHING, OVERWRITE, OVERWRITE_PLUS, ContextMemory
from tests.client.fake_server import FakeCluster


async def sent(cluster: FakeCluster, key: bytes) -> list[bytes]:
    """The context of each write to `key`, in order."""
    groups = [group for group in cluster.first_owner(key).groups if key in group.keys and group.request_ids]
    return [group.contexts[list(group.keys).index(key)] if group.contexts else b"" for group in groups]


async def test_a_write_without_context_carries_what_the_client_was_acknowledged(cluster: FakeCluster, client: AsyncClient) -> None:
    done = await client.put("k", b"1")
    again = await client.put("k", b"2")
    gone = await client.delete("k")
    await client.put_many({"k": b"3"})
    plus = bytes([OVERWRITE_PLUS])
    assert done.context[0] == EXACT
    expected = [OVERWRITE, plus + done.context[1:], plus + again.context[1:], plus + gone.context[1:]]
    assert await sent(cluster, b"k") == expected


async def test_a_context_of_the_caller_is_passed_on_as_it_is(cluster: FakeCluster, client: AsyncClient) -> None:
    entry = await client.get("k")
    await client.put("k", b"1", context=b"\x01read")
    await client.put("k", b"2", context=b"")
    await client.delete("k", context=entry.context)
    assert await sent(cluster, b"k") == [b"\x01read", KNOWS_NOTHING, entry.context]


async def test_reading_is_no_acknowledgement(cluster: FakeCluster, client: AsyncClient) -> None:
    async with AsyncClient(cluster.seeds) as other:
        await other.put("k", b"theirs")
    await client.get("k")
    await client.put("k", b"mine")
    assert (await sent(cluster, b"k"))[-1] == OVERWRITE


async def test_keys_and_namespaces_are_remembered_apart(cluster: FakeCluster, client: AsyncClient) -> None:
    await client.put("k", b"1")
    await client.namespace("users").put("k", b"1")
    assert await sent(cluster, b"k") == [OVERWRITE, OVERWRITE]


def test_the_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    memory = ContextMemory(bytes_max=40_000)
    contexts = memory.namespace("a")
    for number in range(1000):
        contexts.remember(b"k%d" % number, b"\x01" + b"%d" % number)
        assert len(contexts) <= 200
    assert contexts.token(b"k999") == b"\x02999"
    assert contexts.token(b"k0") == OVERWRITE
    assert len(contexts) >= 80, "about half of the bound is always kept"


def test_the_bound_is_for_all_namespaces_together() -> None:
    memory = ContextMemory(bytes_max=40_000)
    spaces = [memory.namespace(f"n{number}") for number in range(50)]
    for number in range(100):
        for space in spaces:
            space.remember(b"k%d" % number, b"\x01c")
    assert sum(len(space) for space in spaces) <= 250


def test_an_empty_context_changes_nothing() -> None:
    contexts = ContextMemory().namespace("a")
    contexts.remember(b"k", b"\x01abc")
    contexts.remember(b"k", b"")
    assert contexts.token(b"k") == b"\x02abc"
