"""A session's scan shows what the session wrote at any level (safety rule 20)."""

from __future__ import annotations

from typing import Any

import pytest

from kvclient import AsyncClient, BehindSession
from kvclient.session_scan import is_in_range
from kvclient.sessions import AsyncSession
from kvproto.columns import ScanQuery
from kvstore.simulation.world import World

KEYS = ["a", "b", "c", "d", "e", "f"]


async def only_at_n1(world: World) -> tuple[AsyncSession, AsyncClient]:
    """A session that has written some keys at level one, which n1 alone has, for what it sends to others does not arrive; the rest
    is at all. The session asks n2 and n3 now."""
    await world.start()
    client = world.client("c1", timeout_s=3.0)
    await client.put_many({key: b"old" for key in KEYS if key != "b"}, level="all")
    session = client.namespace("default").session()
    world.partition(["n2", "n3"], ["c1"])
    for node in ("n2", "n3"):
        world.stall("n1", node)
    for key in ("b", "e"):
        await session.put(key, b"new", level="one")
    await session.delete("c", level="one")
    other = world.client("c2", timeout_s=3.0)
    world.partition(["n1"], ["c2"])
    return other.namespace("default").session(token=session.token), other


async def shown(session: AsyncSession, prefix: str = "", **options: Any) -> dict[str, bytes | None]:
    """What a scan shows, in its order."""
    return {entry.key.decode(): entry.value async for entry in session.scan(prefix, **options)}


@pytest.mark.parametrize(
    ("query", "entries"),
    [
        ({}, {"a": b"old", "b": b"new", "d": b"old", "e": b"new", "f": b"old"}),
        ({"limit": 2}, {"a": b"old", "b": b"new"}),
        ({"start": "b", "end": "e"}, {"b": b"new", "d": b"old"}),
        ({"after": "b", "limit": 2}, {"d": b"old", "e": b"new"}),
        ({"prefix": "c"}, {}),
        ({"level": "one", "start": "e"}, {"e": b"new", "f": b"old"}),
    ],
)
def test_bug_a_sessions_scan_missed_what_it_had_written_at_level_one(query: dict[str, Any], entries: dict[str, bytes]) -> None:
    """1. A session writes and deletes at level one. 2. It scans at once: two nodes answer that have not heard of it yet."""

    async def scenario(world: World) -> None:
        session, plain = await only_at_n1(world)
        stale = {entry.key.decode(): entry.value async for entry in plain.scan()}
        assert stale == {key: b"old" for key in KEYS if key != "b"}, "without a session"

        async def heal() -> None:
            await world.sleep(0.3)
            for node in ("n2", "n3"):
                world.heal("n1", node)

        healing = world.spawn("c2", heal())
        assert list((await shown(session, **query)).items()) == list(entries.items())
        await healing

    World(1).run(scenario)


def test_what_others_have_written_since_is_shown() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1", timeout_s=3.0)
        session = client.namespace("default").session()
        await session.put("a", b"mine")
        await session.delete("b")
        entry = await client.get("a")
        await client.put("a", b"theirs", context=entry.context, level="all")
        await client.put("b", b"again", level="all")
        assert await shown(session) == {"a": b"theirs", "b": b"again"}

    World(0).run(scenario)


def test_if_nobody_in_reach_has_it_the_scan_says_so() -> None:
    async def scenario(world: World) -> None:
        session, _ = await only_at_n1(world)
        with pytest.raises(BehindSession):
            await shown(session)
        assert await shown(session, "a") == {"a": b"old"}

    World(0).run(scenario)


@pytest.mark.parametrize(
    ("query", "inside"),
    [
        (ScanQuery("s"), "a ab b"),
        (ScanQuery("s", prefix=b"a"), "a ab"),
        (ScanQuery("s", start=b"ab"), "ab b"),
        (ScanQuery("s", end=b"b"), "a ab"),
        (ScanQuery("s", after=b"a"), "ab b"),
        (ScanQuery("s", prefix=b"a", start=b"ab", end=b"b", after=b"aa"), "ab"),
    ],
)
def test_a_range_is_that_of_the_scan(query: ScanQuery, inside: str) -> None:
    assert [key for key in ("a", "ab", "b") if is_in_range(query, key.encode())] == inside.split()
