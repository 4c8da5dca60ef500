"""The workload of registers, and what is seen of links to other stores, without such a store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kvchaos.checkers.judge import judge
from kvchaos.checkers.linearizability.verdicts import LINEARIZABLE
from kvchaos.faults.expectations import Expectation
from kvchaos.history import History, Recorder, calls_of
from kvchaos.ports import address, find_free_ports
from kvchaos.registers import OPERATIONS_A_KEY_MAX, UNKNOWN_A_KEY_MAX, Item, RegisterWorkload, Stored, Swap
from kvchaos.targets.doors import Door, split
from kvchaos.targets.questions import Question, Sight, ask, compare
from kvproto.errors import AvailabilityError


class Registers:
    """Registers in memory, shared by all clients; with `bug` they do what they must not."""

    def __init__(self, bug: str = "", *, unknown: float = 0.0) -> None:
        self.node = "memory"
        self._held: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._bug = bug
        self._unknown = unknown
        self._rng = random.Random(1)

    async def get(self, key: str, *, timeout_s: float) -> Item:
        await asyncio.sleep(0)
        stale = self._bug == "stale read" and self._rng.random() < 0.05
        return Item((self._old if stale else self._held).get(key))

    async def put(self, key: str, value: bytes, *, timeout_s: float) -> Stored:
        await asyncio.sleep(0)
        if self._rng.random() < self._unknown:
            if self._rng.random() < 0.5:
                self._set(key, value)
            raise AvailabilityError("nobody knows", may_have_applied=True)
        if self._bug != "lost write" or self._rng.random() > 0.05:
            self._set(key, value)
        return Stored()

    async def delete(self, key: str, *, timeout_s: float) -> Stored:
        await asyncio.sleep(0)
        self._set(key, None)
        return Stored()

    async def compare_and_set(self, key: str, old: bytes | None, new: bytes, *, timeout_s: float) -> Swap:
        held = self._held.get(key)
        if self._bug == "cas without a lock":
            await asyncio.sleep(0)
        if held != old:
            return Swap(applied=False, found=Item(held))
        self._set(key, new)
        await asyncio.sleep(0)
        return Swap(applied=True)

    def _set(self, key: str, value: bytes | None) -> None:
        if key in self._held:
            self._old[key] = self._held.pop(key)
        if value is not None:
            self._held[key] = value


async def history_with(store: Registers, *, operations: int) -> History:
    loop = asyncio.get_running_loop()
    recorder = Recorder(lambda: int(loop.time() * 1e9), {"promises": ["linearizable"]})
    workload = RegisterWorkload([store] * 5, recorder, rng=random.Random(2), pace_s=0)
    workload.start()
    try:
        await workload.acknowledge_more(operations, timeout_s=60)
        await workload.stop()
    finally:
        await workload.abort()
    return recorder.history


async def test_what_registers_in_memory_answer_is_linearizable_and_every_kind_of_operation_is_among_it() -> None:
    history = await history_with(Registers(unknown=0.05), operations=2000)
    assert judge(history) == []
    assert {event.f for event in history.events if event.type == "ok"} == {"read", "write", "cas", "put_if_absent", "delete"}
    assert any("found" in event.facts for event in history.events), "conditions that did not hold say what was there"
    calls = calls_of(history.events)
    for key in {call.key for call in calls}:
        about = [call for call in calls if call.key == key]
        assert len(about) <= OPERATIONS_A_KEY_MAX + 5
        assert sum(call.end is not None and call.end.type == "info" for call in about) <= UNKNOWN_A_KEY_MAX + 5


@pytest.mark.parametrize("bug", ["stale read", "lost write", "cas without a lock"])
async def test_what_they_must_not_do_is_found(bug: str) -> None:
    found = judge(await history_with(Registers(bug), operations=2000))
    assert {violation.promise for violation in found} == {LINEARIZABLE}


async def test_what_a_process_dies_of_is_raised() -> None:
    class Broken(Registers):
        async def get(self, key: str, *, timeout_s: float) -> Item:
            raise RuntimeError("a bug of the adapter")

    with pytest.raises(RuntimeError, match="a bug of the adapter"):
        await history_with(Broken(), operations=1000)


# --- links

SLOW = Expectation(round_trip_s=0.2)
CUT = Expectation(greets=False, closes=False)


@pytest.mark.parametrize(
    ("seen", "expected", "before", "wrong"),
    [
        (Sight(answered=True), Expectation(), None, ""),
        (Sight(), Expectation(), None, "is not answered"),
        (Sight(closed=True), Expectation(), None, "is closed"),
        (Sight(refused=True), Expectation(), None, "is refused"),
        (Sight(refused=True), Expectation(refused=True), None, ""),
        (Sight(answered=True), Expectation(refused=True), None, "is not refused"),
        (Sight(), CUT, None, ""),
        (Sight(answered=True), CUT, None, "is answered"),
        (Sight(closed=True), CUT, None, "is closed"),
        (Sight(closed=True), Expectation(breaks=True), None, ""),
        (Sight(answered=True), Expectation(breaks=True), None, "no connection is seen to break"),
        (Sight(answered=True, took_s=0.21), SLOW, None, ""),
        (Sight(answered=True, took_s=0.01), SLOW, None, "an answer takes 10 ms, at least 200 are due"),
        (Sight(answered=True, took_s=0.21), Expectation(), SLOW, "an answer takes 210 ms, as if still slow +200 ms"),
        (Sight(answered=True, took_s=0.01), Expectation(), SLOW, ""),
        (Sight(answered=True), Expectation(kbytes_per_s=9), None, "a throttle cannot be seen of this store"),
    ],
)
def test_a_link_is_as_it_should_be_or_it_is_said_how_not(
    seen: Sight, expected: Expectation, before: Expectation | None, wrong: str
) -> None:
    assert compare(seen, expected, before) == wrong


@asynccontextmanager
async def echo() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"echo " + await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield address(server.sockets[0].getsockname()[1])


async def connected(door: str, wanted: str) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
    """The code that a SOCKS client is answered, and its connection."""
    reader, writer = await asyncio.open_connection(*split(door))
    host, port = split(wanted)
    writer.write(b"\x05\x01\x00\x05\x01\x00\x01" + bytes(map(int, host.split("."))) + port.to_bytes(2, "big"))
    assert await reader.readexactly(2) == b"\x05\x00"
    return (await reader.readexactly(10))[1], reader, writer


async def test_a_door_leads_each_address_its_own_way_and_no_other() -> None:
    listen, dead = (address(port) for port in find_free_ports(2))
    async with echo() as there, Door(listen, {"192.0.2.1:2380": there, "192.0.2.2:2380": dead}) as door:
        code, reader, writer = await connected(listen, "192.0.2.1:2380")
        writer.write(b"hello")
        assert (code, await reader.read(100)) == (0, b"echo hello")
        writer.close()
        for wanted, refusal in (("192.0.2.2:2380", 5), ("192.0.2.3:2380", 4)):
            code, reader, writer = await connected(listen, wanted)
            assert (code, await reader.read(1)) == (refusal, b""), "refused, and closed"
            writer.close()
        assert door.passed == 1


async def test_a_door_that_closes_closes_for_guests_who_have_just_come_in() -> None:
    """1. A guest connects. 2. The door closes before his task has begun. Warnings are errors: his connection must be closed."""
    [port] = find_free_ports(1)
    door = Door(address(port), {})
    async with door:
        reader, writer = asyncio.StreamReader(), Closing()
        door._accept(reader, writer)  # type: ignore[arg-type]
    assert writer.closed
    late = Closing()
    door._accept(reader, late)  # type: ignore[arg-type]
    assert late.closed and not door._guests, "and for one who is handed over only now"


class Closing:
    closed = False

    def close(self) -> None:
        self.closed = True


async def test_a_question_is_answered_refused_closed_or_nothing() -> None:
    [nobody] = find_free_ports(1)
    async with echo() as there:
        assert (await ask(there, Question(b"hi", b"echo hi"))).answered
        assert (await ask(there, Question(b"hi", b"something else"))).closed
    assert (await ask(address(nobody), Question(b"hi", b"hi"))).refused
    left = asyncio.Event()

    async def listen_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()
        left.set()

    async with await asyncio.start_server(listen_only, "127.0.0.1", 0) as silent:
        where = address(silent.sockets[0].getsockname()[1])
        assert await ask(where, Question(b"hi", b"hi"), timeout_s=0.05) == Sight()
        await left.wait()
