"""A session's scan shows what the session wrote at any level (safety rule 20)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kvclient import AsyncClient, BehindSession, Entry, Receipt
from kvclient.session_scan import is_in_range, with_known
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
        ({"start": "c", "limit": 1}, {"d": b"old"}),
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


def test_a_scan_that_has_enough_ends_the_stream_it_reads() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        session = world.client("c1", timeout_s=3.0).namespace("default").session()
        for key in KEYS:
            await session.put(key, b"v")
        dispatcher = session._client.dispatcher
        assert dispatcher is not None
        real, ended = dispatcher.real, []  # type: ignore[attr-defined]
        scan = real.scan

        async def watched(query: ScanQuery, timeout_s: float) -> AsyncIterator[Entry]:
            try:
                async for one in scan(query, timeout_s):
                    yield one
            finally:
                ended.append(query.limit)

        real.scan = watched
        assert await shown(session, limit=2) == {"a": b"v", "b": b"v"}
        assert ended == [2]

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


def context(counter: int) -> bytes:
    """Of who has seen that many writes of one actor."""
    return b"\x01\x00\x01" + bytes(12) + counter.to_bytes(8, "big")


def entry(key: bytes, counter: int, value: bytes | None) -> Entry:
    return Entry(key, value, b"", 0, context(counter), 0, Receipt())


@pytest.mark.parametrize(
    ("scanned", "known", "seen", "shown"),
    [
        ([(b"a", 1, b"scan")], [(b"a", 2, b"seen")], {b"a": 2}, [b"seen"]),
        ([(b"a", 3, b"scan")], [(b"a", 2, b"seen")], {b"a": 2}, [b"scan"]),
        ([(b"a", 1, b"scan")], [(b"a", 2, None)], {b"a": 2}, []),
        ([(b"a", 3, b"scan")], [(b"a", 2, None)], {b"a": 2}, [b"scan"]),
        ([(b"b", 1, b"scan")], [(b"a", 1, b"first"), (b"c", 1, b"last")], {b"a": 1, b"c": 1}, [b"first", b"scan", b"last"]),
    ],
)
async def test_of_a_key_that_the_session_knows_the_newer_is_shown(
    scanned: list[tuple[bytes, int, bytes]],
    known: list[tuple[bytes, int, bytes | None]],
    seen: dict[bytes, int],
    shown: list[bytes],
) -> None:
    async def scan() -> AsyncIterator[Entry]:
        for row in scanned:
            yield entry(*row)

    contexts = {key: context(counter) for key, counter in seen.items()}
    told = with_known(scan(), {row[0]: entry(*row) for row in known}, contexts)
    assert [one.value async for one in told] == shown
