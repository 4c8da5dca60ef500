"""Schedules with a theme, by name: what `kv sim run --scenario NAME` draws from instead of the swarm.

A scenario is a function from a seed to a schedule. Most take the swarm's schedule of the seed and say what is different in
theirs. They are there once the module is imported that they stand in.
"""

from __future__ import annotations

from kvchaos.simulation import (
    crash_scenarios,
    dial_scenarios,
    rebuild_scenarios,
    record_scenarios,
    register_scenarios,
    storage_scenarios,
)
from kvchaos.simulation.scenario_names import DESCRIPTIONS, SCENARIOS, Scenario, scenario

MODULES = (record_scenarios, register_scenarios, crash_scenarios, dial_scenarios, rebuild_scenarios, storage_scenarios)

__all__ = ["DESCRIPTIONS", "MODULES", "SCENARIOS", "Scenario", "scenario"]
