"""Frames over a bare connection: whatever way the bytes are cut, who is silent, who does not read, and who is no node at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto import frames
from kvproto.frames import GREETING_BYTES_MAX, HEADER_BYTES, LARGE_BYTES, Connection, TcpConnection, TcpFrames
from tests.support.waiting import turns, until


class Wire:
    """A transport that is only written to."""

    def __init__(self) -> None:
        self.written = b""
        self.reads = True
        self.is_over = False
        self.pieces: Sequence[bytes] = ()

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing is kept."""

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.written += b"".join(pieces)

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_over

    def abort(self) -> None:
        self.is_over = True

    close = abort


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(HEADER_BYTES, "big") + message for message in messages)


async def connected(taken: list[bytes], frame_bytes_max: int = 1 << 20) -> tuple[TcpConnection, Wire]:
    connection, wire = TcpConnection(lambda opened: None), Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    connection.take, connection.frame_bytes_max = taken.append, frame_bytes_max
    return connection, wire


@given(st.lists(st.binary(max_size=20), max_size=12), st.lists(st.integers(min_value=1, max_value=40), max_size=30))
def test_frames_are_whole_however_the_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    """Empty ones are beats, which nobody is told of."""

    async def run() -> list[bytes]:
        taken: list[bytes] = []
        connection, _ = await connected(taken)
        rest = framed(*messages)
        for size in [*cuts, len(rest) + 1]:
            piece, rest = rest[:size], rest[size:]
            if piece:
                connection.data_received(piece)
        connection.connection_lost(None)
        return taken

    assert asyncio.run(run()) == [message for message in messages if message]


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=12), st.integers(min_value=1, max_value=30), st.data())
def test_who_does_not_want_any_more_is_given_the_rest_later(messages: list[bytes], size: int, data: st.DataObject) -> None:
    pause_at = data.draw(st.sets(st.integers(min_value=1, max_value=len(messages) + 1)))

    async def run() -> list[bytes]:
        taken: list[bytes] = []
        connection, wire = await connected(taken)

        def take(frame: bytes) -> None:
            taken.append(frame)
            if len(taken) in pause_at:
                connection.pause()

        connection.take = take
        stream = framed(*messages)
        for at in range(0, len(stream), size):
            connection.data_received(stream[at : at + size])
            held = len(taken)
            while not wire.reads:
                assert len(taken) == held, "nothing is handed over meanwhile"
                connection.resume()
                held = len(taken)
        connection.connection_lost(None)
        return taken

    assert asyncio.run(run()) == messages


async def test_a_frame_that_is_too_long_ends_the_connection_before_any_of_it_is_kept() -> None:
    for first in (b"PRI * HTTP/2.0", b"GET / HTTP/1.1", b"\x16\x03\x01\x02\x00\x01", (GREETING_BYTES_MAX + 1).to_bytes(4, "big")):
        taken: list[bytes] = []
        connection, wire = await connected(taken, GREETING_BYTES_MAX)
        reasons: list[str] = []
        connection.lost = reasons.append
        connection.data_received(first)
        assert wire.is_over and not taken
        connection.connection_lost(None)
        assert "announced a frame of" in reasons[0]


async def test_what_is_closed_by_its_owner_tells_nobody_of_its_end() -> None:
    taken: list[bytes] = []
    connection, wire = await connected(taken)
    connection.lost = lambda reason: taken.append(reason.encode())
    connection.close()
    connection.data_received(framed(b"late"))
    connection.connection_lost(None)
    connection.close()
    await connection.write(b"nobody is there")
    assert wire.is_over and not taken and not wire.written


