"""A sync that fails is the last (safety rule 4): the node acknowledges nothing more, ends, and comes back by re-reading its log."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from kvclient import AsyncClient
from kvproto.errors import KvError
from tests.durability.proof import Failure, run_proof, wait_for_end
from tests.durability.shimmed import FailingSync, ShimmedCluster
from tests.durability.verdict import Ack, check_acks

SEED = 1868
PUTS_AT_ONCE = 8


def assert_ended_as_promised(failure: Failure | None) -> None:
    assert failure is not None
    assert failure.code not in (0, -9, -11), "an end of its own accord, and not a clean one"
    assert "stops" in failure.last_words and "Input/output error" in failure.last_words, failure.last_words
    assert "start it again once the disk is well" in failure.last_words
    assert not failure.marker_left, "the next start must not take this for a clean stop"


@pytest.mark.parametrize(("path", "at"), [(".log", 40), (".ldb", 1), (".values", 5)], ids=["log", "table", "values"])
async def test_one_of_three_nodes_ends_on_a_failed_sync_and_nothing_acknowledged_is_lost(
    tmp_path: Path, shim: Path, acks: int, path: str, at: int
) -> None:
    """The receipts say which nodes acknowledged: what n2 is named for must have been synced by n2, and before its failure. A later
    sync of the same log "succeeds", and counts for nothing here, nor is anything left of it when n2 starts again."""
    proof = await run_proof(tmp_path, shim, acks=acks // 2, seed=SEED, failing=FailingSync("n2", at, path))
    assert_ended_as_promised(proof.failure)
    assert proof.timelines["n2"].failed_ns is not None
    assert [proof.timelines[node].failed_ns for node in ("n1", "n3")] == [None, None]
    assert proof.synced.is_ok, (proof.synced.too_early[:3], proof.synced.claimed_unsynced[:3])
    assert any("n2" in ack.nodes for ack in proof.acks), "it served before"
    served_by_others = [ack for ack in proof.acks if set(ack.nodes) == {"n1", "n3"}]
    assert len(served_by_others) >= acks // 2, "the cluster went on without it"
    assert proof.found.is_ok, proof.found.sentence()


async def test_a_write_caught_by_a_failed_sync_is_unknown_and_the_node_serves_again_after_its_restart(
    tmp_path: Path, shim: Path
) -> None:
    """One node, so that nobody else can acknowledge in its place."""
    failing = FailingSync("n1", 30)
    async with ShimmedCluster(tmp_path, shim, rng=random.Random(SEED), nodes=1, failing=failing) as cluster:
        acked: list[Ack] = []
        async with AsyncClient(cluster.addresses, timeout_s=3) as client:
            errors = await put_until_refused(client, acked)
        assert_ended_as_promised(await wait_for_end(cluster, "n1"))
        assert any(error.may_have_applied for error in errors), "some had been written and not synced"
        timelines = cluster.timelines()
        assert timelines["n1"].failed_ns is not None
        copies = {node: one.copies for node, one in cluster.evidence(timelines).items()}
        verdict = check_acks(acked, copies, w=1)
        assert verdict.is_ok and verdict.checked >= PUTS_AT_ONCE
        cluster.cut_back(timelines)
        await cluster.restart_plain()
        async with AsyncClient(cluster.addresses) as client:
            held = await client.get_many([ack.key for ack in acked])
            assert {key: entry.value for key, entry in held.items()} == {ack.key: ack.value for ack in acked}
            await client.put("after", b"it serves")
            assert (await client.get("after")).value == b"it serves"


async def put_until_refused(client: AsyncClient, acked: list[Ack]) -> list[KvError]:
    """Puts new keys, some at a time, until one is not acknowledged; the errors of that round."""

    async def put(key: str) -> None:
        result = await client.put(key, key.encode())
        acked.append(Ack(key, key.encode(), time.monotonic_ns(), result.receipt.acknowledged))

    for number in range(1_000):
        outcomes = await asyncio.gather(*(put(f"{number}/{caller}") for caller in range(PUTS_AT_ONCE)), return_exceptions=True)
        errors = [outcome for outcome in outcomes if outcome is not None]
        if errors:
            assert all(isinstance(error, KvError) for error in errors), errors
            return [error for error in errors if isinstance(error, KvError)]
    raise AssertionError("the sync never failed")
