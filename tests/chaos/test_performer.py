"""A performer sends what an operation says, in the context that it names, and the history knows what the store was told."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

from kvchaos.history import Recorder, calls_of
from kvchaos.operations import Operation, encode_counter, encode_set, merge_counters, merge_sets, name_of
from kvchaos.performer import Performer
from kvproto.columns import Receipt
from kvproto.errors import DeadlineExceeded, KvError, QuorumUnreachable
from tests.chaos.scribe import dot, token


@dataclass
class Answer:
    values: list[bytes] = field(default_factory=list)
    context: bytes = b""
    version: str = ""
    receipt: Receipt = field(default_factory=lambda: Receipt(needed=2, acknowledged=("n1", "n2"), ring_epoch=1, coordinator="n1"))


class Script:
    """Answers in the order given, and keeps what it was asked."""

    def __init__(self, *answers: Answer | KvError) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def get(self, key: str, **how: Any) -> Answer:
        return self._answer({"f": "get", "key": key, **how})

    async def put(self, key: str, value: bytes, **how: Any) -> Answer:
        return self._answer({"f": "put", "key": key, "value": value, **how})

    async def delete(self, key: str, **how: Any) -> Answer:
        return self._answer({"f": "delete", "key": key, **how})

    async def touch(self, key: str, ttl_s: float, **how: Any) -> Answer:
        return self._answer({"f": "touch", "key": key, "ttl_s": ttl_s, **how})

    def _answer(self, asked: dict[str, Any]) -> Answer:
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, KvError):
            raise answer
        return answer


def found(*names: str, context: str = token({1: 1})) -> Answer:
    return Answer([name.encode() for name in names], bytes.fromhex(context))


def done(counter: int, context: str = token({1: 1})) -> Answer:
    return Answer(context=bytes.fromhex(context), version=dot(counter))


async def perform(store: Script, *operations: tuple[str, str, str], level: str = "preset") -> Recorder:
    clock = iter(range(10_000))
    recorder = Recorder(lambda: next(clock))
    performer = Performer(store, recorder, 0, numbers=10, past=defaultdict(list), timeout_ms=500)
    for f, name, context in operations:
        await performer.perform(Operation(0, 0, f, "k", name, context, level))
    assert not store.answers
    return recorder


async def test_a_put_without_context_overwrites_and_means_what_its_client_was_acknowledged() -> None:
    store = Script(done(1), done(2))
    calls = calls_of((await perform(store, ("put", "w1", "none"), ("put", "w2", "none"))).history.events)
    assert [asked["context"] for asked in store.asked] == [None, None]
    assert [call.overwrites for call in calls] == [True, True]
    assert calls[1].fact("meant") == ["w1"]
    assert calls[1].fact("version") == dot(2)


async def test_a_context_that_was_read_is_passed_on_with_what_it_showed() -> None:
    store = Script(found("a", "b"), done(1), done(2))
    calls = calls_of((await perform(store, ("get", "w0", ""), ("put", "w1", "read"), ("delete", "w2", "read"))).history.events)
    assert [asked["context"] for asked in store.asked[1:]] == [bytes.fromhex(token({1: 1}))] * 2
    assert [(call.f, sorted(call.knew), call.overwrites) for call in calls[1:]] == [
        ("write", ["a", "b"], False),
        ("delete", ["a", "b"], False),
    ]
    assert calls[0].siblings == ("a", "b")


@pytest.mark.parametrize(("context", "fact"), [(token({1: 1}), {"knew": ["w1"]}), (token({1: 0}, [dot(1)]), {"meant": ["w1"]})])
async def test_what_a_put_returned_is_known_for_certain_only_where_it_names_no_single_dots(
    context: str, fact: dict[str, list[str]]
) -> None:
    store = Script(done(1, context), done(2))
    calls = calls_of((await perform(store, ("put", "w1", "empty"), ("put", "w2", "own"))).history.events)
    assert store.asked[0]["context"] == b""
    assert store.asked[1]["context"] == bytes.fromhex(context)
    assert {name: calls[1].invoke.facts[name] for name in ("knew", "meant") if name in calls[1].invoke.facts} == fact


async def test_contexts_that_are_not_there_yet_say_nothing() -> None:
    store = Script(done(1), done(2))
    recorder = await perform(store, ("put", "w1", "read"), ("delete", "w2", "empty"))
    assert [asked["context"] for asked in store.asked] == [b"", b""]
    assert [sorted(call.knew) for call in calls_of(recorder.history.events)] == [[], []]


async def test_an_addition_merges_every_sibling_that_was_read() -> None:
    store = Script(found("w1 a,b", "w2 c"), done(3))
    calls = calls_of((await perform(store, ("add", "w3", ""))).history.events)
    assert store.asked[1]["value"] == encode_set("w3", ["a", "b", "c", "w3"])
    assert (calls[1].f, sorted(calls[1].knew), calls[1].invoke.value) == ("add", ["w1", "w2"], ["a", "b", "c", "w3"])
    assert calls[0].end is not None and calls[0].end.value == ["a", "b", "c"]


async def test_an_increment_goes_on_from_its_own_last_attempt_also_where_an_older_value_is_read() -> None:
    store = Script(found("w1 p0=1,p1=7"), DeadlineExceeded("?", may_have_applied=True), found("w1 p0=1,p1=7"), done(2))
    calls = calls_of((await perform(store, ("increment", "w2", ""), ("increment", "w3", ""))).history.events)
    assert [asked["value"] for asked in store.asked if asked["f"] == "put"] == [
        encode_counter("w2", {"p0": 2, "p1": 7}),
        encode_counter("w3", {"p0": 3, "p1": 7}),
    ]
    assert [call.invoke.value for call in calls if call.f == "increment"] == [["p0", 2], ["p0", 3]]


async def test_a_read_that_fails_writes_nothing() -> None:
    store = Script(QuorumUnreachable("no"))
    calls = calls_of((await perform(store, ("add", "w1", ""))).history.events)
    assert [(call.f, call.end.type if call.end else "") for call in calls] == [("read", "fail")]


async def test_a_refused_write_failed_and_one_of_unknown_outcome_ends_its_process() -> None:
    store = Script(QuorumUnreachable("no"), DeadlineExceeded("?", may_have_applied=True), done(3))
    recorder = await perform(store, ("put", "w1", "none"), ("put", "w2", "none"), ("put", "w3", "none"))
    ends = [(event.process, event.type) for event in recorder.history.events if event.type != "invoke"]
    assert ends == [(0, "fail"), (0, "info"), (10, "ok")]


@pytest.mark.parametrize(("level", "asked"), [("preset", (None, 0)), ("all", ("all", 0)), ("2", (None, 2))])
async def test_levels_and_numbers_are_asked_for(level: str, asked: tuple[str | None, int]) -> None:
    store = Script(found(), done(1))
    await perform(store, ("get", "w1", ""), ("put", "w2", "none"), level=level)
    assert [(one["level"], one.get("r", one.get("w"))) for one in store.asked] == [asked, asked]
    assert {one["timeout_s"] for one in store.asked} == {0.5}


def test_values_give_back_what_was_put_in() -> None:
    assert name_of(b"w7") == name_of(b"w7 a,b") == "w7"
    assert name_of(b"\xff\xfe") != ""
    assert merge_sets([encode_set("w1", ["a"]), encode_set("w2", ["b", "a"])]) == {"a", "b"}
    assert merge_counters([encode_counter("w1", {"p": 2}), encode_counter("w2", {"p": 1, "q": 5})]) == {"p": 2, "q": 5}
