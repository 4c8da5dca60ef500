"""One cluster under one fault: warm-up, fault, load while it lasts, healing, rest, the last word on every key, verdicts.

Every phase waits until enough has happened, and gives up after a bound: what has not happened then makes a verdict inconclusive,
and never a pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kvchaos.checkers.judge import judge
from kvchaos.faults.failures import InjectorFailure
from kvchaos.faults.nodes import NodeDied
from kvchaos.faults.proxied_cluster import ProxiedCluster
from kvchaos.history import HARNESS, NEMESIS, Call, Event, History, Recorder, calls_of
from kvchaos.processes import RestartFailed
from kvchaos.scenarios.columns import COLUMNS, PARTITIONS, Column, namespaces
from kvchaos.scenarios.figures import doubted_reads, figures_of, one_way, stale_share
from kvchaos.scenarios.hiccups import Hiccups
from kvchaos.scenarios.load import Load
from kvchaos.scenarios.pulse import Pulse
from kvchaos.scenarios.scenario import FAR, NEAR, PromiseBroken, Scenario
from kvchaos.scenarios.verdict import Sides, Verdict, judge_sides
from kvchaos.scenarios.versions import versions
from kvchaos.stalls import Stalls
from kvclient import AsyncClient
from kvclient.cli.cluster import obstacles, wait_converged
from kvproto.partitions import partition_of, partition_shift

SITES = (NEAR, FAR)
WARM_MIN = 15
"""Acknowledged operations of each kind, column and side before the fault."""
AFTER_MIN = 10
"""Operations of each kind, column and side once it is over."""
PHASE_S_MAX = 45.0
CONVERGED_S_MAX = 40.0
LOOK_S = 0.05
BROKEN_SHOWN = 5

Say = Callable[[str, str], None]
"""Told of each phase, and what is to be said of it."""


@dataclass(slots=True)
class ColumnResult:
    """One column's share of a run: what was answered before the fault, while it lasted, and once it was healed."""

    column: str
    during: Sides
    stale: float | None
    verdict: Verdict
    history: History
    before: Sides = field(default_factory=dict)
    after: Sides = field(default_factory=dict)


@dataclass(slots=True)
class Result:
    """One run. `failure`: why the fault did not take, or a node did not come back; then nothing else was judged."""

    scenario: str
    seed: int
    columns: list[ColumnResult] = field(default_factory=list)
    converged_s: float | None = None
    failure: str = ""
    failure_breaks: bool = False
    chosen: Sequence[str] = ()
    """The columns that were asked for, where that is not all of them."""
    hiccups: Sequence[str] = ()
    """Nodes that lost each other, from when the fault began to be made until its end, though it did not keep them apart."""
    bug: str = ""
    """What was planted into the nodes."""

    @property
    def replay(self) -> str:
        """The command that does the same again."""
        words = ["kv chaos run", self.scenario, "--seed", str(self.seed)]
        words += [word for name in self.chosen for word in ("--preset", name)]
        return " ".join([*words, *(("--bug", self.bug) if self.bug else ())])


async def run(
    scenario: Scenario,
    *,
    seed: int,
    root: Path,
    columns: Sequence[Column] = COLUMNS,
    say: Say = lambda phase, text: None,
    bug: str = "",
) -> Result:
    """Runs it on a new cluster below `root`. Failures of the injector and of restarts are told in the result. `bug` is planted
    into the nodes (`kv sim bugs`)."""
    every = list(columns) == list(COLUMNS)
    result = Result(scenario.id, seed, chosen=() if every else [column.name for column in columns], bug=bug)
    command: Sequence[str] | None = None
    if bug:
        from kvchaos.simulation.planted_serve import planted_serve_command

        command = planted_serve_command(bug)
    try:
        await _run(scenario, seed, root, columns, say, command, result)
    except InjectorFailure as failure:
        result.failure = f"the fault did not take: {failure}"
    except (NodeDied, RestartFailed, PromiseBroken) as failure:
        result.failure, result.failure_breaks = str(failure), True
    return result


