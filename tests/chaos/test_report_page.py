"""The page of a run says what its JSON says, needs nothing but itself, and cannot be told what to do by what it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvchaos.report.evidence import Evidence, read_evidence
from kvchaos.report.page import html_of, write_page
from kvchaos.report.palette import DARK, LIGHT
from kvchaos.report.views import FAILURES_SHOWN
from kvchaos.report.words import milliseconds, share
from kvchaos.scenarios.stage import Result
from kvchaos.scenarios.verdict import Verdict
from tests.chaos.kept_runs import REFUSED, SEED, keep, keep_pacelc, kept_column, kept_run
from tests.chaos.page_text import Element, page_of

COLUMNS = ("pa-el", "pa-ec", "strict")
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenarios and the PACELC table, in one folder as after two commands."""
    root = tmp_path_factory.mktemp("kept")
    broken = Verdict("strict", broken=["k1: a read found nothing"])
    keep(
        root,
        kept_run("F1", [kept_column("F1", name, refuses=name == "strict") for name in COLUMNS]),
        kept_run("F8", [kept_column("F8", "pa-el"), kept_column("F8", "strict", verdict=broken)]),
    )
    return keep_pacelc(root, [kept_column("F1", name, refuses=name == "strict", pace_s=0.1) for name in COLUMNS])


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return html_of(read_evidence(folder))


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return page_of(html)


