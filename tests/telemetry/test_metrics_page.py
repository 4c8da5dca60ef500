"""/metrics of a living node: Prometheus's own parsers take it, docs/telemetry.md lists exactly what is there, and the alerts ask
for nothing else."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvproto.columns import Level
from tests.house.repository import ROOT
from tests.support.cluster import ALL, gets, puts
from tests.support.nodes import Nodes
from tests.telemetry.http_client import fetch

parse_openmetrics: Any = vars(openmetrics)["text_string_to_metric_families"]  # it has no types
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
ROW = re.compile(r"^\| `((?:kv|grpc|process|python)_\w+)` \| (\w+) \| ([\w, ]*) ?\| (.+) \|$", re.MULTILINE)
ONLY_WITH_TLS = {"kv_certificate_expiry_timestamp_seconds"}
ALERTS = ROOT / "docs" / "alerts.yml"
FUNCTIONS = {"sum", "by", "rate", "histogram_quantile", "time"}
LABELS = {"instance", "operation", "le", "job", "state", "namespace", "unit"}


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with Nodes(tmp_path, has_http=True) as nodes:
        await nodes.start()
        await nodes.run("n1", puts({b"%d" % at: b"v" for at in range(10)}, **ALL), gets(b"1", b"none"))
        await nodes.run("n1", puts({b"x": b"v"}, level=Level.EXPLICIT, w=9))  # refused
        yield nodes


async def page(nodes: Nodes, headers: dict[str, str] | None = None) -> tuple[str, str]:
    status, said, body = await fetch(nodes.http["n1"], "/metrics", headers)
    assert status == 200
    return said["content-type"], body


def exposed_name(family: Any) -> str:
    return str(family.name) + ("_total" if family.type == "counter" else "")


async def test_prometheus_parses_it_in_both_formats_and_finds_the_same(nodes: Nodes) -> None:
    kind, text = await page(nodes)
    assert kind.startswith("text/plain")
    plain = {exposed_name(family): family for family in parse_text(text)}
    kind, text = await page(nodes, OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    strict = {exposed_name(family) + ("_info" if family.type == "info" else ""): family for family in parse_openmetrics(text)}
    assert set(plain) == set(strict)
    operations = {tuple(sorted(sample.labels.items())): sample.value for sample in plain["kv_operations_total"].samples}
    assert operations[("level", "preset"), ("operation", "get"), ("outcome", "ok")] == 2
    assert operations[("level", "all"), ("operation", "put"), ("outcome", "ok")] == 10


async def test_every_histogram_is_whole_and_every_name_is_ours_or_a_known_one(nodes: Nodes) -> None:
    _, text = await page(nodes)
    for family in parse_text(text):
        assert family.name.startswith(("kv_", "grpc_server_", "process_", "python_gc_")) and family.documentation
        if family.type != "histogram":
            continue
        infinite = [sample.value for sample in family.samples if sample.labels.get("le") == "+Inf"]
        counts = [sample.value for sample in family.samples if sample.name.endswith("_count")]
        assert infinite == counts


async def test_the_page_on_telemetry_lists_every_metric_and_no_other(nodes: Nodes) -> None:
    _, text = await page(nodes)
    living = {exposed_name(family): family for family in parse_text(text)}
    listed = {name: (kind, labels.strip(), means) for name, kind, labels, means in ROW.findall(listing())}
    assert set(listed) - ONLY_WITH_TLS == set(living)
    for name, family in living.items():
        kind, labels, _ = listed[name]
        assert kind == family.type, name
        shown = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert shown <= {label.strip() for label in labels.split(",")}, name


def listing() -> str:
    return (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")


async def test_the_alerts_ask_for_metrics_that_there_are(nodes: Nodes) -> None:
    _, text = await page(nodes)
    living = {sample.name for family in parse_text(text) for sample in family.samples}
    living |= {exposed_name(family) for family in parse_text(text)} | {"up"} | ONLY_WITH_TLS
    rules = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    assert len(rules) >= 5
    for rule in rules:
        expression = rule["expr"]
        names = set(re.findall(r"[a-z_]{2,}", re.sub(r'"[^"]*"|\[\w+\]', "", expression))) - FUNCTIONS - LABELS
        assert names and names <= living, (rule["alert"], names - living)
        assert expression.count("(") == expression.count(")")
        assert rule["labels"]["severity"] in {"warning", "critical"} and rule["annotations"].keys() == {"summary", "description"}


async def test_promtool_finds_nothing_to_say(nodes: Nodes) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, of Debian's package prometheus, is not installed")
    _, text = await page(nodes)
    ours = "\n".join(line for line in text.splitlines() if "python_gc" not in line) + "\n"
    assert await asyncio.to_thread(said_by, [promtool, "check", "metrics"], ours) == (0, "")
    code, said = await asyncio.to_thread(said_by, [promtool, "check", "rules", str(ALERTS)], "")
    assert code == 0, said


def said_by(command: list[str], text: str) -> tuple[int, str]:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
