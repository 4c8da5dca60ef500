"""The proof as one procedure: load under the shim, kill everything, check the acknowledgements, cut back, restart, read back.

The tests and `python -m tests.durability.prove` run the same `run_proof`: on the real build, on planted ones, with a failing sync.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

from kvchaos.checkers.lost_writes import Verdict, check_lost_writes
from kvchaos.disks.cutting import CutReport
from kvchaos.disks.synced import Timeline
from kvclient import AsyncClient
from kvstore.commands.local_node import SERVE
from tests.durability.evidence import NodeEvidence
from tests.durability.load import Load
from tests.durability.shimmed import FailingSync, ShimmedCluster
from tests.durability.verdict import Ack, SyncVerdict, check_acks

W = 2  # the default preset's, of three
DELAY_MS = 5
LOAD_TIMEOUT_S = 60.0
END_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 15.0


@dataclass(slots=True)
class Failure:
    """How the node ended whose sync failed: by itself, with which code, saying what; and what its directory held then."""

    code: int
    last_words: str
    marker_left: bool
    failed_ns: int = 0


@dataclass(slots=True)
class Proof:
    """What one run did and found."""

    build: str
    acks: list[Ack] = field(default_factory=list)
    timelines: dict[str, Timeline] = field(default_factory=dict)
    evidence: dict[str, NodeEvidence] = field(default_factory=dict)
    synced: SyncVerdict = field(default_factory=SyncVerdict)
    cut: CutReport = field(default_factory=CutReport)
    found: Verdict = field(default_factory=Verdict)
    failure: Failure | None = None

    def rows(self) -> dict[str, str]:
        """The figures by name, as `prove` prints them."""
        margin_ns = self.synced.margin_ns_min
        lost = len(self.found.lost)
        return {
            "writes": f"{self.found.acknowledged + self.found.unknown + self.found.refused:,}",
            "unknown": f"{self.found.unknown:,}",
            "acks checked": f"{self.synced.checked:,}",
            "log records": f"{sum(node.log_records for node in self.evidence.values()):,}",
            "logs, tables": f"{sum(node.logs for node in self.evidence.values())}, {sum(n.tables for n in self.evidence.values())}",
            "large values": f"{sum(node.beside for node in self.evidence.values()):,}",
            "syncs": f"{sum(timeline.syncs for timeline in self.timelines.values()):,}",
            "violations": f"{self.synced.violations:,}",
            "receipts wrong": f"{len(self.synced.claimed_unsynced):,}",
            "smallest margin": "none was durable" if margin_ns is None else f"{margin_ns / 1e6:.3f} ms",
            "resting on names": f"{self.synced.resting_on_names:,}",
            "bytes cut": f"{self.cut.bytes_lost:,}",
            "found after cut": f"{self.found.acknowledged - lost:,}",
            "lost after cut": f"{lost:,}",
        }


async def run_proof(
    root: Path,
    library: Path,
    *,
    acks: int,
    seed: int,
    plant: str | None = None,
    failing: FailingSync | None = None,
    tear: bool = False,
) -> Proof:
    """One run on a new cluster of three below `root`, until `acks` writes were acknowledged; with a failing sync, as many again
    after its node has ended. `tear` leaves a random part of what was not synced. Raises `TimeoutError` or `KvError` when the
    cluster does not get so far or cannot be read afterwards.
    """
    command = SERVE if plant is None else (sys.executable, "-m", "tests.durability.serve_planted", plant)
    proof = Proof(plant or "as released")
    ports = random.Random(f"{seed}/ports/{os.getpid()}")  # two runs beside each other look for free ones in different places
    cluster = ShimmedCluster(root, library, rng=ports, command=command, delay_ms=DELAY_MS, failing=failing)
    async with cluster:
        async with AsyncClient(cluster.addresses, rng=random.Random(f"{seed}/client")) as client:
            load = Load(client, random.Random(f"{seed}/load"))
            load.start()
            try:
                await load.acknowledged(acks, timeout_s=LOAD_TIMEOUT_S)
                if failing is not None:
                    proof.failure = await wait_for_end(cluster, failing.node)
                    await load.acknowledged(len(load.acks) + acks, timeout_s=LOAD_TIMEOUT_S)
                # In the middle of it: something must be written and not synced, or there is nothing to cut.
                await (cluster.kill() if failing is not None else cluster.kill_amid_a_write())
            finally:
                await load.cancel()
        proof.acks = load.acks
        proof.timelines = cluster.timelines()
        proof.evidence = cluster.evidence(proof.timelines)
        copies = {node: evidence.copies for node, evidence in proof.evidence.items()}
        proof.synced = check_acks(load.acks, copies, w=W)
        if failing is not None and proof.failure is not None:
            proof.failure.failed_ns = proof.timelines[failing.node].failed_ns or 0
        proof.cut = cluster.cut_back(proof.timelines, tear=random.Random(f"{seed}/tear") if tear else None)
        await cluster.restart_plain()
        async with AsyncClient(cluster.addresses) as client:
            # A replica that knows of its loss refuses, which is right; with a mistake planted it is what was looked for.
            held = await load.read_all(client, timeout_s=READ_TIMEOUT_S, refused_is_lost=plant is not None)
            proof.found = check_lost_writes(load.writes, held)
    return proof


async def wait_for_end(cluster: ShimmedCluster, node: str) -> Failure:
    """Waits until a node has ended by itself. Raises `TimeoutError`."""
    process = cluster.nodes[node]
    async with asyncio.timeout(END_TIMEOUT_S):
        code = await process.wait()
    marker = cluster.place(node).data / "clean-shutdown.json"
    return Failure(code, process.last_words(), marker.exists())
