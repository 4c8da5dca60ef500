"""The world as a whole: real nodes and clients in it, their lives and deaths, and what the world refuses to call a clean end."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from kvproto.errors import KvError, ShuttingDown, WrongEpoch
from kvstore.config import ClusterConfig, NamespaceConfig
from kvstore.node import Node
from kvstore.simulation.loop import Defect
from kvstore.simulation.machine import Killed
from kvstore.simulation.world import World


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 7])
def test_real_nodes_serve_a_real_client(nodes: int) -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        values = {f"k{number:02}": b"%d" % number for number in range(40)}
        await client.put_many(values)
        assert {key: entry.value for key, entry in (await client.get_many(list(values))).items()} == values
        assert [entry.key.decode() async for entry in client.scan()] == sorted(values)
        await client.delete("k07")
        assert not (await client.get("k07", level="all")).found
        status = await client.admin.status()
        assert [node.state for node in status] == ["alive"] * nodes

    World(nodes, nodes=nodes).run(scenario)


def test_no_thread_is_started() -> None:
    import threading

    before = threading.active_count()

    async def scenario(world: World) -> None:
        await world.start()
        await world.client("c1").put("k", b"v")
        assert threading.active_count() == before

    World(1).run(scenario)


def test_a_crashed_node_is_replaced_by_the_others_and_catches_up_by_reads() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        await client.put("k", b"1", level="all")
        world.crash("n2")
        assert world.running == ["n1", "n3"]
        await client.put("k", b"2")
        await world.restart("n2")
        assert (await client.get("k", level="all")).value == b"2"
        await world.sleep(1)
        held = [pairs for pairs in world.disk("n2").held().items() if pairs[0].endswith(b"k")]
        assert held and b"2" in held[0][1]

    World(1).run(scenario)


def test_a_machine_that_goes_silently_is_missed_by_keepalive() -> None:
    def down_after_s(*, silent: bool) -> float:
        async def scenario(world: World) -> float:
            await world.start()
            before = world.now_s
            world.crash("n3", silent=silent)
            while ("n3", "alive", 0) in world.node("n1").link_states():
                await world.sleep(0.01)
            return world.now_s - before

        return World(1).run(scenario)

    assert down_after_s(silent=False) < 0.1
    assert 1.5 < down_after_s(silent=True) < 3.6


def test_bug_a_node_that_was_stopped_while_it_greeted_its_peers_told_its_owner_that_he_was_cancelled() -> None:
    """1. n1 starts and greets n2, whose answer is long in coming. 2. Its owner stops it. 3. The greeting is cut short, and start
    raised the `CancelledError` of that call, which says that the owner's own task is to end."""

    async def scenario(world: World) -> None:
        await world.start("n2")
        world.set_link("n2", "n1", delay_ms=300)
        starting = world.loop.main.spawn(world.restart("n1"))
        await world.sleep(0.7)
        assert not starting.done()
        await world.stop("n1")
        with pytest.raises(ShuttingDown):
            await starting

    World(1, nodes=2).run(scenario)


def test_bug_a_node_that_was_stopped_while_its_first_lease_was_written_began_to_serve_all_the_same() -> None:
    """1. n1 starts; its first lease is long in being written. 2. Its owner stops it, which closes the links and waits for the
    write. 3. With the lease there, the start went on where it was: it dialled the peers, took requests again, and left its tasks
    behind."""

    async def scenario(world: World) -> None:
        await world.start("n2")
        world.disk("n1").slow_ms = 2000
        starting = world.loop.main.spawn(world.restart("n1"))
        await world.sleep(0.5)
        await world.stop("n1")
        with pytest.raises(ShuttingDown):
            await starting

    World(1, nodes=2).run(scenario)


