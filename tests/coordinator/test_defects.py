"""A defect in one round is its own: its operations are answered as unknown, everybody else's go on."""

from __future__ import annotations

from typing import Any

import pytest

from kvproto.columns import Kind, OperationGroup
from kvproto.errors import BadRequest, Code
from kvstore.config import ClusterConfig
from tests.support.cluster import LONG, Cluster, gets, puts, request_id
from tests.support.waiting import until


async def test_a_round_that_breaks_is_answered_and_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Cluster() as cluster:
        coordinator = cluster.members["n1"].local.coordinator

        async def broken(sub: Any, deadline_s: float, emit: Any) -> None:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(coordinator._gets, "run", broken)
        answer = await cluster.run("n1", puts({b"a": b"1"}), gets(b"a", b"b"), OperationGroup(Kind.DELETE, "default", [b"c"]))
        assert answer.told[0, 0].error is None and answer.told[2, 0].error is None
        for position in (0, 1):
            error = answer.told[1, position].error
            assert error is not None and error.code is Code.INTERNAL and not error.may_have_applied
        await until(lambda: coordinator.in_flight == 0)


async def test_a_write_round_that_breaks_midway_is_unknown_where_it_was_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Cluster() as cluster:
        puts_ = cluster.members["n1"].local.coordinator._puts

        async def broken(*arguments: Any) -> None:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(puts_, "_collect", broken)
        answer = await cluster.run("n1", puts({b"": b"refused before", b"a": b"1", b"b": b"2"}))
        assert isinstance(answer[0].error, BadRequest)
        for position in (1, 2):
            error = answer[position].error
            assert error is not None and error.code is Code.INTERNAL and error.may_have_applied
        assert (await cluster.get("n2", b"a", **LONG)).error is None


async def test_an_empty_batch_is_answered() -> None:
    async with Cluster(1) as cluster:
        answer = await cluster.start("n1").complete()
        assert answer.told == {}


@pytest.mark.parametrize("columns", [{}, {"ttls_ms": [5000]}, {"contexts": [b""]}])
async def test_a_single_key_is_forwarded_with_its_columns(columns: dict[str, Any]) -> None:
    """A column of one entry belongs to one key or stands for all, an empty one is its default: one key makes them look alike."""
    async with Cluster(5, settings=ClusterConfig(partitions=16)) as cluster:
        keys = [key for key in (b"key-%d" % at for at in range(64)) if "n1" not in cluster.owners(key)][:2]
        ids = b"".join(request_id(cluster.clock, at) for at in range(2))
        contexts = columns.get("contexts", [])
        group = puts(dict.fromkeys(keys, b"v"), request_ids=ids, **{**columns, "contexts": contexts * 2})
        answer = await cluster.run("n1", group)
        assert all(told.error is None for told in answer.told.values()) and len(answer.told) == 2
        read = await cluster.run("n1", gets(keys[0], **LONG))
        expected = [cluster.clock.time_ms + 5000] if "ttls_ms" in columns else []
        assert read[0].value == b"v" and read[0].expires_ms == expected