@asynccontextmanager
async def open_stage(
    root: Path,
    columns: Sequence[Column],
    *,
    nodes: int,
    seed: str,
    say: Say,
    settings: Mapping[str, str | int | float] | None = None,
    command: Sequence[str] | None = None,
    recorded: bool = False,
) -> AsyncIterator[tuple[ProxiedCluster, dict[str, AsyncClient], list[Load]]]:
    """A cluster below `root`, a client at each site, and a load for each column that has not begun yet."""
    loop = asyncio.get_running_loop()

    def now_ns() -> int:
        return _now_ns(loop)

    async with AsyncExitStack() as stack:
        say("start", f"{nodes} nodes behind {nodes * (nodes + 1)} proxies")
        cluster = await stack.enter_async_context(
            ProxiedCluster(
                root,
                nodes=nodes,
                sites=SITES,
                namespaces=namespaces(tuple(columns)),
                cluster=dict(settings or {}),
                command=command,
                recorder=Recorder(now_ns),
                recorded=recorded,
            )
        )
        stack.enter_context(Stalls(cluster.recorder))
        clients = {
            site: await stack.enter_async_context(
                AsyncClient(cluster.addresses(site), address_map=cluster.address_map(site), timeout_s=5.0)
            )
            for site in SITES
        }
        loads = [Load(column, clients, Recorder(now_ns), seed=seed) for column in columns]
        for load in loads:
            stack.push_async_callback(load.abort)
        yield cluster, clients, loads


async def _run(
    scenario: Scenario,
    seed: int,
    root: Path,
    columns: Sequence[Column],
    say: Say,
    command: Sequence[str] | None,
    result: Result,
) -> None:
    loop = asyncio.get_running_loop()
    seeded = f"{seed}/{scenario.id}"
    async with open_stage(
        root,
        columns,
        nodes=scenario.nodes,
        seed=seeded,
        say=say,
        settings=scenario.cluster,
        command=command,
        recorded=scenario.recorded,
    ) as stage:
        cluster, clients, loads = stage
        for load in loads:
            load.start()
        say("warm", "clients write and read")
        await until(loads, lambda load, site: load.answered(site) >= WARM_MIN, Pulse(loads, say, "warm"))
        say("fault", scenario.title)
        hiccups = Hiccups(cluster)
        moments = [_now_ns(loop)]
        await scenario.inject(cluster)
        moments.append(_now_ns(loop))
        pulse = Pulse(loads, say, "under it", scenario.title)
        await _go_on(loads, scenario.during_min, pulse)
        while (_now_ns(loop) - moments[-1]) / 1e9 < scenario.hold_s:
            pulse.beat()
            await asyncio.sleep(LOOK_S)
        moments.append(_now_ns(loop))
        result.hiccups = hiccups.until_now()
        say("heal", "")
        await scenario.lift(cluster)
        moments.append(_now_ns(loop))
        await _go_on(loads, AFTER_MIN, Pulse(loads, say, "healed"))
        for load in loads:
            await load.stop()
        say("rest", "replicas agree")
        healed_s = loop.time()
        rows, converged = await wait_converged(clients[FAR], CONVERGED_S_MAX)
        result.converged_s = loop.time() - healed_s if converged else None
        for load in loads:
            await load.read_at_rest(FAR)
    say("judge", "checkers")
    faults = cluster.recorder.history.events
    # Registers leave no hints.
    writes = [call for load in loads if not load.column.registers for call in calls_of(load.recorder.history.events)]
    for load in loads:
        told = _judged(scenario, load, faults, moments, result, writes)
        if not converged:
            told.verdict.broken.append(f"replicas did not agree within {CONVERGED_S_MAX:g} s: {'; '.join(obstacles(rows))}")
        result.columns.append(told)


