"""Results of runs that never were, written by what writes those of real ones: for tests of the page."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvchaos.history import Event, History, Recorder, calls_of
from kvchaos.scenarios.figures import Figures, figures_of, stale_share
from kvchaos.scenarios.pacelc import Pacelc, write
from kvchaos.scenarios.results import write_results
from kvchaos.scenarios.stage import ColumnResult, Result, merged
from kvchaos.scenarios.verdict import Verdict

SITES = ("near", "far")
SEED = 7
FAULT_S, SEEN_S, LIFT_S, HEALED_S, END_S = 2.0, 2.5, 7.0, 7.5, 9.0
REFUSED = "QuorumUnreachable: 1 of the 2 replicas needed can answer"
RTT_MS = 80


class Clock:
    """Of one run, in seconds."""

    def __init__(self) -> None:
        self.at_s = 1_000.0

    def now_ns(self) -> int:
        return int(self.at_s * 1e9)


def fault_events() -> list[Event]:
    """What the injector tries out, and one partition."""
    clock = Clock()
    recorder = Recorder(clock.now_ns)
    calls = [
        (-2.0, "partition", "begin"),
        (-1.5, "heal", "active"),
        (FAULT_S, "partition", "begin"),
        (FAULT_S + 0.1, "partition", "active"),
        (SEEN_S, "verify", "active"),
        (LIFT_S, "heal", "begin"),
        (LIFT_S + 0.1, "heal", "active"),
        (HEALED_S, "verify", "active"),
    ]
    for at_s, f, phase in calls:
        clock.at_s = 1_000.0 + at_s
        recorder.fault(f, {"phase": phase})
    return recorder.history.events


def kept_column(
    scenario: str,
    column: str,
    *,
    refuses: bool = False,
    seed: int = SEED,
    error: str = REFUSED,
    key: str = "k",
    pace_s: float = 0.04,
    verdict: Verdict | None = None,
) -> ColumnResult:
    """A column whose operations are answered, but for those of the near side during the fault if it `refuses`."""
    rng = random.Random(f"{scenario}/{column}/{seed}")
    recorders = []
    for process, _ in enumerate(SITES):
        clock = Clock()
        recorder = Recorder(clock.now_ns)
        recorders.append(recorder)
        serial = 0
        while clock.at_s < 1_000.0 + END_S:
            at_s, serial = clock.at_s - 1_000.0, serial + 1
            failing = refuses and process == 0 and FAULT_S < at_s < LIFT_S
            f = rng.choice(("read", "write"))
            recorder.note(process, "invoke", f, key=key, **({"write": f"w{process}.{serial}"} if f == "write" else {}))
            clock.at_s += rng.uniform(0.001, 0.01)
            if failing:
                recorder.note(process, "info" if serial % 9 == 0 else "fail", f, key=key, error=error)
            else:
                recorder.note(process, "ok", f, key=key, version="aa" * 12 + f"{serial:016x}", context="", siblings=[])
            clock.at_s += rng.uniform(0.5, 1.5) * pace_s
    began_ns, ended_ns = int((1_000 + SEEN_S) * 1e9), int((1_000 + LIFT_S) * 1e9)
    header = {"scenario": scenario, "preset": column, "seed": seed, "n": 3, "r": 1, "w": 1, "sites": list(SITES)}
    history = merged(header, *(recorder.history.events for recorder in recorders), fault_events())
    calls = calls_of(history.events)
    during = [call for call in calls if began_ns <= call.began_ns and call.end is not None and call.end.time_ns <= ended_ns]
    figures = figures_of(during, dict(enumerate(SITES)), SITES)
    return ColumnResult(column, figures, stale_share(calls, during), verdict or Verdict(column), history)


def kept_run(scenario: str, columns: Sequence[ColumnResult]) -> Result:
    """As `kv chaos run` has it."""
    return Result(scenario, SEED, list(columns), converged_s=0.25)


def keep(folder: Path, *results: Result) -> Path:
    """`results.json` and histories."""
    write_results(folder, results)
    return folder


def apart_history(way_ms: float, *, reads: int = 300, seed: int = SEED) -> History:
    """The near side writes, the far side reads and has heard of a write `way_ms` after it was acknowledged, no sooner."""
    rng = random.Random(seed)
    clock = Clock()
    recorder = Recorder(clock.now_ns)
    for serial in range(1, reads + 1):
        dot = "aa" * 12 + f"{serial:016x}"
        recorder.note(0, "invoke", "write", key="k", write=f"w{serial}")
        clock.at_s += 0.001
        recorder.note(0, "ok", "write", key="k", version=dot, context="", siblings=[])
        after_ms = rng.uniform(1.0, 2 * RTT_MS)
        clock.at_s += after_ms / 1e3
        recorder.note(1, "invoke", "read", key="k")
        clock.at_s += 0.001
        known = serial if after_ms >= way_ms else serial - 1
        recorder.note(1, "ok", "read", key="k", context="010001" + "aa" * 12 + f"{known:016x}", siblings=[])
        clock.at_s += 1.0
    header = {"scenario": "apart", "preset": "pa-el", "seed": seed, "n": 3, "r": 1, "w": 1, "rtt_ms": RTT_MS, "sites": list(SITES)}
    return merged(header, recorder.history.events)


def keep_pacelc(folder: Path, columns: Sequence[ColumnResult]) -> Path:
    """`pacelc.json` and histories."""
    calm: dict[str, Mapping[str, Figures]] = {
        told.column: {"reads": Figures(ok=9, ok_ms=[RTT_MS * 1.25]), "writes": Figures(ok=9, ok_ms=[RTT_MS * 1.5])}
        for told in columns
    }
    found = Pacelc(SEED, Result("F1", SEED, list(columns), converged_s=0.5), calm, {columns[0].column: apart_history(RTT_MS / 2)})
    write(folder, found)
    return folder
