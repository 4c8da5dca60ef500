"""The failure detector's shell, with a carrier that the test is: what is sent, heard and answered, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from kvstore.core.membership.incarnation import LEASE
from kvstore.core.membership.messages import Ack, Gossip, Message, Ping, PingRequest
from kvstore.core.membership.opinions import Opinions
from kvstore.core.membership.suspicion import Timing
from kvstore.core.membership.table import Claim, State
from kvstore.membership import detection
from kvstore.membership.detection import FailureDetection
from kvstore.membership.promptness import Promptness
from kvstore.storage.commit import Committer
from kvstore.storage.incarnations import INCARNATION_KEY, IncarnationLedger
from kvstore.storage.memory import MemoryEngine
from tests.support.waiting import until

QUICK = Timing(probe_interval_ms=40, probe_timeout_ms=15, gossip_interval_ms=10, sync_interval_ms=10_000, stall_ms=10_000)


class Carrier:
    """Takes what is sent; `replies` says what a peer answers at once."""

    def __init__(self) -> None:
        self.heard: Callable[[str, Message], None] = lambda node, message: None
        self.sent: list[tuple[str, Message]] = []
        self.silent: set[str] = set()

    def send(self, node: str, message: Message) -> None:
        self.sent.append((node, message))
        if isinstance(message, Ping) and node not in self.silent:
            asyncio.get_running_loop().call_soon(self.heard, node, Ack(message.sequence, ()))

    def measure(self, node: str, took: Callable[[float], None]) -> None:
        asyncio.get_running_loop().call_soon(took, 0.001)

    def of(self, kind: type[Any]) -> list[str]:
        return [node for node, message in self.sent if isinstance(message, kind)]


class Data:
    """The links of data: how late each is, and who was dialled."""

    def __init__(self) -> None:
        self.lags_s: dict[str, float] = {}
        self.dialled: list[str] = []

    def lag_s(self, node: str) -> float:
        return self.lags_s.get(node, 0.0)

    def greeted_by(self, node: str) -> None:
        self.dialled.append(node)


class Rig:
    """One node with peers n2 and n3."""

    def __init__(self, engine: MemoryEngine | None = None) -> None:
        self.engine = engine or MemoryEngine()
        self.committer = Committer(self.engine, sync=True, on_failure=lambda error: None)
        self.carrier, self.data, self.opinions = Carrier(), Data(), Opinions()
        self.ledger = IncarnationLedger(self.engine, self.committer)
        space = SimpleNamespace(info=SimpleNamespace(n=3, r=2, w=2))
        self.promptness = Promptness(("n2", "n3"), timer=asyncio.get_running_loop().time)
        self.detection = FailureDetection(
            "n1",
            ("n2", "n3"),
            timing=QUICK,
            rng=Random(1),
            carrier=self.carrier,
            incarnations=self.ledger,
            opinions=self.opinions,
            promptness=self.promptness,
            data=self.data,
            ring=SimpleNamespace(view=SimpleNamespace(spaces={"default": space})),  # type: ignore[arg-type]
        )

    async def start(self) -> None:
        self.detection.start()
        await until(self.detection.describe)

    async def close(self) -> None:
        self.detection.check()
        self.detection.stop()
        await self.committer.close()

    def state(self, node: str) -> str:
        return next(one.state for one in self.detection.describe() if one.id == node)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.start()
    yield rig
    await rig.close()


async def test_who_answers_stays_alive_and_who_does_not_is_suspected_and_then_called_dead(rig: Rig) -> None:
    rig.carrier.silent = {"n3"}
    await until(lambda: "n3" in rig.opinions.dead)
    assert rig.state("n2") == "alive" and rig.state("n3") == "dead" and rig.opinions.dead == {"n3"}
    assert rig.detection.changes["n3", "suspect"] == rig.detection.changes["n3", "dead"] == 1
    assert "n2" in rig.carrier.of(PingRequest), "somebody else was asked to try"
    rig.carrier.silent = set()
    rig.detection.receive("n3", Gossip((Claim("n3", State.ALIVE, 1, "n3"),)))
    assert rig.opinions.dead == frozenset() and rig.data.dialled == ["n3"]
    assert next(one.flaps for one in rig.detection.describe() if one.id == "n3") == 1


async def test_a_ping_is_answered_at_once_and_to_the_asker(rig: Rig) -> None:
    answers = rig.detection.receive("n2", Ping(7, "n1", ()))
    assert [type(answer) for answer in answers] == [Ack] and answers[0].sequence == 7  # type: ignore[union-attr]
    assert rig.detection.receive("stranger", Ping(7, "n1", ())) == []


async def test_a_link_that_breaks_has_its_peer_asked_next(rig: Rig) -> None:
    await until(lambda: len(rig.carrier.of(Ping)) >= 2)
    for node in ("n3", "n2"):
        before = len(rig.carrier.of(Ping))
        rig.detection.link_broke(node)
        await until(lambda before=before: len(rig.carrier.of(Ping)) > before)  # type: ignore[misc]
        assert rig.carrier.of(Ping)[before] == node


async def test_what_lies_in_the_inbox_is_heard_before_a_late_tick_judges() -> None:
    """1. A probe is out, and its answer is there. 2. The loop stands still beyond the probe's end; the timer is due first.
    3. The answer is handed in some turns later: it counts."""
    rig = Rig()
    await rig.start()
    carrier = rig.carrier
    carrier.silent = {"n2", "n3"}
    await until(lambda: carrier.of(Ping))
    target, ping = next((node, message) for node, message in carrier.sent if isinstance(message, Ping))
    loop = asyncio.get_running_loop()

    def later(turns: int) -> None:
        if turns:
            loop.call_soon(later, turns - 1)
        else:
            carrier.heard(target, Ack(ping.sequence, ()))

    end_s = loop.time() + 3 * QUICK.probe_interval_ms / 1000
    while loop.time() < end_s:
        pass
    loop.call_soon(later, detection.DRAIN_TURNS // 2)
    await until(lambda: len(carrier.of(Ping)) > 1)
    assert rig.detection.changes[target, "suspect"] == 0
    await rig.close()


async def test_incarnations_are_durable_before_they_are_used_and_no_life_uses_those_of_another() -> None:
    engine = MemoryEngine()
    seen: list[int] = []
    for _ in range(3):
        rig = Rig(engine)
        await rig.start()
        first = rig.detection.incarnation
        assert all(first > other for other in seen)
        rig.detection.receive("n2", Gossip((Claim("n1", State.DEAD, first + LEASE - 1, "n2"),)))
        await until(lambda rig=rig, first=first: rig.detection.incarnation > first)  # type: ignore[misc]
        assert rig.detection.incarnation == first + LEASE, "it was refuted once the next lease was durable"
        seen += [first, rig.detection.incarnation]
        await rig.close()
        row = engine.get(INCARNATION_KEY)
        assert row is not None and int.from_bytes(row, "big") > seen[-1]


async def test_a_node_without_its_memory_is_told_what_it_was_and_refutes_it(rig: Rig) -> None:
    assert rig.detection.incarnation == 0
    rig.detection.receive("n2", Gossip((Claim("n1", State.DEAD, 123_456, "n3"),)))
    await until(lambda: rig.detection.incarnation == 123_457)


async def test_a_peer_that_is_far_slower_than_the_others_is_marked_and_quick_again_after_a_while(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    feeding = True

    async def feed() -> None:
        while True:
            for node, took_s in (("n2", 0.001), ("n3", 0.2)):
                if feeding or node == "n2":
                    rig.promptness.record(node, took_s, loop.time())
            await asyncio.sleep(0.005)

    task = loop.create_task(feed())
    await until(lambda: rig.opinions.slow == {"n3"})
    assert rig.state("n3") == "slow" and rig.state("n2") == "alive"
    feeding = False  # from here on it is only asked, and answers quickly
    await until(lambda: rig.opinions.slow == frozenset())
    task.cancel()


async def test_an_answer_that_is_still_out_makes_slow_as_well(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    rig.data.lags_s = {"n3": 0.3}
    for _ in range(2000):
        rig.promptness.record("n2", 0.001, loop.time())
        if rig.opinions.slow:
            break
        await asyncio.sleep(0.002)
    assert rig.opinions.slow == {"n3"}


async def test_a_peer_that_works_is_not_slow_beside_one_that_is_only_pinged(rig: Rig) -> None:
    """n3 reads and commits, 20 ms a batch; n2 is idle and answers pings in no time."""
    judge = Promptness(("n2", "n3"), timer=lambda: now_s)
    now_s = 0.0
    for _ in range(300):
        now_s += 0.01
        judge.record("n3", 0.020, now_s)
        judge.record_ping("n2", 0.1)
        assert judge._judge.decide(now_s * 1000, 1) == []
