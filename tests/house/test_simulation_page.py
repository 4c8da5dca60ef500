"""What docs/testing.md says of the simulation is true: its commands exist with their options, and its scenario runs."""

from __future__ import annotations

import re

import pytest

from kvchaos.simulation import scenario_names
from kvchaos.simulation.bugs import BUGS
from kvchaos.simulation.run import run
from kvchaos.simulation.scenarios import SCENARIOS
from kvchaos.simulation.timeline import LINES_MAX
from tests.house.readme import Command, commands
from tests.house.repository import ROOT
from tests.house.test_readme import command_path, help_of

SECTION = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8").partition("## The simulation\n")[2].partition("\n## ")[0]
COMMANDS = [command for command in commands(SECTION) if command.program == "kv"]


def test_the_section_shows_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.line)
def test_a_command_exists_with_its_options_and_names(command: Command) -> None:
    path = command_path(command.arguments)
    assert path[:1] == ("sim",) and len(path) == 2
    words = dict(zip(command.arguments, [*command.arguments[1:], ""], strict=True))
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"{option}\b", help_of(*path)), f"{option} in: {command.line}"
    assert words.get("--bug", "newest-sibling") in {*BUGS, "NAME"}
    assert words.get("--scenario", "swarm") in SCENARIOS


def test_the_timeline_shown_is_as_long_as_one_may_be() -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    assert shown.startswith("BROKEN") and len(shown.splitlines()) <= LINES_MAX


def test_the_scenario_in_ten_lines_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenario_names, "SCENARIOS", dict(SCENARIOS))
    monkeypatch.setattr(scenario_names, "DESCRIPTIONS", dict(scenario_names.DESCRIPTIONS))
    (block,) = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    assert len(block.partition("@scenario")[2].splitlines()) <= 10
    exec(compile(block, "docs/testing.md", "exec", dont_inherit=True), {})
    schedule = scenario_names.SCENARIOS["naps"](1)
    assert {fault.kind for fault in schedule.faults} == {"pause", "slow_disk"}
    assert run(schedule).is_ok
