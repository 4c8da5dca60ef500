"""`kv chaos` as a person or a program calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvchaos.report import making
from kvchaos.scenarios import pacelc, stage
from kvchaos.scenarios.catalogue import SCENARIOS
from kvchaos.scenarios.columns import COLUMNS, Column
from kvchaos.scenarios.figures import Figures
from kvchaos.scenarios.pacelc import Pacelc
from kvchaos.scenarios.scenario import FAR, NEAR, Scenario
from kvchaos.scenarios.stage import ColumnResult, Result, merged
from kvchaos.scenarios.verdict import Verdict
from tests.cli.conftest import Kv


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Verdict]:
    """No cluster: every column's verdict is the one that a test puts here, else ok."""
    verdicts: dict[str, Verdict] = {}

    async def run(scenario: Scenario, *, seed: int, root: Path, columns: list[Column], say: stage.Say, bug: str) -> Result:
        say("fault", scenario.title)
        found = [
            ColumnResult(each.name, {}, None, verdicts.get(each.name, Verdict(each.name)), merged({"seed": seed}))
            for each in columns
        ]
        return Result(scenario.id, seed, found, converged_s=0.5)

    monkeypatch.setattr(stage, "run", run)
    return verdicts


def test_the_list_says_what_each_scenario_promises(kv: Kv) -> None:
    lines = kv("chaos", "list").text.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[0] for line in titles] == [f"F{number}" for number in range(21)], "none of the plan is missing unsaid"
    assert "strict refuse | serve" in lines[3]
    assert "F17  not built: members join and leave: the ring cannot change yet" in titles
    rows = kv("chaos", "list", "-o", "json").rows
    assert {row["id"] for row in rows if "not_built" not in row} == set(SCENARIOS)
    assert [row["id"] for row in rows if "not_built" in row] == ["F17"]


def test_a_run_prints_a_verdict_for_every_column_and_says_on_stderr_how_far_it_is(kv: Kv, told: dict[str, Verdict]) -> None:
    done = kv("chaos", "run", "F1", "--seed", "7")
    assert done.code == 0
    assert done.text.startswith("F1   pa-el ok   pa-ec ok   strict ok   pc-ec ok   pc-el ok   agreed after 0.5 s")
    assert "seed 7" in done.stderr and "F1 fault: split" in done.stderr


def test_a_broken_promise_ends_8_with_what_was_broken_and_the_command_that_repeats_it(kv: Kv, told: dict[str, Verdict]) -> None:
    told["strict"] = Verdict("strict", broken=["k1: a read found nothing"])
    told["pa-el"] = Verdict("pa-el", lacking=["3 operations"])
    done = kv("chaos", "run", "F1", "F0", "--seed", "7")
    assert done.code == 8
    assert "strict BROKEN" in done.text and "strict: k1: a read found nothing" in done.text
    assert "again: kv chaos run F1 --seed 7" in done.text


def test_too_little_to_judge_by_ends_9(kv: Kv, told: dict[str, Verdict]) -> None:
    told["pa-el"] = Verdict("pa-el", lacking=["3 operations"])
    assert kv("chaos", "run", "F1").code == 9


def test_one_column_and_files_and_json(kv: Kv, told: dict[str, Verdict], tmp_path: Path) -> None:
    done = kv("chaos", "run", "F8", "--preset", "pa-ec", "--seed", "3", "--out", str(tmp_path), "-o", "json")
    (row,) = done.rows
    assert (row["scenario"], row["seed"], list(row["columns"])) == ("F8", 3, ["pa-ec"])
    assert json.loads((tmp_path / "results.json").read_text())[0] == row
    assert (tmp_path / "F8-pa-ec.jsonl").exists()
    assert f"page: {tmp_path / 'index.html'}" in done.stderr and "F8 pa-ec" in (tmp_path / "index.html").read_text()


def test_all_is_every_scenario(kv: Kv, told: dict[str, Verdict]) -> None:
    rows = kv("chaos", "run", "--all", "-o", "json").rows
    assert [row["scenario"] for row in rows] == list(SCENARIOS)
    assert set(rows[0]["columns"]) == {column.name for column in COLUMNS}


def test_the_pacelc_table_is_made_of_its_json(
    kv: Kv, told: dict[str, Verdict], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sides = {site: {"reads": Figures(ok=3, ok_ms=[1.0]), "writes": Figures(refused=1, refused_ms=[5.0])} for site in (NEAR, FAR)}
    split = Result("F1", 7, [ColumnResult("pa-ec", sides, 0.5, Verdict("pa-ec"), merged({"seed": 7}))], converged_s=0.5)

    async def measure(*, seed: int, root: Path, say: stage.Say) -> Pacelc:
        return Pacelc(seed, split, {"pa-ec": {"reads": Figures(ok_ms=[88.0]), "writes": Figures(ok_ms=[120.0])}})

    monkeypatch.setattr(pacelc, "measure", measure)
    (row,) = kv("chaos", "pacelc", "--seed", "7", "--out", str(tmp_path), "-o", "json").rows
    written = json.loads((tmp_path / "pacelc.json").read_text())
    assert written == row and written["histories"] == ["pacelc-pa-ec.jsonl"]
    assert (tmp_path / "pacelc-pa-ec.jsonl").exists()
    assert row["presets"]["pa-ec"]["p50_rtt"] == {"read": 1.1, "write": 1.5}
    assert row["presets"]["pa-ec"]["minority"] == {"ok": 3, "refused": 1, "unknown": 0}
    line = kv("chaos", "pacelc", "--seed", "7").text.splitlines()[1]
    assert line.split() == ["pa-ec", "75%", "75%", "5", "ms", "1.10", "1.50", "50%", "0", "0.5", "s"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--all"),
        (["F1", "--all"], "--all"),
        (["F99"], "Did you mean"),
        (["F17"], "F17 is not built: members join and leave"),
        (["split"], "There are: F0"),
        (["F1", "--preset", "pa-e"], "Did you mean 'pa-el'"),
    ],
)
def test_wrong_arguments_are_told_with_the_way_out(kv: Kv, arguments: list[str], says: str) -> None:
    done = kv("chaos", "run", *arguments)
    assert done.code == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "neither results.json nor pacelc.json"),
        ("{", "results.json"),
        ("{}", "not what kv chaos writes"),
        ("[{}]", "'scenario'"),
    ],
)
def test_a_folder_without_results_ends_2_and_says_what_is_wrong(kv: Kv, tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    done = kv("chaos", "report", str(tmp_path))
    assert done.code == 2 and says in done.stderr
    assert not (tmp_path / "index.html").exists()


def test_without_the_extra_the_command_names_it_and_a_run_goes_on(
    kv: Kv,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(making, "find_spec", lambda name: None)
    done = kv("chaos", "report", str(tmp_path))
    assert done.code == 2 and "the page needs matplotlib and jinja2: pip install 'kvstore-chaos[report]'" in done.stderr
    making.make_page_beside(tmp_path)
    assert capsys.readouterr().err.startswith("no page: the page needs matplotlib")
