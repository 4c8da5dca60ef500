"""Other stores under the same faults, workloads and checkers: etcd comes out linearizable, and Redis is caught losing writes.

etcd is built and Redis fetched once; where that cannot be, the tests are skipped and say what is missing and how it can be had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvchaos.checkers.judge import judge
from kvchaos.checkers.linearizability.verdicts import LINEARIZABLE
from kvchaos.history import calls_of, read_history
from kvchaos.targets.etcd_binary import find_etcd
from kvchaos.targets.failures import TargetFailed
from kvchaos.targets.redis_binary import find_redis
from kvchaos.targets.scenarios import break_etcd, break_redis, while_fault, write_histories

# What is built or fetched is not the test's time.
pytestmark = pytest.mark.timeout(180, func_only=True)


def had(find: Callable[[], object]) -> None:
    try:
        find()
    except TargetFailed as missing:
        pytest.skip(f"cannot be had on this machine: {missing}")


@pytest.fixture(scope="session")
def etcd_there() -> None:
    had(find_etcd)


@pytest.fixture(scope="session")
def redis_there() -> None:
    had(find_redis)


@pytest.mark.long
async def test_etcd_is_linearizable_while_its_leader_is_cut_off_paused_and_killed(
    toxiproxy_server: Path, etcd_there: None, tmp_path: Path
) -> None:
    result = await break_etcd(tmp_path / "etcd", seed=5)
    assert (result.broken, result.lacking) == ([], []), result.sentence()
    cut = while_fault(result.histories["registers"], "isolate")
    [leader] = {event.value["node"] for event in cut if event.f == "isolate"}
    asked = [call for call in calls_of(result.histories["registers"].events) if cut[0].index < call.invoke.index < cut[-1].index]
    served = [call for call in asked if call.is_ok or call.fact("found", "nothing") != "nothing"]
    # What a verdict over the cut needs: the majority read, wrote and decided conditions all through it; the leader that was cut off
    # was asked, and answered nobody. How often which kind came up meanwhile is the workload's chance and proves nothing.
    assert len(served) >= 100, "the workload waits for 200 acknowledgements under the cut"
    kinds = {call.f for call in served}
    assert {"read", "write"} <= kinds and kinds & {"cas", "put_if_absent"}
    assert leader not in {call.invoke.node for call in served if call.ended_ns < cut[-1].time_ns}, "a minority answered"
    assert leader in {call.invoke.node for call in asked if not call.is_ok}, "the cut side was asked"
    [path] = write_histories(result, tmp_path / "out")
    assert judge(read_history(path)) == [], "the history is kept, and can be judged again"


async def test_redis_is_caught_losing_acknowledged_writes_when_a_cut_off_primary_is_replaced(
    toxiproxy_server: Path, redis_there: None, tmp_path: Path
) -> None:
    result = await break_redis(tmp_path / "redis", seed=6)
    assert len(result.lost) > 20, result.broken
    assert "0 applied though refused, 0 never written" in result.broken[0]
    found = judge(result.histories["registers"])
    assert {violation.promise for violation in found} == {LINEARIZABLE}
    assert all(len(violation.events) <= 16 for violation in found), "each is told in a few operations"


async def test_redis_whose_primary_stays_is_accused_of_nothing(toxiproxy_server: Path, redis_there: None, tmp_path: Path) -> None:
    """The control: the same cut without a failover."""
    result = await break_redis(tmp_path / "redis", seed=6, failover=False)
    assert (result.broken, result.lacking, result.lost) == ([], [], [])
    assert result.answered > 600