def test_a_put_queued_on_a_paused_node_is_executed_when_it_resumes() -> None:
    """The client has given up before: the outcome it was told is "unknown", and so it was."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1", timeout_s=3.0)
        await client.put("warm", b"")
        world.pause("n1")
        putting = world.loop.main.spawn(client.put("k", b"late"))
        await world.sleep(0.5)
        putting.cancel()
        world.resume("n1")
        await world.sleep(1)
        assert (await client.get("k")).values == [b"late"]

    World(1, nodes=1).run(scenario)


def test_a_put_whose_deadline_passed_while_a_node_was_paused_is_dropped_when_it_resumes() -> None:
    """Nobody waits for it any more. The client was told "unknown": it cannot know which of the two it was."""

    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1", timeout_s=1.0)
        await client.put("warm", b"")
        world.pause("n1")
        with pytest.raises(KvError) as caught:
            await client.put("k", b"late")
        assert caught.value.may_have_applied
        world.resume("n1")
        await world.sleep(1)
        assert not (await client.get("k")).found
        assert world.local("n1").serving.intake.expired == 1

    World(1, nodes=1).run(scenario)


def test_no_write_is_refused_because_the_clocks_of_nodes_jump() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1", timeout_s=1.0)
        await client.put("k", b"1")
        for wrong_ms in (60_000, -60_000, 0):
            for node in world.running:
                world.skew(node, wrong_ms)
            await client.put("k", b"2")

    World(1).run(scenario)


def test_a_new_ring_epoch_is_installed_on_a_live_cluster() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        await client.put("k", b"1", level="all")
        ring = world.install_epoch()
        assert ring.epoch == 2
        await client.put("k", b"2", level="all")
        await world.sleep(1)
        assert client.info.ring_epoch == 2
        world.crash("n3")
        await world.restart("n3")
        assert world.local("n3").ring.view.ring.epoch == 2
        await client.put("k", b"3", level="all")

    World(1).run(scenario)


def test_nodes_of_different_epochs_do_not_work_together() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1", timeout_s=1.0)
        await client.put("k", b"1", level="all")
        world.install_epoch("n1")
        with pytest.raises(KvError):
            await client.put("k", b"2", level="all")
        world.install_epoch("n1", "n2", "n3", ring=world.ring)
        await client.put("k", b"3", level="all")

    World(1).run(scenario)
    assert issubclass(WrongEpoch, KvError)


def test_a_ring_can_shrink_and_grow() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        world.install_epoch(members=["n1", "n2", "n3", "n4"])
        await client.put("k", b"1", level="all")
        world.install_epoch(members=["n1", "n2", "n3", "n4", "n5"])
        await client.put("k", b"2")

    World(1, nodes=5).run(scenario)


def test_what_a_scenario_leaves_running_is_an_error() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        world.spawn("c1", asyncio.sleep(1000)).add_done_callback(lambda _: None)

    with pytest.raises(AssertionError, match="tasks are left"):
        World(1).run(scenario)


def test_a_timer_that_is_left_is_an_error() -> None:
    async def scenario(world: World) -> None:
        world.loop.call_later(1000, print)

    with pytest.raises(AssertionError, match="timers are left"):
        World(1).run(scenario)


def test_an_exception_in_a_round_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(world.local("n1").coordinator._gets, "run", broken)
        await client.get("k")

    with pytest.raises(Defect, match="ZeroDivisionError"):
        World(1, nodes=1).run(scenario)


def test_a_broken_invariant_is_found_while_the_world_runs() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        world.local("n1").coordinator.in_flight = -10
        for number in range(100):
            await client.put("k", b"%d" % number)

    with pytest.raises(AssertionError, match="an operation ended twice"):
        World(1, check_every=10).run(scenario)


def test_a_scenario_that_fails_leaves_nothing_behind_that_complains() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        await client.put("k", b"v")
        world.pause("n1")
        world.spawn("c1", client.put("k", b"v")).add_done_callback(lambda _: None)
        await world.sleep(0.01)
        raise KeyError("the scenario's own")

    with pytest.raises(KeyError):
        World(1).run(scenario)


def test_cluster_settings_hold_in_the_world() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        result = await world.client("c1").put("k", b"v")
        assert (result.receipt.n, result.receipt.needed) == (2, 1)

    namespaces = {"default": NamespaceConfig(n=2, w=1)}
    World(1, nodes=4, cluster=ClusterConfig(id="sim", partitions=16, namespaces=namespaces)).run(scenario)


def test_a_simulated_second_costs_little() -> None:
    """Three nodes, one client, twenty operations a second; processor time, the best of three, so that neighbours do not count, and
    against a loop of fixed length, so that neither does the machine. A hundredth of a second where that loop takes 4 ms."""

    async def scenario(world: World) -> float:
        await world.start()
        before = world.now_s
        client = world.client("c1")
        for number in range(100):
            await client.put(f"k{number % 10}", b"%d" % number)
            await client.get(f"k{number % 10}")
            await world.sleep(0.1)
        return world.now_s - before

    ratios = []
    for _ in range(3):
        before = time.process_time()
        assert sum(number * number for number in range(100_000)) > 0
        loop_s = time.process_time() - before
        before = time.process_time()
        simulated_s = World(1).run(scenario)
        cost_s = (time.process_time() - before) / simulated_s
        ratios.append(cost_s / loop_s)
        print(f"{1 / cost_s:.0f} simulated seconds a second, {ratios[-1]:.1f} loops each", file=sys.stderr)
    assert min(ratios) < 12  # 3 to 4 where nothing else runs; neighbours that fill the caches make it 8


def test_bug_a_node_killed_in_the_very_turn_in_which_it_had_started_broke_the_run_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 400699 of the swarm: at a step of handing over, which begins when a node serves. When it has been said that it started,
    and before whoever started it has heard: some turns of the loop later, and who comes first is drawn."""
    begin, turns_left, killed = Node.start, [0], list[bool]()

    async def scenario(world: World) -> None:
        await world.start()
        world.install_epoch("n1", "n2", "n3")  # which a node that starts is given
        world.crash("n2")

        def die_some_turns_later() -> None:
            turns_left[0] -= 1
            if turns_left[0] < 0:
                world.crash("n2")
            else:
                asyncio.get_running_loop().call_soon(die_some_turns_later)

        async def begin_and_die(self: Node) -> None:
            await begin(self)
            die_some_turns_later()

        monkeypatch.setattr(Node, "start", begin_and_die)
        try:
            await world.restart("n2", linked=False)
        except Killed:
            killed.append(True)
        else:
            killed.append(False)
        await world.sleep(1)
        assert world.running == ["n1", "n3"]

    for seed in range(24):
        turns_left[0] = 1 + seed % 4
        World(seed).run(scenario)
        monkeypatch.setattr(Node, "start", begin)
    assert {True, False} == set(killed)