def results(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return rows


def test_the_figures_of_every_cell_are_those_of_the_json(folder: Path, page: Element) -> None:
    for run in results(folder):
        for name, told in run["columns"].items():
            article = page.by_id(f"{run['scenario']}-{name}")
            (table,) = [each for each in article.all("table") if each.attributes["class"] == "figures"]
            expected = [
                [
                    side,
                    kind,
                    told["promised"][side],
                    share(row["ok"] / (row["ok"] + row["refused"] + row["unknown"])),
                    *(str(row[word]) for word in ("ok", "refused", "unknown", "degraded")),
                    *(milliseconds(row[word]) for word in ("p50_ms", "p99_ms", "refuse_ms_p99")),
                    ", ".join(f"{error} {count}" for error, count in row["errors"].items()) or "–",
                ]
                for side, kinds in told["during"].items()
                for kind, row in kinds.items()
            ]
            assert table.rows()[1:] == expected
            assert sum(int(row[5]) for row in expected) > 0 or name != "strict" or run["scenario"] != "F1", "some were refused"
            tiles = dict(zip((each.text for each in article.all("dt")), (each.text for each in article.all("dd")), strict=True))
            assert tiles["stale reads"] == share(told["stale_share"])


def test_the_grid_has_a_cell_for_every_verdict_that_leads_to_its_section(folder: Path, page: Element) -> None:
    grid = page.by_id("verdict-grid")
    heads = grid.rows()[0]
    assert heads == ["fault", *COLUMNS, "agreed after"]
    words = {"ok": "ok", "broken": "broken", "inconclusive": "unclear"}
    rows = {cells[0].split()[0]: dict(zip(heads, cells, strict=True)) for cells in grid.rows()[1:]}
    for run in results(folder):
        for name in COLUMNS:
            told = run["columns"].get(name)
            assert rows[run["scenario"]][name] == ("–" if told is None else words[told["verdict"]])
        assert rows[run["scenario"]]["agreed after"] == f"{run['converged_s']:.2f} s"
    ids = [element.attributes["id"] for element in page.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        assert link.attributes["href"].removeprefix("#") in ids
    assert {f"#{run['scenario']}-{name}" for run in results(folder) for name in run["columns"]} <= {
        link.attributes["href"] for link in grid.all("a")
    }


def test_the_pacelc_table_is_that_of_its_json(folder: Path, page: Element) -> None:
    table = json.loads((folder / "pacelc.json").read_text())
    found = {cells[0]: cells[1:] for cells in page.by_id("pacelc-table").rows()[2:]}
    assert set(found) == set(table["presets"])
    for name, told in table["presets"].items():
        sides = [told[side] for side in ("majority", "minority")]
        assert found[name] == [
            *(share(side["ok"] / sum(side.values())) for side in sides),
            milliseconds(told["refuse_ms_p99"]),
            f"{told['p50_rtt']['read']:.2f} RTT",
            f"{told['p50_rtt']['write']:.2f} RTT",
            share(told["stale_share"]),
            str(told["lost"]),
            f"{told['converge_s']:.2f} s",
            table["verdicts"][name],
        ]
    assert found["strict"][1] == "0 %" and found["pa-el"][1] == "100 %"


def test_what_was_broken_stands_at_the_top_and_with_its_cell(page: Element) -> None:
    assert page.by_id("verdict").text == "1 broken, 0 unclear, 7 held."
    assert "F8 strict : broken k1: a read found nothing" in page.by_id("broken").text
    assert "k1: a read found nothing" in page.by_id("F8-strict").text


def test_seed_versions_and_the_command_that_repeats_it_stand_in_every_section(folder: Path, page: Element) -> None:
    for run in results(folder):
        text = page.by_id(run["scenario"]).text
        assert f"Seed {SEED}" in text and run["replay"] in text and f"kvstore {run['versions']['kvstore']}" in text
    assert f"kv chaos pacelc --seed {SEED}" in page.by_id("pacelc").text


def test_the_page_needs_no_script_and_no_other_file(html: str, page: Element) -> None:
    assert not {element.tag for element in page.all()} & {"script", "link", "img", "iframe", "object", "base", "form", "image"}
    for element in page.all():
        for name, value in element.attributes.items():
            assert not name.startswith("on"), (element.tag, name)
            if name in ("href", "src", "xlink:href"):
                assert value.startswith("#"), value
            assert re.findall(r"url\((?!#)", value) == []
    assert "@import" not in html and "url(" not in "".join(element.text for element in page.all("style"))
    assert "://" not in html


def test_every_plot_has_a_title_axes_with_units_and_words_in_its_place(page: Element) -> None:
    plots = list(page.all("svg"))
    assert len(plots) == 2 * (5 + 3) + 2 + 1, "two sides of eight cells, two with failures, and the staleness"
    for plot in plots:
        assert plot.attributes["role"] == "img"
        for id in plot.attributes["aria-labelledby"].split():
            assert len(plot.by_id(id).text) > 10
        labels = {element.text for element in plot.all("text")}
        assert any("(s)" in label or "(ms)" in label for label in labels), labels
        assert plot.by_id(plot.attributes["aria-labelledby"].split()[0]).text in labels


def test_the_words_of_a_plot_count_what_the_history_holds(folder: Path, page: Element) -> None:
    column = read_evidence(folder).runs[0].columns[2]
    assert column.history is not None
    refused = sum(event.type == "fail" for event in column.history.events)
    unknown = sum(event.type == "info" and event.process != "nemesis" for event in column.history.events)
    (near,) = [plot for plot in page.all("svg") if plot.text.startswith("F1 strict, side near")]
    assert f", {refused} refused (median" in near.text and f", {unknown} unknown (median" in near.text
    assert refused > 20 < unknown * 9 and "partition from 2.0 s, seen at 2.5 s, being lifted from 7.0 s, over at 7.5 s" in near.text


def test_plots_take_every_colour_from_the_page(page: Element) -> None:
    for plot in page.all("svg"):
        for element in plot.all():
            assert "#0" not in element.attributes.get("style", "") and not re.search(
                r"#[0-9a-f]{6}\b", " ".join(element.attributes.values())
            ), element.attributes
        assert any("var(--ok)" in element.attributes.get("style", "") for element in plot.all()) or "failed" in plot.text


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's, of two colours as #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_everything_can_be_read_in_the_light_and_in_the_dark(palette: dict[str, str]) -> None:
    for ground in ("paper", "card"):
        for text in ("ink", "faint", "link", "ok", "refused", "unknown", "verdict-ok", "verdict-broken", "verdict-inconclusive"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for mark in ("ok", "refused", "unknown", "faint"):
        assert contrast(palette[mark], palette["fault"]) >= 3.0, mark
    assert len(set(LIGHT.values())) == len(LIGHT), "a plot's colour stands for one variable"


HOSTILE = "<script>alert(1)</script></svg><img src=x onerror=alert(1)>\"'&lt; $\\frac{1}{$ {{ 7*7 }} \ud800 \x00 #0072b2 1.23456"


def test_what_a_history_says_is_shown_and_never_obeyed(tmp_path: Path) -> None:
    name = '"><b>x $^{'
    column = kept_column("F1", name, refuses=True, error=HOSTILE, key=HOSTILE, verdict=Verdict(name, broken=[HOSTILE]))
    path = tmp_path / "F1-hostile.jsonl"
    row = replace(column)
    keep(tmp_path, kept_run("F1", [replace(row, column="hostile")]))
    rows = results(tmp_path)
    rows[0]["columns"] = {name: rows[0]["columns"]["hostile"] | {"promised": {"near": HOSTILE, "far": HOSTILE}}}
    rows[0] |= {"title": HOSTILE, "replay": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    (tmp_path / "results.json").write_text(json.dumps(rows))
    assert path.is_file()
    text = write_page(tmp_path).read_text(encoding="utf-8")
    page = page_of(text)
    assert not {element.tag for element in page.all()} & {"script", "img", "b"}
    assert "49" not in page.by_id("F1").text.split()
    assert page.text.count("<script>alert(1)</script>") > 10 and "1.23456" in page.by_id("F1").text
    assert any(name in plot.text for plot in page.all("svg"))


def test_the_same_files_give_the_same_bytes_in_every_process(folder: Path, html: str) -> None:
    path = os.pathsep.join(part for part in sys.path if part)
    done = subprocess.run(
        [sys.executable, "-m", "kvclient.cli.main", "chaos", "report", str(folder)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, f"{folder / 'index.html'}\n"), done.stderr
    assert (folder / "index.html").read_text(encoding="utf-8") == html


def test_thirteen_scenarios_of_five_columns_stay_below_five_megabytes(tmp_path: Path) -> None:
    """By one scenario in which three columns refuse on one side, thirteen times: what it costs adds up and nothing else."""
    keep(tmp_path, kept_run("F1", [kept_column("F1", f"c{number}", refuses=number < 3, pace_s=0.012) for number in range(5)]))
    evidence = read_evidence(tmp_path)
    assert sum(len(told.history.events) for told in evidence.runs[0].columns if told.history is not None) > 5_000
    before_s = time.process_time()
    size = len(html_of(evidence).encode())
    assert 13 * size < 5 * MEBIBYTE
    assert time.process_time() - before_s < 5, "seconds of this process, however busy the machine"
    assert size > 10 * len(html_of(Evidence()).encode()), "it is the plots that were measured"


def test_only_the_first_failures_are_listed_and_the_page_says_of_how_many(tmp_path: Path) -> None:
    keep(tmp_path, kept_run("F1", [kept_column("F1", "strict", refuses=True, pace_s=0.005)]))
    evidence = read_evidence(tmp_path)
    history = evidence.runs[0].columns[0].history
    assert history is not None
    count = sum(event.type in ("fail", "info") and event.process != "nemesis" for event in history.events)
    article = page_of(html_of(evidence)).by_id("F1-strict")
    (table,) = [each for each in article.all("table") if each.attributes["class"] == "failures"]
    assert len(table.rows()) == FAILURES_SHOWN + 1 < count
    assert f"The first {FAILURES_SHOWN} of {count} operations that failed" in article.text
    assert table.rows()[1][-1] == REFUSED


def test_a_scenario_that_was_not_judged_says_why(tmp_path: Path) -> None:
    keep(tmp_path, Result("F1", SEED, failure="the fault did not take: n1 <-> n2"))
    page = page_of(html_of(read_evidence(tmp_path)))
    assert "not judged" in page.by_id("verdict-grid").text
    assert "the fault did not take: n1 <-> n2" in page.by_id("F1").text
    assert page.by_id("verdict").text == "0 broken, 1 unclear, 0 held."


def test_a_node_that_did_not_come_back_is_a_broken_promise(tmp_path: Path) -> None:
    keep(tmp_path, Result("F10", SEED, failure="n1 did not start again", failure_breaks=True))
    page = page_of(html_of(read_evidence(tmp_path)))
    assert page.by_id("verdict").text == "1 broken, 0 unclear, 0 held."
    assert page.by_id("verdict-grid").rows()[1][1:] == ["not judged", "–"]


def test_a_history_of_another_run_is_not_drawn_beside_these_results(tmp_path: Path) -> None:
    keep(tmp_path, kept_run("F1", [kept_column("F1", "pa-el")]))
    kept_column("F1", "pa-el", seed=8).history.write(tmp_path / "F1-pa-el.jsonl")
    article = page_of(html_of(read_evidence(tmp_path))).by_id("F1-pa-el")
    assert "F1-pa-el.jsonl is the history of another run" in article.text and list(article.all("svg")) == []
    (tmp_path / "F1-pa-el.jsonl").unlink()
    assert "F1-pa-el.jsonl is not there" in page_of(html_of(read_evidence(tmp_path))).text


def test_bug_the_histories_of_the_table_replaced_those_of_the_run_in_the_same_folder(folder: Path) -> None:
    evidence = read_evidence(folder)
    assert evidence.split is not None
    assert [told.missing for run in (*evidence.runs, evidence.split) for told in run.columns] == [""] * 8


def test_results_of_before_the_page_can_be_shown(tmp_path: Path) -> None:
    keep(tmp_path, kept_run("F1", [kept_column("F1", "pa-el")]))
    rows = results(tmp_path)
    for name in ("title", "versions"):
        del rows[0][name]
    for name in ("promised", "history"):
        del rows[0]["columns"]["pa-el"][name]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    assert len(list(page_of(html_of(read_evidence(tmp_path))).by_id("F1-pa-el").all("svg"))) == 2


def test_the_extra_is_not_imported_before_a_page_is_asked_for() -> None:
    code = "import kvchaos.command, kvchaos.report.making, sys; print({'matplotlib', 'jinja2', 'numpy'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