# --- over TCP


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Connection, Connection]]:
    """Both ends of a connection."""
    net, accepted = TcpFrames(), list[Connection]()
    listener = await net.listen("127.0.0.1", 0, accepted.append)
    dialled = await net.dial(f"[127.0.0.1]:{listener.port}")
    await until(lambda: bool(accepted))
    for end in (dialled, accepted[0]):
        end.frame_bytes_max = 1 << 26
    try:
        yield dialled, accepted[0]
    finally:
        dialled.close()
        accepted[0].close()
        listener.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A life that a test can wait for."""
    monkeypatch.setattr(frames, "BEAT_S", 0.02)
    monkeypatch.setattr(frames, "SILENCE_S", 0.4)


async def test_messages_of_any_size_arrive_whole_and_in_order() -> None:
    async with pair() as (near, far):
        taken: list[bytes] = []
        far.take = taken.append
        sent = [b"a", b"b" * 70_000, b"c" * 20_000_000, b"d"]
        for message in sent:
            await near.write(message)
        await until(lambda: len(taken) == len(sent), timeout_s=30)
        assert taken == sent


async def test_who_writes_waits_for_who_does_not_read() -> None:
    async with pair() as (near, far):
        taken: list[bytes] = []
        far.take = taken.append
        far.pause()
        written = 0

        async def write() -> None:
            nonlocal written
            while written < 300:
                await near.write(b"x" * 200_000)
                written += 1

        writing = asyncio.create_task(write())
        before = -1
        while before != written:  # until it stands
            before = written
            await asyncio.sleep(0.2)
        assert written < 300 and not taken
        far.resume()
        await writing
        await until(lambda: len(taken) == 300)


@pytest.mark.usefixtures("quick")
async def test_a_connection_with_nothing_to_say_lives_as_long_as_both_ends_do(monkeypatch: pytest.MonkeyPatch) -> None:
    beats, beat = list[TcpConnection](), TcpConnection._beat

    def noting(self: TcpConnection) -> None:
        beats.append(self)
        beat(self)

    monkeypatch.setattr(TcpConnection, "_beat", noting)
    async with pair() as (near, far):
        lost: list[str] = []
        near.lost = far.lost = lost.append
        await until(lambda: len(beats) > 8 * frames.SILENCE_S / frames.BEAT_S)
        assert not lost


@pytest.mark.usefixtures("quick")
async def test_a_silent_other_side_is_given_up() -> None:
    accepted: list[Connection] = []
    listener = await TcpFrames().listen("127.0.0.1", 0, accepted.append)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await until(lambda: bool(accepted))
    lost: list[str] = []
    accepted[0].lost = lost.append
    await until(lambda: bool(lost))
    assert "has said nothing for" in lost[0]
    while await reader.read(1000):  # its beats
        pass
    writer.close()
    listener.close()


@pytest.mark.usefixtures("quick")
async def test_who_stood_still_himself_does_not_blame_the_other_side() -> None:
    """SIGSTOP, or a machine that was busy: what came meanwhile lies in the socket, and is read after the timer has run."""
    taken: list[bytes] = []
    connection, wire = await connected(taken)
    lost: list[str] = []
    connection.lost = lost.append
    connection._heard_s -= 100
    connection._due_s -= 100
    connection._has_heard = False
    connection._beat()
    assert not wire.is_over
    await until(lambda: wire.is_over)  # it really is silent
    connection.connection_lost(None)
    assert "has said nothing for" in lost[0]


async def test_the_end_of_the_other_process_is_told_at_once() -> None:
    async with pair() as (near, far):
        lost: list[str] = []
        near.lost = lost.append
        far.close()
        await until(lambda: bool(lost))
        assert lost == ["closed the connection"]
        await near.write(b"to nobody")
        await turns(3)
        assert lost == ["closed the connection"]


async def test_nobody_there_is_an_error_of_the_system() -> None:
    listener = await TcpFrames().listen("127.0.0.1", 0, lambda connection: None)
    listener.close()
    with pytest.raises(OSError, match=str(listener.port)):
        await TcpFrames().dial(f"127.0.0.1:{listener.port}")


async def test_a_large_frame_is_not_copied_on_either_side() -> None:
    large, small = bytes(LARGE_BYTES), bytes(LARGE_BYTES - 1)
    taken: list[Any] = []
    connection, wire = await connected(taken)
    await connection.write(large)
    assert wire.pieces[1] is large and wire.written == framed(large)
    came = framed(small, large)
    connection.data_received(came)
    assert taken == [small, large]
    assert type(taken[0]) is bytes and isinstance(taken[1], memoryview) and taken[1].obj is came
