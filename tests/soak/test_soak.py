"""The soak in small, and in the long tier for minutes; and that it would notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.load import DELETED, Held
from tests.soak.memory import MIB, slope_mib_per_minute
from tests.soak.run import Report, soak

LONG_S = 300.0


async def test_nothing_fails_while_nodes_are_restarted_one_after_the_other(tmp_path: Path) -> None:
    report = await soak(tmp_path, seconds=12, restart_every_s=4, restarts_min=2)
    assert not report.violations()
    assert report.is_conclusive and report.restarts >= 2 and report.keys > 10_000


@pytest.mark.long
async def test_nothing_fails_and_nothing_grows_for_minutes(tmp_path: Path) -> None:
    report = await soak(tmp_path, seconds=LONG_S, restart_every_s=30)
    print("\n".join(report.lines()))
    assert not report.violations()
    assert report.is_conclusive and "n1" in report.growth


def test_it_notices_what_an_acknowledged_write_does_not_explain() -> None:
    held = Held()
    assert held.explains([]) and not held.explains([b"1:x"])
    held.unknown.add(1)
    assert held.explains([]) and held.explains([b"1:x"])
    held.acknowledged(1)
    assert held.explains([b"1:x"]) and not held.explains([]) and not held.explains([b"0:x"])
    assert not held.explains([b"1:x", b"1:x"]), "siblings that nobody can have made"
    held.unknown.add(DELETED)
    assert held.explains([]) and held.explains([b"1:x"])


def test_it_notices_errors_and_growth() -> None:
    growing = [(float(at), 100 * MIB + at * MIB // 10) for at in range(300)]
    assert slope_mib_per_minute(growing) == pytest.approx(6, rel=0.01)
    assert slope_mib_per_minute([(float(at), 100 * MIB + (at % 2) * MIB) for at in range(300)]) == pytest.approx(0, abs=0.05)
    assert Report(growth={"n1": 6.0}).violations() == ["n1 grows by 6.0 MiB a minute"]
    assert Report(errors={"Overloaded: no": 2}).violations() == ["2 times Overloaded: no"]
    assert not Report(seconds=10, restarts=1, operations=10).is_conclusive
