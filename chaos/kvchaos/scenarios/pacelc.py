"""The PACELC table, measured: how each setting answers in a partition (P: available or consistent) and else (E: latency or not).

E is measured on links that all take the same time, as multiples of their round trip, one setting after the other; P under the split
of F1, with all of them side by side. How stale reads are without a fault is measured where sides use nodes of their own (`apart`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvchaos.history import History, calls_of
from kvchaos.scenarios.apart import may_be_stale, measure_apart
from kvchaos.scenarios.catalogue import SCENARIOS
from kvchaos.scenarios.columns import COLUMNS, Column
from kvchaos.scenarios.figures import READS, WRITTEN, Figures, figures_of, percentile
from kvchaos.scenarios.results import summary
from kvchaos.scenarios.scenario import FAR, NEAR
from kvchaos.scenarios.stage import ColumnResult, Result, Say, open_stage, run, until
from kvchaos.scenarios.versions import versions

ONE_WAY_MS = 40
SPLIT = "F1"
E_MIN = 20
"""Answered operations of each kind and side."""
LOST = "lost"


@dataclass(slots=True)
class Pacelc:
    """`calm`: by column, reads and writes while nothing was wrong but distance. `split`: the run of F1.
    `apart`: by column, how reads and writes at different nodes went meanwhile."""

    seed: int
    split: Result
    calm: dict[str, Mapping[str, Figures]] = field(default_factory=dict)
    apart: dict[str, History] = field(default_factory=dict)

    @property
    def rtt_ms(self) -> int:
        """Of the links in E."""
        return 2 * ONE_WAY_MS

    def row(self) -> dict[str, Any]:
        """`pacelc.json`."""
        split = summary(self.split)
        for name, told in split["columns"].items():
            told["history"] = f"pacelc-{name}.jsonl"
        return {
            "seed": self.seed,
            "versions": versions(),
            "rtt_ms": self.rtt_ms,
            "presets": {told.column: self._preset(told) for told in self.split.columns},
            "verdicts": {told.column: told.verdict.word.value for told in self.split.columns},
            "histories": [told["history"] for told in split["columns"].values()],
            "split": split,
            "apart": {name: f"apart-{name}.jsonl" for name in self.apart},
            "replay": f"kv chaos pacelc --seed {self.seed}",
        }

    def _preset(self, told: ColumnResult) -> dict[str, Any]:
        calm = self.calm[told.column]
        minority = told.during[NEAR]
        refused = [ms for figures in minority.values() for ms in figures.refused_ms]
        return {
            "majority": _outcomes(told.during[FAR]),
            "minority": _outcomes(minority),
            "refuse_ms_p99": percentile(refused, 0.99),
            "p50_rtt": {"read": self._in_rtt(calm[READS]), "write": self._in_rtt(calm[WRITTEN])},
            "stale_share": None if told.stale is None else round(told.stale, 4),
            "lost": sum(LOST in sentence for sentence in told.verdict.broken),
            "converge_s": None if self.split.converged_s is None else round(self.split.converged_s, 3),
        }

    def _in_rtt(self, figures: Figures) -> float | None:
        p50 = percentile(figures.ok_ms, 0.5)
        return None if p50 is None else round(p50 / self.rtt_ms, 2)


async def measure(*, seed: int, root: Path, columns: Sequence[Column] = COLUMNS, say: Say = lambda phase, text: None) -> Pacelc:
    """Both halves, each on a cluster of its own below `root`."""
    split = await run(SCENARIOS[SPLIT], seed=seed, root=root / "split", columns=columns, say=say)
    found = Pacelc(seed, split)
    async with open_stage(root / "calm", columns, nodes=3, seed=f"{seed}/calm", say=say) as (cluster, clients, loads):
        await asyncio.gather(*(cluster.plane.delay(link, ONE_WAY_MS) for link in cluster.links()))
        await cluster.plane.verify()
        for load in loads:
            say("latency", f"{load.column.name} with {found.rtt_ms} ms between nodes")
            load.start()
            await until([load], lambda load, site: load.answered(site) >= E_MIN)
            await load.stop()
            sides = figures_of(calls_of(load.recorder.history.events), load.site_of, load.sites).values()
            found.calm[load.column.name] = {kind: _joined([side[kind] for side in sides]) for kind in (READS, WRITTEN)}
        if any(map(may_be_stale, columns)):
            found.apart = await measure_apart(cluster, clients, columns, seed=seed, rtt_ms=found.rtt_ms, say=say)
        await cluster.plane.heal()
        await cluster.plane.verify()
    return found


def write(folder: Path, found: Pacelc) -> None:
    """`pacelc.json` and the histories, whose names are others than those of `kv chaos run`: both may go to one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    row = found.row()
    for told in found.split.columns:
        told.history.write(folder / row["split"]["columns"][told.column]["history"])
    for name, history in found.apart.items():
        history.write(folder / row["apart"][name])
    (folder / "pacelc.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


def lines(row: Mapping[str, Any]) -> list[str]:
    """The table for people, from `pacelc.json` alone; it fits 80 columns."""
    head = ("setting", "majority", "minority", "refused in", "read", "write", "stale", "lost", "agreed")
    rows = [head]
    for name, told in row["presets"].items():
        rows.append(
            (
                name,
                _served(told["majority"]),
                _served(told["minority"]),
                _with(told["refuse_ms_p99"], ".0f", " ms"),
                _with(told["p50_rtt"]["read"], ".2f", ""),
                _with(told["p50_rtt"]["write"], ".2f", ""),
                _with(told["stale_share"], ".0%", ""),
                str(told["lost"]),
                _with(told["converge_s"], ".1f", " s"),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]
    return [*table, f"read and write: medians, as multiples of the {row['rtt_ms']} ms between nodes"]


def _served(outcomes: Mapping[str, int]) -> str:
    count = sum(outcomes.values())
    return "-" if not count else f"{outcomes['ok'] / count:.0%}"


def _with(value: float | None, form: str, unit: str) -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _outcomes(kinds: Mapping[str, Figures]) -> dict[str, int]:
    return {name: sum(getattr(figures, name) for figures in kinds.values()) for name in ("ok", "refused", "unknown")}


def _joined(parts: Sequence[Figures]) -> Figures:
    whole = Figures()
    for part in parts:
        whole.ok += part.ok
        whole.refused += part.refused
        whole.unknown += part.unknown
        whole.ok_ms += part.ok_ms
    return whole
