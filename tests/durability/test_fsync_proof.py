"""No acknowledgement precedes the sync that covers it, and what was acknowledged survives the loss of the page cache.

SIGKILL alone cannot show either: the page cache survives it. docs/durability.md tells how this works.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.load import LARGE_VALUE_BYTES
from tests.durability.proof import DELAY_MS, Proof, run_proof

SEED = 4711


def tell(proof: Proof, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{proof.build}: " + ", ".join(f"{name} {value}" for name, value in proof.rows().items()))


async def test_every_acknowledged_write_was_synced_on_two_nodes_before_and_is_found_after_a_cut_back(
    tmp_path: Path, shim: Path, acks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = await run_proof(tmp_path, shim, acks=acks, seed=SEED)
    tell(proof, capsys)
    assert proof.synced.checked >= acks
    assert proof.synced.is_ok, (proof.synced.too_early[:3], proof.synced.claimed_unsynced[:3])
    assert proof.synced.margin_ns_min is not None and proof.synced.margin_ns_min > 0
    assert proof.found.acknowledged == proof.synced.checked
    assert proof.found.is_ok, proof.found.sentence()
    # And it was a test: logs rotated, tables were made, nothing failed, something was taken away.
    assert all(node.logs >= 2 and node.tables >= 1 and node.log_records >= 20 for node in proof.evidence.values())
    assert all(node.beside >= 20 for node in proof.evidence.values()), "large values were written, and dated where they lie"
    assert all(timeline.failed_ns is None for timeline in proof.timelines.values())
    assert proof.cut.bytes_lost > 0


@pytest.mark.long
async def test_a_log_that_ends_in_a_torn_record_is_read_up_to_it(tmp_path: Path, shim: Path, acks: int) -> None:
    """What was not synced may be on the disk in part; that must neither stop a node from starting nor cost what was synced."""
    proof = await run_proof(tmp_path, shim, acks=acks // 3, seed=SEED, tear=True)
    assert proof.cut.torn_bytes > 0, "something was written and not synced when the nodes were killed"
    assert proof.synced.is_ok
    assert proof.found.is_ok, proof.found.sentence()


async def test_a_build_that_leaves_the_sync_out_is_caught_and_loses_acknowledged_writes(
    tmp_path: Path, shim: Path, acks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    proof = await run_proof(tmp_path, shim, acks=acks, seed=SEED, plant="no-sync")
    tell(proof, capsys)
    # A few may be durable in time all the same: their table happened to be synced while they waited for another node.
    assert proof.synced.violations > acks // 2
    assert proof.found.lost, "the cut must take away what was never synced"


async def test_a_build_that_acknowledges_before_its_sync_returns_is_caught(
    tmp_path: Path, shim: Path, acks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing need be lost by it in this very run: the order of events alone must show it."""
    proof = await run_proof(tmp_path, shim, acks=acks, seed=SEED, plant="early-ack")
    tell(proof, capsys)
    assert proof.synced.violations > 0
    assert proof.synced.margin_ns_min is not None and proof.synced.margin_ns_min < -DELAY_MS * 1_000_000 / 2
    assert sum(timeline.syncs for timeline in proof.timelines.values()) > 100, "it does sync, only too late"


async def test_a_build_that_does_not_sync_large_values_is_caught_by_them_alone(
    tmp_path: Path, shim: Path, acks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """What leads to them is synced, so that a cut leaves pointers to nothing."""
    proof = await run_proof(tmp_path, shim, acks=acks, seed=SEED, plant="no-value-sync")
    tell(proof, capsys)
    large = {ack.value for ack in proof.acks if len(ack.value) > LARGE_VALUE_BYTES}
    assert len(large) >= 20
    assert {ack.value for ack in proof.synced.too_early} == large
    assert proof.found.lost, "the cut must take away what was never synced"
