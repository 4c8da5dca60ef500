"""Links that are cut, stalled, slow, lossy or reset: what the nodes and clients at both ends see of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kvproto.errors import AvailabilityError, DeadlineExceeded, KvError, QuorumUnreachable
from kvstore.simulation.connection import End, LinkSettings, NetworkSettings
from kvstore.simulation.events import EventLog
from kvstore.simulation.loop import SimLoop
from kvstore.simulation.network import Network
from kvstore.simulation.process import Process
from kvstore.simulation.world import World

Scenario = Callable[[World], Coroutine[Any, Any, Any]]


class Pair:
    """A connection from `a` to `b`, with what has arrived at each side and when."""

    def __init__(self, *, seed: object = 1, settings: NetworkSettings | None = None) -> None:
        self.loop = SimLoop(seed)  # type: ignore[abstract]
        self.network = Network(self.loop, self.loop.rng, EventLog(), settings or NetworkSettings())
        self.network.hosts["b:1"] = "b"
        self.a, self.b = Process(self.loop, "a"), Process(self.loop, "b")
        self.arrived: dict[str, list[Any]] = {"a": [], "b": []}
        self.at_s: list[float] = []
        self.lost: dict[str, str] = {}
        self.ends: list[End] = []

    def run(self, work: Callable[[Pair], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            self.network.listen(self.b, "b:1", lambda end: self.adopt("b", end))
            return await work(self)

        return self.loop.run(main())

    def adopt(self, side: str, end: End) -> None:
        def take(frame: Any) -> None:
            self.arrived[side].append(frame)
            self.at_s.append(self.loop.time())

        end.receive = take
        end.lost = lambda reason: self.lost.__setitem__(side, reason)
        self.ends.append(end)

    async def connect(self) -> End:
        opened: asyncio.Future[End] = self.loop.create_future()
        self.network.connect(self.a, "b:1", opened.set_result, lambda reason: opened.set_exception(ConnectionError(reason)))
        end = await opened
        self.adopt("a", end)
        return end


def test_a_connection_keeps_the_order_of_what_is_sent_over_it() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        for number in range(200):
            end.send(number)
        await asyncio.sleep(60)

    pair = Pair(settings=NetworkSettings(link=LinkSettings(jitter_ms=50, loss=0.3)))
    pair.run(work)
    assert pair.arrived["b"] == list(range(200))


def test_connections_overtake_each_other() -> None:
    def orders(seed: int) -> str:
        async def work(pair: Pair) -> None:
            first, second = await pair.connect(), await pair.connect()
            for number in range(10):
                first.send(f"a{number}")
                second.send(f"b{number}")
            await asyncio.sleep(1)

        pair = Pair(seed=seed)
        pair.run(work)
        return "".join(frame[0] for frame in pair.arrived["b"])

    assert len({orders(seed) for seed in range(10)}) > 5


def test_a_lost_segment_costs_a_retransmission() -> None:
    async def work(pair: Pair) -> float:
        end = await pair.connect()
        pair.network.link("a", "b").settings = LinkSettings(loss=1.0, retransmit_ms=100)
        before = pair.loop.time()
        end.send("x")
        await asyncio.sleep(60)
        return pair.at_s[0] - before

    assert Pair().run(work) >= 1.5


def test_a_cut_is_silence_until_keepalive_ends_the_connection_at_both_ends() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        pair.network.block("a", "b", "cut")
        end.send("held")
        await asyncio.sleep(1.4)
        assert pair.lost == {} and pair.arrived["b"] == []
        await asyncio.sleep(2.2)
        assert pair.lost == {"a": "keepalive watchdog timeout", "b": "keepalive watchdog timeout"}

    Pair().run(work)


def test_a_cut_that_heals_in_time_ends_nothing_and_what_was_held_arrives_in_order() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        pair.network.block("a", "b", "cut")
        end.send(1)
        await asyncio.sleep(1)
        end.send(2)
        pair.network.unblock("a", "b")
        end.send(3)
        await asyncio.sleep(10)
        assert pair.lost == {} and pair.arrived["b"] == [1, 2, 3]

    Pair().run(work)


def test_a_cut_is_one_way() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        pair.network.block("b", "a", "cut")
        end.send("there")
        end.peer.send("back")
        await asyncio.sleep(1)
        assert pair.arrived == {"a": [], "b": ["there"]}

    Pair().run(work)


def test_what_a_stalled_link_holds_arrives_although_its_sender_has_given_up() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        pair.network.block("a", "b", "stalled")
        end.send("late")
        await asyncio.sleep(1)
        end.close()
        newer = await_later = asyncio.ensure_future(pair.connect())
        pair.network.unblock("a", "b")
        (await newer).send("newer")
        await asyncio.sleep(1)
        assert await_later.done() and sorted(pair.arrived["b"]) == ["late", "newer"]

    Pair().run(work)


def test_what_a_dead_connection_had_on_its_way_over_a_cut_may_be_lost_or_late() -> None:
    def arrived(seed: int) -> bool:
        async def work(pair: Pair) -> bool:
            end = await pair.connect()
            pair.network.block("a", "b", "cut")
            end.send("late")
            end.close()
            pair.network.unblock("a", "b")
            await asyncio.sleep(1)
            return bool(pair.arrived["b"])

        found: bool = Pair(seed=seed).run(work)
        return found

    assert {arrived(seed) for seed in range(20)} == {True, False}


def test_a_reset_loses_what_is_on_its_way_and_both_ends_know() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        end.send("lost")
        assert pair.network.reset("a", "b") == 2
        await asyncio.sleep(1)
        assert pair.arrived["b"] == [] and set(pair.lost) == {"a", "b"}

    Pair().run(work)


def test_nobody_listens_where_nobody_runs() -> None:
    async def work(pair: Pair) -> None:
        pair.b.kill()
        with pytest.raises(ConnectionError, match="refused"):
            await pair.connect()

    Pair().run(work)


def test_a_paused_process_reads_what_came_meanwhile_and_then_the_end_of_the_connection() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        pair.b.pause()
        pair.network.silence(pair.b, lambda: pair.b.is_paused)
        end.send("late")
        await asyncio.sleep(4)
        assert "a" in pair.lost and pair.arrived["b"] == []
        pair.b.resume()
        await asyncio.sleep(1)
        assert pair.arrived["b"] == ["late"] and "b" in pair.lost

    Pair().run(work)


def test_a_stream_to_a_process_that_reads_nothing_is_held_up_and_goes_on_when_it_reads() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.connect()
        sent: list[int] = []

        async def write() -> None:
            for number in range(64):
                await end.write(1, bytes(100_000))
                sent.append(number)

        task = asyncio.ensure_future(write())
        pair.b.pause()
        await asyncio.sleep(1)
        assert 5 < len(sent) < 20
        pair.b.resume()
        await task
        await asyncio.sleep(1)
        assert len(pair.arrived["b"]) == 64 and end.in_flight_bytes == 0

    Pair().run(work)


# --- as nodes and clients see it


async def refused(client: Any, **options: Any) -> KvError:
    with pytest.raises(KvError) as caught:
        await client.put("k", b"v", **options)
    return caught.value


def test_an_isolated_node_is_unreachable_for_the_others_and_back_after_healing() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        await client.put("k", b"1", level="all")
        world.isolate("n3")
        await world.sleep(4)
        assert not world.is_linked()
        error = await refused(client, level="all", timeout_s=1)
        assert isinstance(error, QuorumUnreachable | DeadlineExceeded)
        await client.put("k", b"2")
        world.heal_all()
        await world.wait_linked()
        await client.put("k", b"3", level="all")

    World(1).run(scenario)


def test_a_node_behind_a_one_way_cut_answers_nobody() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        await client.put("k", b"1")
        world.cut("n1", "c1")
        world.cut("n2", "c1")
        world.cut("n3", "c1")
        error = await refused(client, timeout_s=1)
        assert error.may_have_applied and isinstance(error, AvailabilityError)
        world.heal_all()
        await world.sleep(4)
        assert (await client.get("k")).values == [b"v"], "what was not answered was done"

    World(2).run(scenario)


def test_a_slow_link_is_slow() -> None:
    async def scenario(world: World) -> float:
        await world.start()
        client = world.client("c1")
        await client.put("k", b"1")
        for node in world.running:
            world.set_link("c1", node, delay_ms=40)
        before = world.now_s
        await client.get("k")
        return world.now_s - before

    assert World(3).run(scenario) >= 0.04


def test_after_a_reset_the_client_goes_on() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        for number in range(20):
            await client.put("k", b"%d" % number)
            if number % 5 == 0:
                for node in world.running:
                    world.reset("c1", node)
        assert (await client.get("k")).value == b"19"

    World(4).run(scenario)


def test_a_paused_client_waits_and_goes_on() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        client = world.client("c1")
        done: list[float] = []

        async def work() -> None:
            for number in range(5):
                await client.put("k", b"%d" % number)
                done.append(world.now_s)
                await world.sleep(0.1)

        task = world.spawn("c1", work())
        await world.sleep(0.25)
        world.pause("c1")
        before = len(done)
        await world.sleep(20)
        assert 0 < before == len(done) < 5
        world.resume("c1")
        await task
        assert len(done) == 5

    World(5).run(scenario)
