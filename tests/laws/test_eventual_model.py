"""The model of the eventual half, and each of its rules left out (eventual_model.py)."""

from __future__ import annotations

import os
import sys

import pytest

from tests.laws.eventual_model import explore, main
from tests.laws.eventual_parts import PLANTS, Settings

LONG = os.environ.get("KV_TIER") == "long"
SEEDS = 4000 if LONG else 300
TINY = [Settings(retries_max=2), Settings(retries_max=0), Settings(window_ms=6), Settings(retries_max=1, window_ms=12)]


def test_every_schedule_keeps_every_promise() -> None:
    broken, counts = explore(range(SEEDS), Settings())
    assert not broken
    per_seed = {name: count / SEEDS for name, count in counts.items()}
    assert per_seed["acknowledged"] > 10 and per_seed["retries answered"] > 3 and per_seed["executed again elsewhere"] > 1
    assert per_seed["mints by bytes"] > 1 and per_seed["mints in general"] > 10
    assert per_seed["merges by bytes"] > 10 and per_seed["merges in general"] > 10
    assert counts["contexts caught up with"] and counts["refused: context unseen"]


@pytest.mark.parametrize("settings", TINY, ids=["cap-2", "cap-0", "window-6", "cap-1-window-12"])
def test_ids_forgotten_early_are_refused_and_never_executed_by_one_who_has_seen_them(settings: Settings) -> None:
    generous = explore(range(SEEDS // 5), Settings())[1]
    broken, counts = explore(range(SEEDS // 5), settings)
    assert not broken
    assert counts["refused: id perhaps forgotten"] > 2 * generous["refused: id perhaps forgotten"]


# The first seed that finds each rule left out. With the rule in place the same schedule is fine.
FOUND = {
    "bareevent": 0,
    "sameepoch": 0,
    "ackearly": 6,
    "vectorcontext": 1,
    "newest": 0,
    "forgetid": 0,
    "twodots": 0,
    "byid": 1,
    "puttakesall": 0,
    "unseendots": 0,
    "nohorizon": 20,
    "nofloor": 0,
    "firsttrusted": 32,
}


def settings_of(plant: str) -> Settings:
    """Rules about forgotten ids show only where ids are forgotten."""
    return Settings(plant, retries_max=2 if plant in {"nofloor", "firsttrusted"} else 64)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_rule_left_out_is_found(plant: str) -> None:
    broken, _ = explore(range(FOUND[plant] + 1), settings_of(plant))
    assert list(broken) == [FOUND[plant]]
    assert not explore(broken, Settings())[0]


def test_a_fast_client_clock_can_pass_the_horizon_but_nothing_else() -> None:
    """The documented limit of the horizon (docs/adr/0002): the ids of a clock that is ahead lie beyond it."""
    broken, _ = explore(range(SEEDS // 2), Settings(ahead_ms=10))
    assert set(broken.values()) <= {"executed twice by one who had seen it"}
    assert len(broken) <= SEEDS // 50


def test_the_command_prints_the_tally(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["eventual_model", "30", "byid"])
    main()
    assert capsys.readouterr().out.startswith("plant=byid: ")
