"""The evidence as the templates want it: every number formatted here, from the JSON; plots from the histories. No HTML here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kvchaos.report.evidence import Evidence, Row, Run, Told
from kvchaos.report.faults_told import bands_of
from kvchaos.report.freshness import Freshness, freshness_of
from kvchaos.report.freshness_plot import freshness_plot
from kvchaos.report.page_view import (
    ColumnView,
    FailureRow,
    FigureRow,
    FreshnessView,
    PacelcView,
    PageView,
    RunView,
)
from kvchaos.report.plots import Scale, failures_plot, scale_of, side_plot
from kvchaos.report.series import Operation, began_ns, failed, operations_of
from kvchaos.report.words import NONE, milliseconds, round_trips, share, versions_in_words

FAILURES_SHOWN = 200
WORDS = {"ok": "ok", "broken": "broken", "inconclusive": "unclear"}


class Ids:
    """Names for places in the page: of letters that a link can hold, none twice."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def of(self, *parts: str) -> str:
        """A new one, alike to the parts."""
        base = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-") or "part"
        base = base if base[0].isalpha() else f"s-{base}"
        found, number = base, 1
        while found in self._used:
            number += 1
            found = f"{base}-{number}"
        self._used.add(found)
        return found


def view_of(evidence: Evidence) -> PageView:
    """The whole page."""
    ids = Ids()
    runs = [_run(run, ids) for run in evidence.runs]
    if evidence.split is not None:
        runs.insert(0, _run(evidence.split, ids, prefix="pacelc", replay=_replay(evidence.pacelc or {})))
    columns = list(dict.fromkeys(column.name for run in runs for column in run.columns))
    pacelc = None if evidence.pacelc is None else _pacelc(evidence.pacelc, evidence, ids)
    return PageView(runs, pacelc, columns)


def _run(run: Run, ids: Ids, *, prefix: str = "", replay: str = "") -> RunView:
    row = run.row
    histories = [told.history for told in run.columns if told.history is not None]
    zero_ns = began_ns(histories)
    operations = {told.name: operations_of(told.history, zero_ns) for told in run.columns if told.history is not None}
    bands = bands_of(histories[0].events, zero_ns) if histories else []
    scale = scale_of([operation for held in operations.values() for operation in held], bands)
    name = f"{prefix} {run.id}".strip()
    failure, converged_s = str(row.get("failure", "")), row.get("converged_s")
    agreed = f"{converged_s:.2f} s" if converged_s is not None else NONE if failure else "replicas did not agree"
    view_id = ids.of(prefix, run.id)
    return RunView(
        view_id,
        name,
        str(row.get("title", "")),
        str(row["seed"]),
        agreed,
        failure,
        bool(row.get("failure_breaks", False)),
        replay or str(row.get("replay", "")),
        versions_in_words(row),
        [band.sentence() for band in bands],
        [_column(name, told, operations.get(told.name), scale, ids.of(prefix, run.id, told.name), ids) for told in run.columns],
    )


def _column(run: str, told: Told, operations: Sequence[Operation] | None, scale: Scale, id: str, ids: Ids) -> ColumnView:
    row, during, promised = told.row, told.row.get("during", {}), told.row.get("promised", {})
    failures = failed(operations or ())
    shown = failures[:FAILURES_SHOWN]
    plots, timeline = [], ""
    if operations:
        sides = dict.fromkeys([*during, *(operation.side for operation in operations)])
        plots = [
            side_plot(
                [operation for operation in operations if operation.side == side],
                scale,
                id=ids.of("plot", id, side),
                title=f"{run} {told.name}, side {side}",
            )
            for side in sides
        ]
    if shown:
        title = f"{run} {told.name}: operations that failed" + ("" if len(shown) == len(failures) else f" (first {len(shown)})")
        timeline = failures_plot(shown, scale, id=ids.of("plot", id, "failed"), title=title)
    return ColumnView(
        id,
        told.name,
        str(row["verdict"]),
        WORDS.get(row["verdict"], str(row["verdict"])),
        row.get("broken", ()),
        row.get("lacking", ()),
        share(row.get("stale_share")),
        [(side, _availability(kinds.values())) for side, kinds in during.items()],
        [
            _figures(side, kind, promised.get(side, NONE), figures)
            for side, kinds in during.items()
            for kind, figures in kinds.items()
        ],
        plots,
        timeline,
        [_failure(failure) for failure in shown],
        len(failures),
        told.missing,
    )


def _figures(side: str, kind: str, promised: str, row: Row) -> FigureRow:
    return FigureRow(
        side,
        kind,
        promised,
        _availability([row]),
        str(row["ok"]),
        str(row["refused"]),
        str(row["unknown"]),
        str(row["degraded"]),
        milliseconds(row["p50_ms"]),
        milliseconds(row["p99_ms"]),
        milliseconds(row["refuse_ms_p99"]),
        ", ".join(f"{error} {count}" for error, count in row["errors"].items()) or NONE,
    )


def _failure(failure: Operation) -> FailureRow:
    return FailureRow(
        f"{failure.at_s:.3f}",
        failure.side,
        str(failure.call.invoke.process),
        failure.call.f,
        failure.call.key,
        failure.outcome.value,
        milliseconds(failure.took_ms),
        failure.error,
    )


def _pacelc(table: Row, evidence: Evidence, ids: Ids) -> PacelcView:
    rows = [
        (
            str(name),
            str(table.get("verdicts", {}).get(name, "")),
            (
                _availability([told["majority"]]),
                _availability([told["minority"]]),
                milliseconds(told["refuse_ms_p99"]),
                round_trips(told["p50_rtt"]["read"]),
                round_trips(told["p50_rtt"]["write"]),
                share(told["stale_share"]),
                str(told["lost"]),
                NONE if told["converge_s"] is None else f"{told['converge_s']:.2f} s",
            ),
        )
        for name, told in table["presets"].items()
    ]
    found = [(name, freshness_of(history)) for name, history in evidence.apart.items()]
    return PacelcView(
        rows,
        f"{table['rtt_ms']:g} ms",
        str(table["seed"]),
        _replay(table),
        versions_in_words(table),
        [_freshness(name, freshness, ids) for name, freshness in found if freshness is not None],
    )


def _replay(table: Row) -> str:
    return str(table.get("replay", f"kv chaos pacelc --seed {table.get('seed')}"))


def _freshness(name: str, found: Freshness, ids: Ids) -> FreshnessView:
    constant_ms, varying_ms = found.windows_ms
    rows = (
        ("reads judged", str(len(found.reads))),
        ("fresh, measured", share(found.fresh)),
        ("fresh, predicted for links that always take the same time", share(found.constant)),
        ("fresh, predicted for links whose times vary exponentially", share(found.varying)),
        ("99.9 % predicted to be fresh after", f"{constant_ms:.0f} ms and {varying_ms:.0f} ms"),
        ("a write takes, beside the way", milliseconds(found.sync_ms)),
    )
    title = f"{name}: fresh reads by the time since the write"
    return FreshnessView(name, found, freshness_plot(found, id=ids.of("plot", "fresh", name), title=title), rows)


def _availability(rows: Iterable[Row]) -> str:
    held = list(rows)
    ok = sum(row["ok"] for row in held)
    count = ok + sum(row["refused"] + row["unknown"] for row in held)
    return share(ok / count) if count else NONE
