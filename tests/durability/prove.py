"""`python -m tests.durability.prove`: the proof in figures, for the build as released and for three with a mistake planted.

Ends with 0 when the release passes and all planted builds are caught, else with 8.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from kvchaos.disks.build import build_shim
from tests.durability.proof import Proof, run_proof
from tests.durability.serve_planted import PLANTS

PROMISE_BROKEN = 8


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability.prove", description=__doc__.partition("\n")[0])
    parser.add_argument("--acks", type=int, default=3_000, help="writes to be acknowledged before the kill, in each run")
    parser.add_argument("--seed", type=int, default=None, help="of keys, values and ports; default: drawn and printed")
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else random.Random().getrandbits(32)
    proofs = [asyncio.run(_run(plant, chosen.acks, seed)) for plant in (None, *PLANTS)]
    print(f"seed {seed}")
    print(table(proofs))
    released, *planted = proofs
    print("; ".join([f"{released.build} {'passes' if passes(released) else 'FAILS'}", *map(_caught, planted)]))
    return 0 if is_proven(proofs) else PROMISE_BROKEN


def passes(proof: Proof) -> bool:
    """Whether no acknowledgement came too early and everything acknowledged was found; an empty run passes nothing."""
    return bool(proof.acks) and proof.synced.is_ok and proof.found.is_ok


def is_proven(proofs: list[Proof]) -> bool:
    """Whether the first run, of the release, passes and every other is caught by the order of its events."""
    released, *planted = proofs
    return passes(released) and all(not proof.synced.is_ok for proof in planted)


def _caught(proof: Proof) -> str:
    return f"{proof.build} {'NOT CAUGHT' if proof.synced.is_ok else 'is caught'}"


async def _run(plant: str | None, acks: int, seed: int) -> Proof:
    print(f"running: {plant or 'as released'}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="kv-fsync-") as folder:
        return await run_proof(Path(folder), build_shim(), acks=acks, seed=seed, plant=plant)


def table(proofs: list[Proof]) -> str:
    """The figures of the runs side by side."""
    columns = [proof.rows() for proof in proofs]
    lines = [f"{'':<18}" + "".join(f"{proof.build:>20}" for proof in proofs)]
    lines += [f"{name:<18}" + "".join(f"{rows[name]:>20}" for rows in columns) for name in columns[0]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
