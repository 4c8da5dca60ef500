"""What a node learns from its peers' messages of who writes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from kvproto.v1 import peer_pb2
from kvstore.api.exchange import Exchange
from kvstore.core.writers import WRITER_BYTES, Writers

ME, OTHER = b"me------", b"other---"


class Watched(Writers):
    """Keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes] = []

    def wrote(self, writer: bytes, now_s: float) -> None:
        self.told.append(writer)
        super().wrote(writer, now_s)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"writers": [ME]}, [ME]),
        ({"writers": [ME, OTHER], "trace_ids": [bytes(16)]}, [ME, OTHER]),
        ({}, []),  # repair, and what is handed on
        ({"trace_ids": [ME + bytes(8)]}, [b""]),  # of a node that does not say whose they are: somebody's
        ({"trace_ids": [ME + bytes(8)], "fetch_keys": [b"k"]}, []),  # repair, beside what somebody reads
    ],
)
async def test_whose_writes_a_message_stores(facts: dict[str, Any], told: list[bytes]) -> None:
    writers = Watched()
    no: Any = SimpleNamespace(logs=None, timer=asyncio.get_running_loop().time, slow_batch_s=0.0)
    replica: Any = SimpleNamespace(writers=writers)
    exchange = Exchange("n1", replica, no, registers=no, telemetry=no, freshness=no)
    exchange._note_writers(peer_pb2.PeerRequest(store_keys=[b"k"], **facts))
    assert writers.told == told
    assert all(len(writer) in (0, WRITER_BYTES) for writer in writers.told)
