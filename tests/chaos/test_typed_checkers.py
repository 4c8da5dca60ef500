"""The checkers of counters, sets and lww accuse what breaks their promises, and nothing else."""

from __future__ import annotations

from typing import Any

from kvchaos.checkers.judge import judge
from kvchaos.history import Recorder


class Script:
    """A history written by hand, a millisecond a call."""

    def __init__(self, **header: Any) -> None:
        self._now_ns = 0
        self._process = 0
        self.recorder = Recorder(self._tick, {"promises": ["counted", "elements", "latest"], **header})

    def _tick(self) -> int:
        self._now_ns += 1_000_000
        return self._now_ns

    def call(self, f: str, value: Any, outcome: str = "ok", *, result: Any = None, **facts: Any) -> None:
        self._process += 1
        self.recorder.note(self._process, "invoke", f, key="k", value=value, **facts)
        self.recorder.note(self._process, outcome, f, key="k", value=value if result is None else result)

    def rest(self, held: Any) -> list[str]:
        self.call("view", None, result={"n": held, "s": []} if isinstance(held, int) else {"n": 0, "s": held}, final=True)
        return [found.text for found in judge(self.recorder.history)]


def test_a_counter_holds_what_was_acknowledged_and_at_most_what_is_unknown_besides() -> None:
    for held, is_right in ((4, False), (5, True), (6, False), (8, True), (9, False)):
        script = Script()
        script.call("count", 2)
        script.call("count", 3)
        script.call("count", 7, "fail")
        if held == 8:
            script.call("count", 3, "info")
        assert (not script.rest(held)) is is_right, held


def test_an_element_that_was_added_after_every_removal_is_in_the_set() -> None:
    script = Script()
    script.call("take", "e")
    script.call("insert", "e")
    assert script.rest([]) == ["e was added after every removal, and is not in the set"]


def test_a_removal_of_unknown_outcome_may_take_what_is_added_later() -> None:
    script = Script()
    script.call("take", "e", "info")
    script.call("insert", "e")
    assert script.rest([]) == []


def test_an_element_that_nobody_added_is_invented() -> None:
    script = Script()
    script.call("insert", "e", "fail")
    assert script.rest(["e"]) == ["e was never added"]


def test_where_nothing_went_wrong_a_removed_element_is_gone() -> None:
    for calm, said in ((True, ["e was removed after every addition, and is in the set"]), (False, [])):
        script = Script(calm=calm)
        script.call("insert", "e")
        script.call("take", "e")
        assert script.rest(["e"]) == said


def test_a_value_of_lww_that_was_written_over_does_not_come_back() -> None:
    recorder = Recorder(lambda: 1, {"promises": ["latest"], "policy": "lww"})
    recorder.note("disks", "info", "watch")
    actor = "00" * 11 + "01"
    for number, base in ((1, []), (2, [actor + f"{1:016x}"])):
        recorder.note(number, "invoke", "write", key="k", value=f"w{number}", write=f"w{number}", overwrites=True)
        recorder.note(number, "ok", "write", key="k", value=f"w{number}", version=actor + f"{number:016x}")
        value = {"write": f"w{number}", "version": actor + f"{number:016x}", "request": "", "base": base}
        recorder.note("disks", "info", "execute", key="k", value=value, node="n1")
    recorder.note(3, "invoke", "read", key="k", final=True)
    recorder.note(3, "ok", "read", key="k", value="w1", siblings=["w1"], context="01000100")
    assert [found.text for found in judge(recorder.history)] == ["w1 is there, though n1 wrote w2 over it"]
