"""Rounds of SIGKILL under load: random nodes, up to all of them; every node starts again; nothing acknowledged is lost.

    python -m kvchaos.kill_rounds --rounds 20

One line a round and the counts at the end. Ends with 0, 8 (a promise was broken) or 9 (too little happened to judge).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kvchaos.checkers.lost_writes import Verdict, check_lost_writes
from kvchaos.history import History, Recorder
from kvchaos.processes import FaultFailed, ProcessPlane, RestartFailed
from kvchaos.workloads import KeyValue, Padded, UniqueWrites
from kvproto.errors import KvError

WRITERS = 16
OWN_KEYS = 20
SHARED_KEYS = 8
BEFORE_KILL_MIN = 200
WHILE_DOWN_MIN = 100
PROGRESS_TIMEOUT_S = 60.0
READ_BACK_TIMEOUT_S = 30.0
VIOLATIONS_SHOWN = 20
PROMISE_BROKEN = 8
INCONCLUSIVE = 9


@dataclass(slots=True)
class KillReport:
    """What a run did and found. `acknowledged_min` is what it had to acknowledge to count as a test at all."""

    seed: int
    rounds: int = 0
    kills: list[tuple[str, ...]] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    acknowledged_min: int = 0
    history: History = field(default_factory=History)

    @property
    def is_conclusive(self) -> bool:
        """Whether enough was acknowledged, and somebody killed in every round."""
        return self.verdict.acknowledged >= self.acknowledged_min and len(self.kills) == self.rounds > 0

    def sentence(self) -> str:
        """The counts, on one line."""
        killed = sum(len(victims) for victims in self.kills)
        return f"seed {self.seed}: {self.rounds} rounds of SIGKILL, {killed} nodes killed: {self.verdict.sentence()}"


def choose_victims(nodes: tuple[str, ...], round_number: int, rng: random.Random) -> tuple[str, ...]:
    """One node, then two, … then all of them, then one again; which ones is drawn.

    With all of them dead what counts is on disk and not in a survivor; with one dead the others go on without it.
    """
    return tuple(sorted(rng.sample(nodes, 1 + round_number % len(nodes))))


async def run_kill_rounds(
    *,
    rounds: int,
    seed: int,
    root: Path,
    preset: str = "pa-ec",
    value_bytes: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> KillReport:
    """Runs the rounds on a new cluster below `root`, with values of at least `value_bytes`. Raises `RestartFailed` when a node does
    not start again."""
    from kvclient import AsyncClient

    rng = random.Random(f"{seed}/kills")
    loop = asyncio.get_running_loop()
    recorder = Recorder(lambda: int(loop.time() * 1e9), {"seed": seed, "preset": preset, "scenario": "kill-rounds"})
    report = KillReport(seed, acknowledged_min=rounds * BEFORE_KILL_MIN, history=recorder.history)
    async with ProcessPlane(root, preset=preset) as plane, AsyncClient(plane.addresses) as client:
        store: KeyValue = client.namespace("default")
        load = UniqueWrites(
            Padded(store, value_bytes) if value_bytes else store,
            writers=WRITERS,
            own_keys=OWN_KEYS,
            shared_keys=SHARED_KEYS,
            rng=random.Random(f"{seed}/load"),
            recorder=recorder,
        )
        try:
            for number in range(rounds):
                victims = choose_victims(plane.node_ids, number, rng)
                await _run_round(plane, load, victims, BEFORE_KILL_MIN + rng.randrange(BEFORE_KILL_MIN))
                report.rounds += 1
                report.kills.append(victims)
                report.verdict = check_lost_writes(load.writes, await load.read_all(timeout_s=READ_BACK_TIMEOUT_S))
                say(f"round {number + 1}/{rounds}: killed {' '.join(victims)}, all back; {report.verdict.sentence()}")
                if not report.verdict.is_ok:
                    break
        finally:
            await load.abort()
    return report


async def _run_round(plane: ProcessPlane, load: UniqueWrites, victims: tuple[str, ...], before: int) -> None:
    """Kills `victims` once `before` writes have been acknowledged, starts them again, and lets the writers go on for a while."""
    load.start()
    await load.acknowledge_more(before, timeout_s=PROGRESS_TIMEOUT_S)
    await plane.kill(*victims)
    load.recorder.fault("kill", list(victims))
    if len(victims) <= len(plane.node_ids) // 2:
        # A majority goes on: what it acknowledges alone must survive the return of the others.
        await load.acknowledge_more(WHILE_DOWN_MIN, timeout_s=PROGRESS_TIMEOUT_S)
    await plane.restart(*victims)
    load.recorder.fault("restart", list(victims))
    await load.acknowledge_more(BEFORE_KILL_MIN, timeout_s=PROGRESS_TIMEOUT_S)
    await load.stop()


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m kvchaos.kill_rounds", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="which nodes die when; default: drawn and printed")
    parser.add_argument("--preset", default="pa-ec")
    parser.add_argument("--value-bytes", type=int, default=0, help="how large values are at least; from 32768 on they lie in files")
    parser.add_argument("--history", type=Path, help="write the history to this file, as JSON Lines")
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().getrandbits(32)
    try:
        report = _run(chosen.rounds, seed, chosen.preset, chosen.value_bytes)
    except RestartFailed as error:
        print(f"seed {seed}: a node did not start again: {error}")
        return PROMISE_BROKEN
    except (FaultFailed, TimeoutError, KvError) as error:
        print(f"seed {seed}: inconclusive: {type(error).__name__}: {error}")
        return INCONCLUSIVE
    if chosen.history is not None:
        report.history.write(chosen.history)
    print(report.sentence())
    for name, key, value in report.verdict.violations()[:VIOLATIONS_SHOWN]:
        print(f"{name}: {key} = {value.decode()}")
    if not report.verdict.is_ok:
        return PROMISE_BROKEN
    return 0 if report.is_conclusive else INCONCLUSIVE


def _run(rounds: int, seed: int, preset: str, value_bytes: int) -> KillReport:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="kv-kill-") as folder:
        running = run_kill_rounds(rounds=rounds, seed=seed, root=Path(folder), preset=preset, value_bytes=value_bytes, say=say)
        return asyncio.run(running)


if __name__ == "__main__":
    sys.exit(main())
