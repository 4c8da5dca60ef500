"""What the dial promises of each setting is what checkers verify of it, and the next stronger promise is really broken.

All settings run side by side in one simulated cluster (kvchaos.simulation.dial_runs). Each has a key of its own in a namespace of
its preset, and makes all calls of that key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import pytest

from kvchaos.checkers.promised import STRONGEST, VERIFIED_BY
from kvchaos.simulation.dial_runs import BOUND_MS, Judged, name_of, namespaces_for, run_dial
from kvclient import AsyncClient
from kvclient.dial import PRESETS, Level, Promise, Setting, promise_of, settings
from kvproto.errors import KvError, UserError
from kvstore.config import ClusterConfig
from kvstore.simulation.world import World

NODES = 6
"""Two halves with stand-ins enough for three replicas each."""
SEEDS = (0, 7)
"""Two that show for every signature that its promise says no less than it could."""
MANY_SEEDS = range(100, 130)
EVERY = [setting for n in (1, 2, 3) for setting in settings(n)]
OF_FIVE = [setting for setting in settings(5) if setting.preset == "pa-ec" or setting.mode == "linearizable"][::4]

OLD = frozenset({Promise.TIMELINE, Promise.BOUNDED})
"""Reads that may be old: not where one replica is all there is."""

Signature = tuple[str, int, int, int, bool]
"""Of settings that differ in nothing that shows while nothing is away: promise, n, r, w, sloppy."""


def signature(setting: Setting) -> Signature:
    return promise_of(setting).name, setting.n, setting.r, setting.w, setting.sloppy


def may_be_shown(setting: Setting) -> bool:
    promise = promise_of(setting)
    return promise not in STRONGEST and not (promise in OLD and setting.n == 1)


def broken(judged: Iterable[Judged], seed: int) -> Iterator[str]:
    for one in judged:
        for violation in one.broken[:1]:
            yield f"seed {seed}, {one.setting}: {promise_of(one.setting).title} is broken: {violation.sentence()}"


@pytest.mark.timeout(300)  # 20 s of processor time, whatever else the machine does
def test_every_promise_is_verified_and_the_next_stronger_one_is_broken() -> None:
    shown: set[Signature] = set()
    for seed in SEEDS:
        judged = run_dial(seed, EVERY, nodes=NODES)
        assert [one.setting for one in judged] == EVERY
        assert not list(broken(judged, seed))
        assert min(one.acknowledged for one in judged) > 20, "nothing was tried"
        shown |= {signature(one.setting) for one in judged if one.beyond}
    less = {signature(setting) for setting in EVERY if may_be_shown(setting)} - shown
    assert not less, f"no schedule shows that these promise no more than they give: {sorted(less)}"


def test_promises_hold_with_five_replicas() -> None:
    assert not list(broken(run_dial(3, OF_FIVE, nodes=7), 3))


@pytest.mark.long
def test_many_schedules_verify_every_promise_and_break_the_next_stronger_one_of_each() -> None:
    shown: defaultdict[Setting, int] = defaultdict(int)
    for seed in MANY_SEEDS:
        judged = run_dial(seed, EVERY, nodes=NODES)
        assert not list(broken(judged, seed))
        for one in judged:
            shown[one.setting] += bool(one.beyond)
    less = [setting for setting in EVERY if may_be_shown(setting) and not shown[setting]]
    assert not less


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_many_schedules_keep_every_promise_of_five_replicas(seed: int) -> None:
    assert not list(broken(run_dial(seed, list(settings(5)), nodes=8), seed))


def test_every_promise_has_its_checkers() -> None:
    assert VERIFIED_BY.keys() == set(Promise)


# --- what the dial refuses nodes refuse, by the same error


Asked = dict[str, Any]


def every_question() -> Iterator[tuple[str, Asked]]:
    """A preset, and what is asked of it: levels, numbers up to one too many, stand-ins or not."""
    levels = [None, Level.ATOMIC, Level.LINEARIZABLE, Level.TIMELINE, Level.BOUNDED]
    for preset, read, r, w, sloppy in product(PRESETS, levels, [None, 1, 2, 3, 4], [None, 1, 3, 4], [None, False, True]):
        if read is None or r is None:  # a call has one or the other: clients refuse both at once
            yield preset, {"read": read, "r": r, "w": w, "sloppy": sloppy}


def of_dial(preset: str, asked: Asked) -> type[KvError] | None:
    try:
        Setting.of(preset, n=3, **asked)
    except KvError as error:
        return type(error)
    return None


async def of_nodes(client: AsyncClient, preset: str, asked: Asked) -> type[KvError] | None:
    """What becomes of a read and a write that ask for it; the first refusal counts."""
    space = client.namespace(f"{preset}-3")
    read, sloppy = asked["read"], asked["sloppy"]
    how: Asked = {} if read is None else {"level": read.value}
    if read is Level.BOUNDED:
        how["bound_ms"] = BOUND_MS
    if asked["r"] is not None:
        how["r"] = asked["r"]
    if sloppy is not None:
        how["sloppy"] = sloppy
    writing = {name: value for name, value in (("w", asked["w"]), ("sloppy", sloppy)) if value is not None}
    for call in (lambda: space.get("k", **how), lambda: space.put("k", b"v", **writing)):
        try:
            await call()
        except UserError as error:
            return type(error)
    return None


def test_what_the_dial_refuses_nodes_refuse_too_and_what_it_takes_they_take() -> None:
    spaces: Sequence[Setting] = [Setting.of(preset, n=3) for preset in PRESETS]
    world = World(1, cluster=ClusterConfig(id="sim", partitions=8, namespaces=namespaces_for(spaces)))
    assert {name_of(one) for one in spaces} == world.cluster.namespaces.keys()
    differ = []

    async def ask_all(running: World) -> None:
        await running.start()
        client = running.client("c1")
        for preset, asked in every_question():
            dial, nodes = of_dial(preset, asked), await of_nodes(client, preset, asked)
            if dial is not nodes:
                differ.append(f"{preset} {asked}: the dial says {dial}, nodes say {nodes}")

    world.run(ask_all)
    assert not differ, "\n".join([f"{len(differ)}", *differ[:40]])