def _now_ns(loop: asyncio.AbstractEventLoop) -> int:
    """The one clock of a run."""
    return int(loop.time() * 1e9)


async def _go_on(loads: Sequence[Load], least: int, pulse: Pulse) -> None:
    """Until so many operations of each kind, column and side that begin from now on have ended, or the time is over."""
    before = [dict(load.told) for load in loads]

    def enough(load: Load, site: str) -> bool:
        told = before[loads.index(load)]
        return all(load.told[site, kind] - told.get((site, kind), 0) > least + 1 for kind in ("reads", "writes"))

    await until(loads, enough, pulse)


async def until(loads: Sequence[Load], enough: Callable[[Load, str], bool], pulse: Pulse | None = None) -> None:
    """Until `enough` of every column and side, or the time is over."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + PHASE_S_MAX
    while not all(enough(load, site) for load in loads for site in load.sites) and loop.time() < end_s:
        for load in loads:
            load.check()
        if pulse is not None:
            pulse.beat()
        await asyncio.sleep(LOOK_S)


def _judged(
    scenario: Scenario, load: Load, faults: Sequence[Event], moments: Sequence[int], result: Result, writes: Sequence[Call]
) -> ColumnResult:
    """`moments`: when the fault began to be made and was seen, when healing began and was seen. `writes`: those that may leave
    hints, of all columns."""
    column = load.column
    faulty_ns, began_ns, ended_ns, healed_ns = moments
    promises = [name for name in column.promises if not (scenario.takes_copies and name in ("reads", "answers", "strict"))]
    header = {
        "scenario": scenario.id,
        "preset": column.name,
        "seed": result.seed,
        "levels": [column.level],
        "n": 3,
        "r": column.r,
        "w": column.w,
        "bound_ms": column.bound_ms,
        "promises": promises,
        "versions": versions(),
        "sites": list(load.sites),
        "during": [began_ns, ended_ns],
    }
    history = merged(header, load.recorder.history.events, [event for event in faults if event.process in (HARNESS, NEMESIS)])
    calls = [call for call in calls_of(history.events) if not call.invoke.facts.get("final")]
    ended = [call for call in calls if call.end is not None]
    during = [call for call in ended if began_ns <= call.began_ns and call.end is not None and call.end.time_ns <= ended_ns]
    before = [call for call in ended if call.end is not None and call.end.time_ns < faulty_ns]
    after = [call for call in ended if call.began_ns > healed_ns]
    verdict = Verdict(column.name)
    shift = partition_shift(int(scenario.cluster.get("partitions", PARTITIONS)))
    strangers = one_way([event for event in faults if event.process == NEMESIS and event.time_ns >= faulty_ns])
    doubted = doubted_reads(calls, faulty_ns, writes, lambda key: partition_of(key.encode(), shift), strangers)
    figures = figures_of(during, load.site_of, load.sites, doubted)
    judge_sides(scenario, column.name, figures, verdict, result.hiccups)
    found = judge(history)
    verdict.broken += [violation.sentence() for violation in found[:BROKEN_SHOWN]]
    if len(found) > BROKEN_SHOWN:
        verdict.broken.append(f"and {len(found) - BROKEN_SHOWN} more")
    stale = stale_share(calls, during)
    if column.name in scenario.controls and not stale:
        verdict.lacking.append("no stale read was seen, which this fault makes: nothing shows that it was there")
    return ColumnResult(
        column.name,
        figures,
        stale,
        verdict,
        history,
        figures_of(before, load.site_of, load.sites),
        figures_of(after, load.site_of, load.sites),
    )


def merged(header: dict[str, object], *streams: Sequence[Event]) -> History:
    """One history of several that share a clock."""
    events = sorted((event for stream in streams for event in stream), key=lambda event: event.time_ns)
    return History(
        dict(header),
        [Event(index, e.time_ns, e.process, e.type, e.f, e.key, e.value, e.node, e.facts) for index, e in enumerate(events)],
    )
