"""Results as JSON, and histories as files, so that outside checkers can judge the same run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kvchaos.scenarios.catalogue import SCENARIOS
from kvchaos.scenarios.stage import ColumnResult, Result
from kvchaos.scenarios.versions import versions


def summary(result: Result) -> dict[str, Any]:
    """One run as JSON."""
    return {
        "scenario": result.scenario,
        "title": SCENARIOS[result.scenario].title if result.scenario in SCENARIOS else "",
        "versions": versions(),
        "seed": result.seed,
        "failure": result.failure,
        "failure_breaks": result.failure_breaks,
        "converged_s": None if result.converged_s is None else round(result.converged_s, 3),
        "columns": {told.column: _column(result.scenario, told) for told in result.columns},
        "bug": result.bug,
        "hiccups": list(result.hiccups),
        "replay": result.replay,
    }


def _column(scenario: str, told: ColumnResult) -> dict[str, Any]:
    return {
        "promised": {side: str(SCENARIOS[scenario].cell(told.column, side)) for side in told.during if scenario in SCENARIOS},
        "verdict": told.verdict.word.value,
        "broken": told.verdict.broken,
        "lacking": told.verdict.lacking,
        "stale_share": None if told.stale is None else round(told.stale, 4),
        "history": f"{scenario}-{told.column}.jsonl",
        "during": {side: {kind: figures.row() for kind, figures in kinds.items()} for side, kinds in told.during.items()},
    }


def write_results(folder: Path, results: Iterable[Result]) -> None:
    """`results.json`, and a history a column: `F1-pa-ec.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for result in results:
        row = summary(result)
        rows.append(row)
        for told in result.columns:
            told.history.write(folder / row["columns"][told.column]["history"])
    (folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
