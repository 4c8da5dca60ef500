"""One scenario for a test: run as a user runs it, judged in every column."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kvchaos.scenarios.catalogue import SCENARIOS
from kvchaos.scenarios.results import summary
from kvchaos.scenarios.stage import Result, run

SEED = 20261126
DURING_MIN = 12
"""Of each kind, side and column; the command asks for more."""


async def run_scenario(name: str, root: Path, *, bug: str = "") -> Result:
    """The result; its nodes find the packages where the tests do, and have `bug`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        scenario = replace(SCENARIOS[name], during_min=min(DURING_MIN, SCENARIOS[name].during_min))
        return await run(scenario, seed=SEED, root=root, bug=bug)


async def hold_every_promise(name: str, root: Path) -> None:
    """Fails with everything that is known, so that it can be judged without a second run."""
    result = await run_scenario(name, root)
    if result.failure or any(told.verdict.word != "ok" for told in result.columns):
        for told in result.columns:
            told.history.write(root.parent / f"{name}-{told.column}.jsonl")
        pytest.fail(f"{summary(result)}; histories are in {root.parent}")
