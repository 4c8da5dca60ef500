"""What becomes of a cluster whose nodes die, hang or lose their disks under load, and how long until all replicas agree again.

    python -m kvchaos.recovery --fault kill --victims 2

Three nodes, writers that go on all the while; the victims are killed, stopped or wiped at one moment, the rest acknowledges more,
the victims come back, the writers end, and `kv status --wait converged` is waited for. One line a run: what was acknowledged, in
how long the replicas agreed, what was lost. Ends with 0, 8 (a promise was broken, or the replicas did not agree in time) or 9 (too
little happened to judge).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvchaos.checkers.lost_writes import Verdict, check_lost_writes, robbed_in
from kvchaos.history import History, Recorder
from kvchaos.processes import FaultFailed, ProcessPlane, RestartFailed, kv_dev_command
from kvchaos.workloads import UniqueWrites
from kvproto.errors import KvError

FAULTS = ("kill", "pause", "wipe")
WRITERS = 16
OWN_KEYS = 40
SHARED_KEYS = 8
BEFORE_MIN = 400
WHILE_AWAY_MIN = 150
AFTER_MIN = 200
PROGRESS_TIMEOUT_S = 60.0
READ_BACK_TIMEOUT_S = 30.0
CONVERGED_TIMEOUT_S = 60.0
VIOLATIONS_SHOWN = 20
UNAVAILABLE = 5
PROMISE_BROKEN = 8
INCONCLUSIVE = 9
REGISTERS_LOST = "registers lost"
"""What `kv status` gives as the reason of a node whose registers are lost, and nothing else any more."""


@dataclass(slots=True)
class Recovery:
    """One run: what was done, and what came of it. `converged_s` counts from the end of the load; None: not in time."""

    fault: str
    victims: tuple[str, ...]
    while_away: int = 0
    converged_s: float | None = None
    obstacles: str = ""
    repaired: int = 0
    hinted: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    history: History = field(default_factory=History)

    @property
    def is_ok(self) -> bool:
        """Whether every promise held."""
        return self.verdict.is_ok and self.converged_s is not None

    @property
    def is_conclusive(self) -> bool:
        """Whether enough happened to judge."""
        return self.while_away >= WHILE_AWAY_MIN and self.verdict.acknowledged >= BEFORE_MIN + WHILE_AWAY_MIN + AFTER_MIN

    def sentence(self) -> str:
        """For a person, on one line."""
        agreed = f"agreed after {self.converged_s:.1f} s" if self.converged_s is not None else f"NOT agreed: {self.obstacles}"
        return (
            f"{self.fault} {' '.join(self.victims)}: {self.while_away:,} acknowledged meanwhile, "
            f"{self.hinted:,} hints waiting at the return; {agreed}, {self.repaired:,} keys repaired by comparing; "
            f"{self.verdict.sentence()}"
        )


async def recover(
    fault: str, victims: int, *, seed: int, root: Path, preset: str = "pa-ec", converged_timeout_s: float = CONVERGED_TIMEOUT_S
) -> Recovery:
    """Runs one fault on a new cluster of three below `root`. Raises `RestartFailed` when a victim does not start again."""
    from kvclient import AsyncClient

    rng = random.Random(f"{seed}/{fault}/{victims}")
    loop = asyncio.get_running_loop()
    recorder = Recorder(lambda: int(loop.time() * 1e9), {"seed": seed, "preset": preset, "scenario": f"recovery/{fault}"})
    async with ProcessPlane(root, preset=preset) as plane, AsyncClient(plane.addresses) as client:
        report = Recovery(fault, tuple(sorted(rng.sample(plane.node_ids, victims))), history=recorder.history)
        load = UniqueWrites(
            client.namespace("default"),
            writers=WRITERS,
            own_keys=OWN_KEYS,
            shared_keys=SHARED_KEYS,
            rng=random.Random(f"{seed}/load"),
            recorder=recorder,
        )
        load.start()
        try:
            await load.acknowledge_more(BEFORE_MIN + rng.randrange(BEFORE_MIN), timeout_s=PROGRESS_TIMEOUT_S)
            await strike(plane, fault, report.victims)
            recorder.fault(fault, list(report.victims))
            before = load.acknowledged
            await load.acknowledge_more(WHILE_AWAY_MIN, timeout_s=PROGRESS_TIMEOUT_S)
            report.while_away = load.acknowledged - before
            report.hinted = sum([row.hints_pending for row in await client.admin.status()])
            await undo(plane, fault, report.victims)
            recorder.fault("back", list(report.victims))
            await load.acknowledge_more(AFTER_MIN, timeout_s=PROGRESS_TIMEOUT_S)
            await load.stop()
        finally:
            await load.abort()
        began_s = loop.time()
        code, rows, told = await wait_converged(plane.addresses, converged_timeout_s)
        waited_s = loop.time() - began_s
        # Two of three registers lost are lost for good; the load is on an eventual namespace, and the wait ends when that agrees.
        only_registers = code == UNAVAILABLE and waited_s < converged_timeout_s and registers_lost(rows) > 1
        report.converged_s = waited_s if code == 0 or only_registers else None
        report.obstacles = told
        report.repaired = sum([row.get("repaired", 0) for row in rows])
        report.verdict = check_lost_writes(
            load.writes, await load.read_all(timeout_s=READ_BACK_TIMEOUT_S), robbed_in(recorder.history.events)
        )
    return report


def registers_lost(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many nodes say that they have lost their registers, and are not being rebuilt in anything else."""
    return sum([row.get("rebuilding") == REGISTERS_LOST for row in rows])


