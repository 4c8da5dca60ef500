"""The suite can fail on real clusters: nodes with a planted bug break a promise under the scenario that docs/chaos.md names for it.

The others of that table are the simulation's (tests/chaos/test_sim_command.py, tests/simulation/), each with its reason there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvchaos.scenarios.command import _code
from kvchaos.scenarios.results import summary
from kvchaos.scenarios.stage import Result
from kvclient.cli.exit_codes import ExitCode
from tests.chaos.scenario_runs import run_scenario

pytestmark = pytest.mark.timeout(240, func_only=True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "bug", "needle"),
    [
        ("F11", "ack-before-fsync", "no acknowledged write is lost"),
        ("F12", "dots-reused-after-wipe", "no version is minted twice"),
        ("F16", "reap-early", "no acknowledged write is lost"),
    ],
)
async def test_what_a_planted_bug_breaks_is_found(name: str, bug: str, needle: str, toxiproxy_server: Path, tmp_path: Path) -> None:
    result = await run_scenario(name, tmp_path / "cluster", bug=bug)
    assert _code(result) is ExitCode.PROMISE_BROKEN, summary(result)
    broken = {told.column for told in result.columns if told.verdict.broken}
    assert any(needle in sentence for told in result.columns for sentence in told.verdict.broken), summary(result)
    if bug == "ack-before-fsync":
        assert {"pc-ec", "pc-el"} <= broken, "the promises and accepts of registers are not synced either"


def test_the_command_that_repeats_a_run_names_all_that_was_chosen() -> None:
    assert Result("F1", 7).replay == "kv chaos run F1 --seed 7"
    chosen = Result("F10", 7, chosen=("pa-ec", "strict"), bug="ack-before-quorum")
    assert chosen.replay == "kv chaos run F10 --seed 7 --preset pa-ec --preset strict --bug ack-before-quorum"
    assert summary(chosen)["replay"] == chosen.replay and summary(chosen)["bug"] == "ack-before-quorum"
