"""The suite's tiers, its order and its closing lines.

`KV_TIER=quick` (the default, `make test`) or `long` (`make test-long`) chooses the hypothesis profile and whether tests marked
`long` run. Workers begin with the files that take longest. At the end stand the seconds of each part, a part being a folder below
tests/.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TIERS = {"quick": 100, "long": 1000}
TIER = os.environ.get("KV_TIER", "quick")

LONGEST_FIRST = (
    "chaos/test_scenarios_of_nodes.py",
    "docs/test_snippets.py",
    "simulation/test_seeds.py",
    "chaos/test_sim_command.py",
    "chaos/test_scenarios_of_links.py",
    "integration/test_sigkill_loses_nothing.py",
    "chaos/test_pacelc.py",
    "simulation/test_pinned_schedules.py",
    "chaos/test_fault_plane.py",
    "simulation/test_dial.py",
    "integration/test_recovery.py",
    "integration/test_siblings.py",
    "simulation/test_same_bytes.py",
    "soak/test_soak.py",
    "integration/test_lost_majority.py",
    "chaos/test_positive_controls.py",
)
"""Below tests/. A worker that came to one of these last would still be busy while the others have nothing left. Those that wait for
real clusters stand between those that compute, so that they do not take the processor from each other."""

for _name, _examples in TIERS.items():
    # No deadline per example: on a shared machine it measures the neighbours. pytest-timeout bounds each test.
    settings.register_profile(
        _name, max_examples=_examples, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
    )

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: Counter[str] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    """Loads the tier's profile; an unknown tier ends the run rather than testing less than was meant."""
    if TIER not in TIERS:
        raise pytest.UsageError(f"KV_TIER is {TIER!r}; it must be one of {', '.join(TIERS)}")
    settings.load_profile(TIER)
    if config.pluginmanager.has_plugin("xdist"):
        config.option.loadscopereorder = False  # by number of tests, which puts a few long ones last; see longest_first
    # A shell starts what runs in the background with SIGINT ignored, and tests of Ctrl-C would wait for it for ever.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests marked `long` to the long tier, and has workers begin with what takes longest."""
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)
    if TIER == "long":
        return
    chosen = [item for item in items if item.get_closest_marker("long") is None]
    if left_out := [item for item in items if item.get_closest_marker("long") is not None]:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


def pytest_collection_finish(session: pytest.Session) -> None:
    """Takes what was imported and collected out of the sight of the cycle collector: looking through all of it again and again
    took a seventh of the time of tests that compute."""
    gc.collect()
    gc.freeze()


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """File by file: those of LONGEST_FIRST, then those with the most tests. Within a file nothing moves."""
    of_file: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        of_file[item.nodeid.partition("::")[0]].append(item)
    rank = {f"tests/{name}": at for at, name in enumerate(LONGEST_FIRST)}
    files = sorted(of_file, key=lambda name: (rank.get(name, len(rank)), -len(of_file[name])))
    return [item for name in files for item in of_file[name]]


def part_of(node_id: str) -> str:
    """The part a test belongs to: `tests/laws/test_ring.py::test_…` is of `laws`; a file directly in tests/ is of `tests`."""
    folders = node_id.partition("::")[0].split("/")
    return folders[1] if len(folders) > 2 else folders[0]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up, set-up and tear-down included. With xdist this is called where the reports come together."""
    part = part_of(report.nodeid)
    _seconds[part] += report.duration
    _tests[part] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a part, the longest first. Parts run side by side, so the sum may exceed the time that passed."""
    if not _seconds:
        return
    terminalreporter.section(f"seconds of each part ({TIER} tier)")
    for part, seconds in sorted(_seconds.items(), key=lambda row: -row[1]):
        terminalreporter.write_line(f"{part:<24}{seconds:>9.1f} s {_tests[part]:>7} tests")


@pytest.fixture(scope="session")
def toxiproxy_server() -> Path:
    """The real server, built before the first test that asks for it, however long that takes, and never skipped. Tests that
    ask for it bound their own time only: `@pytest.mark.timeout(…, func_only=True)`."""
    from kvchaos.faults.server_binary import find_server

    return find_server()