async def strike(plane: ProcessPlane, fault: str, victims: Sequence[str]) -> None:
    """Does it to all of them at one moment, as far as that can be had."""
    if fault != "pause":
        await plane.kill(*victims)  # a wipe of one after the other would leave the second one time to help the first
    if fault != "kill":
        await asyncio.gather(*(plane.wipe(node) if fault == "wipe" else plane.pause(node) for node in victims))


async def undo(plane: ProcessPlane, fault: str, victims: Sequence[str]) -> None:
    """Brings them back, on the data they have left."""
    if fault == "pause":
        await asyncio.gather(*(plane.resume(node) for node in victims))
    else:
        await plane.restart(*victims)


async def wait_converged(addresses: str, timeout_s: float) -> tuple[int, list[dict[str, Any]], str]:
    """`kv status --wait converged`, as a user types it: its exit code, its rows, and what it complains of."""
    options = ("--at", addresses, "-o", "json", "--timeout", str(timeout_s))
    command = (*kv_dev_command()[:-1], *options, "status", "--wait", "converged")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode(errors="replace").strip()


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m kvchaos.recovery", description=__doc__.partition("\n")[0])
    parser.add_argument("--fault", choices=FAULTS, action="append", help="default: each of them")
    parser.add_argument("--victims", type=int, choices=(1, 2), action="append", help="of three nodes; default: one, then two")
    parser.add_argument("--seed", type=int, default=None, help="who is hit, and when; default: drawn and printed")
    parser.add_argument("--preset", default="pa-ec")
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    codes = [
        run_one(fault, victims, seed, chosen.preset, print)
        for fault in chosen.fault or FAULTS
        for victims in chosen.victims or (1, 2)
    ]
    return max(codes, key=(0, INCONCLUSIVE, PROMISE_BROKEN).index)


def run_one(fault: str, victims: int, seed: int, preset: str, say: Callable[[str], None]) -> int:
    """One run, told in one line; its exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="kv-recovery-") as folder:
            report = asyncio.run(recover(fault, victims, seed=seed, root=Path(folder), preset=preset))
    except RestartFailed as error:
        say(f"{fault}: a node did not start again: {error}")
        return PROMISE_BROKEN
    except (FaultFailed, TimeoutError, KvError) as error:
        say(f"{fault}: inconclusive: {type(error).__name__}: {error}")
        return INCONCLUSIVE
    say(report.sentence())
    for name, key, value in report.verdict.violations()[:VIOLATIONS_SHOWN]:
        say(f"{name}: {key} = {value.decode()}")
    if not report.is_ok:
        return PROMISE_BROKEN
    return 0 if report.is_conclusive else INCONCLUSIVE


if __name__ == "__main__":
    sys.exit(main())
