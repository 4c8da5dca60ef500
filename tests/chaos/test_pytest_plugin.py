"""pytest-kvchaos in a project of somebody else: the page's example, copied into an empty folder, is run as it stands."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvchaos.history import read_history
from kvchaos.ledger import Ledger
from kvproto.errors import AvailabilityError
from tests.docs.blocks import blocks_of
from tests.house.repository import ROOT

PAGE = (ROOT / "docs" / "chaos-tests.md").read_text(encoding="utf-8")
[EXAMPLE] = [block.body for block in blocks_of(PAGE) if block.language == "python"]


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As its owner would: no settings, whatever is installed."""
    paths = os.pathsep.join(part for part in sys.path if part)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", f"--basetemp={folder / 'tmp'}", *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=folder, env={**kept, "PYTHONPATH": paths}, capture_output=True, text=True, check=False, timeout=150
    )
    print(done.stdout, done.stderr)
    return done


@pytest.mark.timeout(180, func_only=True)
@pytest.mark.parametrize("mode", ["strict", pytest.param("auto", marks=pytest.mark.long)])
def test_the_example_of_the_page_passes_in_an_empty_project_and_keeps_its_history(
    mode: str, toxiproxy_server: Path, tmp_path: Path
) -> None:
    assert len(EXAMPLE.partition("@pytest")[2].splitlines()) - 2 <= 10, "ten lines, and its name"
    (tmp_path / "test_orders.py").write_text(EXAMPLE, encoding="utf-8")
    done = run_pytest(tmp_path, "-o", f"asyncio_mode={mode}", "-W", "error::pytest.PytestUnknownMarkWarning")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    [kept] = tmp_path.glob("tmp/**/history.jsonl")
    history = read_history(kept)
    assert [event.value for event in history.events if event.type == "ok" and event.f == "read"] == [
        ["order/1", "order/2", "order/3"]
    ]
    assert {"partition", "verify", "heal"} <= {event.f for event in history.events}


@pytest.mark.long  # two more clusters; what they show is shown above and by tests of the parts
@pytest.mark.timeout(180, func_only=True)
def test_a_lost_order_and_a_fault_that_nobody_looked_at_fail_the_test(toxiproxy_server: Path, tmp_path: Path) -> None:
    lossy = EXAMPLE.replace("return [entry.key.decode() ", "return ['order/2' ")
    unseen = EXAMPLE.replace("        await fault_plane.verify()\n", "").replace("test_no_order", "test_unseen")
    assert lossy != EXAMPLE != unseen
    (tmp_path / "test_lossy.py").write_text(lossy, encoding="utf-8")
    (tmp_path / "test_unseen.py").write_text(unseen, encoding="utf-8")
    done = run_pytest(tmp_path)
    assert done.returncode == 1, done.stdout
    assert "an element that was added and acknowledged, or seen, stays of orders: order/1 is missing" in done.stdout
    assert "healed without having been seen: partition" in done.stdout


def test_the_plugin_brings_nothing_in_until_it_is_asked_for() -> None:
    code = (
        "import sys, kvchaos.pytest_plugin; sys.exit(bool({'grpc', 'requests', 'kvclient', 'kvchaos.faults'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "chaos", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


async def told(value: object = None, *, error: Exception | None = None) -> object:
    await asyncio.sleep(0)
    if error is not None:
        raise error
    return value


async def test_a_call_is_written_down_with_what_became_of_it() -> None:
    ledger = Ledger()
    assert await ledger.call("read", told([b"a", b"b"]), key="k") == [b"a", b"b"]
    await ledger.call("write", told(), key="k", value="v")
    with pytest.raises(AvailabilityError):
        await ledger.call("write", told(error=AvailabilityError("no")), key="k", value="w")
    with pytest.raises(AvailabilityError):
        await ledger.call("write", told(error=AvailabilityError("?", may_have_applied=True)), key="k", value="x")
    with pytest.raises(ZeroDivisionError):
        await ledger.call("write", told(error=ZeroDivisionError()), key="k", value="y")
    ends = [event for event in ledger.history.events if event.type != "invoke"]
    assert [(event.type, event.value) for event in ends] == [
        ("ok", ["a", "b"]),
        ("ok", "v"),
        ("fail", "w"),
        ("info", "x"),
        ("info", "y"),
    ]
    assert [event.process for event in ends] == [0, 0, 0, 0, 1], "a process whose call is unknown makes no other"


async def test_calls_that_overlap_are_of_different_processes() -> None:
    ledger = Ledger()
    await asyncio.gather(*(ledger.call("write", told(), key="k", value=f"v{number}") for number in range(3)))
    await ledger.call("read", told("v1"), key="k")
    assert {event.process for event in ledger.history.events} == {0, 1, 2}
    ledger.check("linearizable", "invented")
    await ledger.call("read", told("ghost"), key="k")
    with pytest.raises(AssertionError, match="ghost was read, and nobody wrote it"):
        ledger.check("linearizable")
