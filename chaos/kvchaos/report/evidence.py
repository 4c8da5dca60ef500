"""Reads what a run left behind: results, the PACELC table and the histories, from the files of one folder and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvchaos.history import History, read_history
from kvproto.errors import BadRequest

RESULTS, PACELC = "results.json", "pacelc.json"

Row = Mapping[str, Any]
"""An object of JSON."""


@dataclass(frozen=True, slots=True)
class Told:
    """One column of a run: its part of the results, and its history; where there is none, `missing` says why."""

    name: str
    row: Row
    history: History | None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario: its object of `results.json`, or that of `pacelc.json` for its split."""

    row: Row
    columns: list[Told]

    @property
    def id(self) -> str:
        """The scenario's."""
        return str(self.row["scenario"])


@dataclass(frozen=True, slots=True)
class Evidence:
    """All there is. `apart`: by column, histories for the measured staleness (`kvchaos.scenarios.pacelc`)."""

    runs: list[Run] = field(default_factory=list)
    pacelc: Row | None = None
    split: Run | None = None
    apart: Mapping[str, History] = field(default_factory=dict)


def read_evidence(folder: Path) -> Evidence:
    """Raises `BadRequest` where there is nothing to read, or a file is not as it should be."""
    results, pacelc = folder / RESULTS, folder / PACELC
    if not results.is_file() and not pacelc.is_file():
        raise BadRequest(f"{folder} has neither {RESULTS} nor {PACELC}: kv chaos run --all --out {folder} writes them")
    rows = _json(results, list) if results.is_file() else []
    table = _json(pacelc, dict) if pacelc.is_file() else None
    try:
        runs = [_run(folder, row) for row in rows]
        if table is None:
            return Evidence(runs)
        split = _run(folder, table["split"]) if "split" in table else None
        return Evidence(runs, table, split, dict(_apart(folder, table)))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadRequest(f"{folder}: {RESULTS} or {PACELC} is not what kv chaos writes: {error!r}") from error


def _run(folder: Path, row: Row) -> Run:
    scenario, seed = str(row["scenario"]), row["seed"]
    columns = []
    for name, told in row["columns"].items():
        history, missing = _history(folder, told.get("history", f"{scenario}-{name}.jsonl"), {"scenario": scenario, "seed": seed})
        columns.append(Told(name, told, history, missing))
    return Run(row, columns)


def _apart(folder: Path, table: Row) -> Iterator[tuple[str, History]]:
    for name, file in table.get("apart", {}).items():
        history, _ = _history(folder, file, {"seed": table["seed"]})
        if history is not None:
            yield name, history


def _history(folder: Path, name: str, expected: Row) -> tuple[History | None, str]:
    # The last part alone: a file of results must not be able to point anywhere else.
    path = folder / Path(name).name
    if not path.is_file():
        return None, f"{path.name} is not there"
    try:
        history = read_history(path)
    except (ValueError, OSError) as error:
        raise BadRequest(f"{path}: {error}") from error
    if any(history.header.get(key) != value for key, value in expected.items()):
        # Another run into the same folder leaves its histories beside the results of this one.
        return None, f"{path.name} is the history of another run"
    return history, ""


def _json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRequest(f"{path}: {error}") from error
    if not isinstance(value, kind):
        raise BadRequest(f"{path} is not what kv chaos writes")
    return value
