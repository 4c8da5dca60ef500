"""A peer's message that waited for longer than its work had time is answered, and not executed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from kvproto.errors import Code
from kvproto.large_messages import whole
from kvproto.outbox import Outbox
from kvproto.v1 import peer_pb2
from kvstore.api.exchange import Reply
from kvstore.api.peer import END
from tests.support.cluster import Cluster


async def test_a_message_that_was_read_after_its_deadline_is_dropped_and_counted() -> None:
    """The first one shows how long the way takes; the second was sent a second before it was read, and had 500 ms."""
    async with Cluster() as cluster:
        member = cluster.members["n1"]
        ring, now_ms = member.local.view.ring, int(asyncio.get_running_loop().time() * 1000)
        key = cluster.store_key(b"k")
        messages: list[Any] = [
            peer_pb2.PeerRequest(
                batch_id=number,
                ring_epoch=ring.epoch,
                ring_hash=ring.hash,
                timeout_ms=500,
                sent_steady_ms=now_ms - late_ms,
                fetch_keys=[key],
                fetch_digests=bytes(8),
            )
            for number, late_ms in ((1, 0), (2, 1000), (3, 400))
        ]
        replies: list[peer_pb2.PeerReply] = []

        async def read() -> Any:
            return messages.pop(0) if messages else END

        async def write(reply: Reply) -> None:
            replies.append(whole(reply))

        await member.peer_service._read(SimpleNamespace(read=read), Outbox(write), [])
        assert [reply.error.code for reply in replies] == [0, Code.DEADLINE_EXCEEDED, 0]
        assert [reply.fetched for reply in replies] == [True, False, True] and not replies[1].error.may_have_applied
        assert member.local.replica.expired == 1
